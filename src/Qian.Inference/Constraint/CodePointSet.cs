using System.Collections.Concurrent;
using System.Globalization;
using System.Text;

namespace Qian.Inference.Constraint;

// A set of Unicode scalar values as sorted ranges that do not touch. Immutable. Halves of surrogate pairs are in no set: no text holds them.
internal sealed class CodePointSet
{
    public const int Last = 0x10FFFF;

    private const int FirstSurrogate = 0xD800, LastSurrogate = 0xDFFF;

    private static readonly ConcurrentDictionary<string, CodePointSet?> s_categories = new();

    private readonly (int Low, int High)[] _ranges;

    private CodePointSet((int Low, int High)[] ranges) => _ranges = ranges;

    public static CodePointSet Any { get; } = Of((0, Last));

    public static CodePointSet None { get; } = new([]);

    public IReadOnlyList<(int Low, int High)> Ranges => _ranges;

    public bool IsEmpty => _ranges.Length == 0;

    public int Count => _ranges.Sum(range => range.High - range.Low + 1);

    public static CodePointSet Of(params IEnumerable<(int Low, int High)> ranges)
    {
        var sorted = new List<(int Low, int High)>();
        foreach ((int low, int high) in ranges)
        {
            if (low < FirstSurrogate)
                sorted.Add((low, Math.Min(high, FirstSurrogate - 1)));
            if (high > LastSurrogate)
                sorted.Add((Math.Max(low, LastSurrogate + 1), high));
        }

        sorted.Sort();
        var merged = new List<(int Low, int High)>();
        foreach ((int low, int high) in sorted)
        {
            if (merged.Count > 0 && low <= merged[^1].High + 1)
                merged[^1] = (merged[^1].Low, Math.Max(merged[^1].High, high));
            else
                merged.Add((low, high));
        }

        return new CodePointSet([.. merged]);
    }

    public static CodePointSet Of(string characters) => Of(characters.EnumerateRunes().Select(rune => (rune.Value, rune.Value)));

    // A general category (Lu) or a group of them (L); null when there is none of that name.
    public static CodePointSet? Category(string name) => name.Length is 0 or > 2 ? null : s_categories.GetOrAdd(name, FindCategory);

    public CodePointSet Union(CodePointSet other) => Of(_ranges.Concat(other._ranges));

    public CodePointSet Negate()
    {
        var gaps = new List<(int, int)>();
        int next = 0;
        foreach ((int low, int high) in _ranges)
        {
            if (low > next)
                gaps.Add((next, low - 1));
            next = high + 1;
        }

        if (next <= Last)
            gaps.Add((next, Last));
        return Of(gaps);
    }

    public CodePointSet Intersect(CodePointSet other) => Negate().Union(other.Negate()).Negate();

    public CodePointSet Except(CodePointSet other) => Intersect(other.Negate());

    public bool Contains(int value)
    {
        foreach ((int low, int high) in _ranges)
        {
            if (value <= high)
                return value >= low;
        }

        return false;
    }

    private static CodePointSet? FindCategory(string name)
    {
        var ranges = new List<(int, int)>();
        int start = -1;
        for (int value = 0; value <= Last + 1; value++)
        {
            bool isIn = value <= Last && value is < FirstSurrogate or > LastSurrogate && ShortName(CharUnicodeInfo.GetUnicodeCategory(value)).StartsWith(name, StringComparison.Ordinal);
            if (isIn && start < 0)
                start = value;
            if (!isIn && start >= 0)
            {
                ranges.Add((start, value - 1));
                start = -1;
            }
        }

        return ranges.Count == 0 ? null : Of(ranges);
    }

    private static string ShortName(UnicodeCategory category) => category switch
    {
        UnicodeCategory.UppercaseLetter => "Lu",
        UnicodeCategory.LowercaseLetter => "Ll",
        UnicodeCategory.TitlecaseLetter => "Lt",
        UnicodeCategory.ModifierLetter => "Lm",
        UnicodeCategory.OtherLetter => "Lo",
        UnicodeCategory.NonSpacingMark => "Mn",
        UnicodeCategory.SpacingCombiningMark => "Mc",
        UnicodeCategory.EnclosingMark => "Me",
        UnicodeCategory.DecimalDigitNumber => "Nd",
        UnicodeCategory.LetterNumber => "Nl",
        UnicodeCategory.OtherNumber => "No",
        UnicodeCategory.SpaceSeparator => "Zs",
        UnicodeCategory.LineSeparator => "Zl",
        UnicodeCategory.ParagraphSeparator => "Zp",
        UnicodeCategory.Control => "Cc",
        UnicodeCategory.Format => "Cf",
        UnicodeCategory.PrivateUse => "Co",
        UnicodeCategory.ConnectorPunctuation => "Pc",
        UnicodeCategory.DashPunctuation => "Pd",
        UnicodeCategory.OpenPunctuation => "Ps",
        UnicodeCategory.ClosePunctuation => "Pe",
        UnicodeCategory.InitialQuotePunctuation => "Pi",
        UnicodeCategory.FinalQuotePunctuation => "Pf",
        UnicodeCategory.OtherPunctuation => "Po",
        UnicodeCategory.MathSymbol => "Sm",
        UnicodeCategory.CurrencySymbol => "Sc",
        UnicodeCategory.ModifierSymbol => "Sk",
        UnicodeCategory.OtherSymbol => "So",
        _ => "Cn",
    };
}
