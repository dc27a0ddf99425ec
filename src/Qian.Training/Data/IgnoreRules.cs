namespace Qian.Training;

// One .gitignore file. A later rule wins over an earlier one; a rule without an inner slash matches a name at any depth below its
// folder, the others the path from that folder. Matching takes time in proportion to pattern times path at most, whatever the pattern:
// both * within a name and ** between names are matched by keeping only the last star to go back to.
internal sealed class IgnoreRules
{
    public const int LongestFileBytes = 1 << 20;

    private readonly List<Rule> _rules = [];

    public IgnoreRules(string text)
    {
        foreach (ReadOnlySpan<char> line in text.AsSpan().EnumerateLines())
            Add(line);
    }

    // names: the path from the folder of the .gitignore, name by name. Null where no rule says anything.
    public bool? IsIgnored(ReadOnlySpan<string> names, bool isFolder)
    {
        for (int i = _rules.Count - 1; i >= 0; i--)
        {
            Rule rule = _rules[i];
            if ((isFolder || !rule.FoldersOnly) && (rule.IsAnchored ? MatchesPath(rule.Names, names) : MatchesName(rule.Names[0], names[^1])))
                return !rule.IsNegated;
        }

        return null;
    }

    private void Add(ReadOnlySpan<char> line)
    {
        // Spaces at the end count only when escaped.
        while (line.EndsWith(" ") && !line.EndsWith("\\ "))
            line = line[..^1];
        if (line.IsEmpty || line[0] == '#')
            return;
        bool isNegated = line[0] == '!';
        line = isNegated ? line[1..] : line;
        bool foldersOnly = line.EndsWith("/");
        line = foldersOnly ? line[..^1] : line;
        bool isAnchored = line.Contains('/');
        line = line.StartsWith("/") ? line[1..] : line;
        if (!line.IsEmpty)
            _rules.Add(new Rule(line.ToString().Split('/'), isAnchored, isNegated, foldersOnly));
    }

    private static bool MatchesPath(ReadOnlySpan<string> pattern, ReadOnlySpan<string> names)
    {
        int p = 0, n = 0, starP = -1, starN = 0;
        while (n < names.Length)
        {
            if (p < pattern.Length && pattern[p] == "**")
            {
                // At the end it stands for what lies inside, one name at least; elsewhere for any number.
                if (p == pattern.Length - 1)
                    return true;
                (starP, starN) = (p++, n);
            }
            else if (p < pattern.Length && MatchesName(pattern[p], names[n]))
            {
                p++;
                n++;
            }
            else if (starP >= 0)
            {
                p = starP + 1;
                n = ++starN;
            }
            else
            {
                return false;
            }
        }

        return p == pattern.Length;
    }

    private static bool MatchesName(ReadOnlySpan<char> pattern, ReadOnlySpan<char> name)
    {
        int p = 0, n = 0, starP = -1, starN = 0;
        while (n < name.Length)
        {
            if (p < pattern.Length && pattern[p] == '*')
            {
                (starP, starN) = (p++, n);
            }
            else if (p < pattern.Length && MatchesCharacter(pattern, p, name[n]) is int length and > 0)
            {
                p += length;
                n++;
            }
            else if (starP >= 0)
            {
                p = starP + 1;
                n = ++starN;
            }
            else
            {
                return false;
            }
        }

        return pattern[p..].IndexOfAnyExcept('*') < 0;
    }

    // The length of the pattern's part that the character matches, or 0.
    private static int MatchesCharacter(ReadOnlySpan<char> pattern, int p, char c)
    {
        switch (pattern[p])
        {
            case '?':
                return 1;
            case '\\' when p + 1 < pattern.Length:
                return pattern[p + 1] == c ? 2 : 0;
            case '[' when pattern[(p + 1)..].Length > 1 && FindSetEnd(pattern, p) is int end and > 0:
                return SetHolds(pattern[(p + 1)..end], c) ? end + 1 - p : 0;
            default:
                return pattern[p] == c ? 1 : 0;
        }
    }

    // A ] that comes first belongs to the set.
    private static int FindSetEnd(ReadOnlySpan<char> pattern, int start)
    {
        int first = start + 1;
        if (pattern[first] is '!' or '^')
            first++;
        int offset = first + 1 < pattern.Length ? pattern[(first + 1)..].IndexOf(']') : -1;
        return offset < 0 ? -1 : first + 1 + offset;
    }

    private static bool SetHolds(ReadOnlySpan<char> set, char c)
    {
        bool isNegated = set[0] is '!' or '^';
        set = isNegated ? set[1..] : set;
        bool holds = false;
        for (int i = 0; i < set.Length; i++)
        {
            if (i + 2 < set.Length && set[i + 1] == '-')
            {
                holds |= set[i] <= c && c <= set[i + 2];
                i += 2;
            }
            else
            {
                holds |= set[i] == c;
            }
        }

        return holds != isNegated;
    }

    private sealed record Rule(string[] Names, bool IsAnchored, bool IsNegated, bool FoldersOnly);
}
