using System.Globalization;
using System.Text.RegularExpressions;

namespace Qian.Weights;

// A model among the GGUF files of a folder: one file, or the parts of a split set in order. Vision projectors and importance
// matrices are GGUF files too, but not models.
internal sealed partial record GgufSet(string Stem, IReadOnlyList<string> Paths, int PartCount)
{
    // A split set is whole when every part from the first to the last is there.
    public bool IsWhole
    {
        get
        {
            if (Paths.Count != PartCount)
                return false;
            for (int i = 0; i < Paths.Count; i++)
            {
                if (SplitEnd().Match(Paths[i]) is { Success: true } match && int.Parse(match.Groups[1].Value, CultureInfo.InvariantCulture) != i + 1)
                    return false;
            }

            return true;
        }
    }

    // The weight type that the name ends in, as people write it after the colon; null where it ends otherwise.
    public string? Type => TypeAtEnd().Match(FileStem) is { Success: true } match ? match.Groups[1].Value : null;

    private string FileStem => Stem[(Stem.LastIndexOf('/') + 1)..];

    public static List<GgufSet> Of(IEnumerable<string> paths)
    {
        var sets = new List<GgufSet>();
        foreach (var group in paths.Where(IsModel).GroupBy(KeyOf).OrderBy(group => group.Key.Stem, StringComparer.Ordinal))
        {
            sets.Add(new GgufSet(group.Key.Stem, [.. group.Order(StringComparer.Ordinal)], group.Key.PartCount));
        }

        return sets;
    }

    // True where the name has the type as a word of its own, in any case: Q4_K is not in Q4_K_M.
    public bool Carries(string type)
    {
        string name = FileStem;
        for (int at = name.IndexOf(type, StringComparison.OrdinalIgnoreCase); at >= 0; at = name.IndexOf(type, at + 1, StringComparison.OrdinalIgnoreCase))
        {
            int end = at + type.Length;
            if ((at == 0 || name[at - 1] is '-' or '.') && (end == name.Length || name[end] is '-' or '.'))
                return true;
        }

        return false;
    }

    // The one that `type` means: its type, a word of its name, or its whole file name.
    public static List<GgufSet> Matching(IReadOnlyList<GgufSet> sets, string type)
    {
        List<GgufSet> exact = [.. sets.Where(set => set.Paths.Contains(type, StringComparer.OrdinalIgnoreCase) || string.Equals(set.Type, type, StringComparison.OrdinalIgnoreCase))];
        return exact.Count > 0 ? exact : [.. sets.Where(set => set.Carries(type))];
    }

    // What to write after the colon for this one of them: its type where only it has it, else its file name.
    public static string Label(GgufSet set, IReadOnlyList<GgufSet> sets) =>
        set.Type is { } type && sets.Count(other => string.Equals(other.Type, type, StringComparison.OrdinalIgnoreCase)) == 1 ? type : set.Paths[0];

    private static bool IsModel(string path)
    {
        string name = path[(path.LastIndexOf('/') + 1)..];
        return name.EndsWith(".gguf", StringComparison.OrdinalIgnoreCase)
            && !name.StartsWith("mmproj", StringComparison.OrdinalIgnoreCase)
            && !name.Contains("imatrix", StringComparison.OrdinalIgnoreCase);
    }

    // Parts of sets of different lengths are different sets.
    private static (string Stem, int PartCount) KeyOf(string path) => SplitEnd().Match(path) is { Success: true } match
        ? (path[..match.Index], int.Parse(match.Groups[2].Value, CultureInfo.InvariantCulture))
        : (path[..^".gguf".Length], 1);

    [GeneratedRegex(@"-([0-9]{5})-of-([0-9]{5})\.gguf$", RegexOptions.IgnoreCase)]
    private static partial Regex SplitEnd();

    [GeneratedRegex(@"(?:^|[-.])((?:UD-)?(?:I?Q[0-9]\w*|BF16|F16|F32|TQ[0-9]_[0-9]|MXFP4\w*|NVFP4))$", RegexOptions.IgnoreCase)]
    private static partial Regex TypeAtEnd();
}
