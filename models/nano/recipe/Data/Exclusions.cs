using System.Text;

namespace Qian.Nano;

// excluded.txt: what must not be trained on. A function is known by its content (composition, language, types of the parameters),
// whatever its wording; any other request by its words, without order, filler and synonyms.
internal static class Exclusions
{
    private static readonly Dictionary<string, string> s_synonyms = new()
    {
        ["maximum"] = "largest",
        ["max"] = "largest",
        ["greatest"] = "largest",
        ["biggest"] = "largest",
        ["highest"] = "largest",
        ["maximal"] = "largest",
        ["number"] = "element",
        ["value"] = "element",
        ["item"] = "element",
        ["integer"] = "int",
        ["method"] = "function",
        ["csharp"] = "c#",
        ["colour"] = "color",
    };

    private static readonly HashSet<string> s_filler =
    [
        "a", "an", "the", "of", "in", "from", "to", "is", "are", "it", "that", "which", "for", "me", "i", "you", "can", "could", "please", "write", "implement", "create", "give", "show", "define", "make",
        "need", "return", "find", "get", "compute", "calculate", "given", "all", "static", "function", "element", "do", "does", "returning", "finding", "computing", "getting", "giving", "asked", "any", "this", "be", "so", "why", "how", "what", "explain", "come", "tell", "us", "reason",
    ];

    private static readonly (string Words, string Composition, string Language, string Types)[] s_entries = [.. Read()];

    public static bool Excludes(Routine routine) => s_entries.Any(entry => entry.Composition == routine.Key && entry.Types == routine.Shape && entry.Language == routine.Language.ToString().ToLowerInvariant());

    // Whether a request says what an excluded sentence says.
    public static bool Excludes(string request)
    {
        string words = Normalise(request);
        return s_entries.Any(entry => entry.Words == words);
    }

    // The words that carry meaning, singular, each once, in alphabetical order.
    internal static string Normalise(string text)
    {
        var words = new SortedSet<string>(StringComparer.Ordinal);
        var word = new StringBuilder();
        foreach (char c in text + " ")
        {
            if (char.IsLetterOrDigit(c) || c == '#')
            {
                word.Append(char.ToLowerInvariant(c));
            }
            else if (word.Length > 0)
            {
                string one = word.ToString();
                word.Clear();
                one = one.Length > 3 && one[^1] == 's' ? one[..^1] : one;
                one = s_synonyms.GetValueOrDefault(one, one);
                if (!s_filler.Contains(one))
                    words.Add(one);
            }
        }

        return string.Join(' ', words);
    }

    private static IEnumerable<(string Words, string Composition, string Language, string Types)> Read()
    {
        using Stream stream = typeof(Exclusions).Assembly.GetManifestResourceStream("excluded.txt") ?? throw new InvalidOperationException("The resource excluded.txt is missing from this build.");
        using var reader = new StreamReader(stream);
        while (reader.ReadLine() is { } line)
        {
            if (line.Length == 0 || line[0] == '#')
                continue;
            string[] fields = line.Split('|', StringSplitOptions.TrimEntries);
            yield return (Normalise(fields[0]), fields[1], fields[2], fields[3]);
        }
    }
}
