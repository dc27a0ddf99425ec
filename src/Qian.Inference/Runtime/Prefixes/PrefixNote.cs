using System.Text.RegularExpressions;
using Qian.Inference.Text;

namespace Qian.Inference.Runtime;

// Says in words where a prompt left what is known: the text around the place, and the line's name when it is one that changes from
// request to request, which makes everything behind it be read again each time.
internal static partial class PrefixNote
{
    private const int CharactersBefore = 60;
    private const int CharactersAfter = 40;
    private const int LongestName = 60;

    public static PrefixUse Of(PrefixMatch match, int cachedCount, Tokenizer? tokenizer)
    {
        if (tokenizer is null || match.Reason != PrefixMissReason.Diverged)
            return new PrefixUse(cachedCount, match.Reason, match.MatchedCount);
        string before = tokenizer.Decode(match.Before), now = tokenizer.Decode(match.Now), known = tokenizer.Decode(match.Known);
        string around = Last(before, CharactersBefore) + "⟨" + First(now, CharactersAfter) + "⟩ was ⟨" + First(known, CharactersAfter) + "⟩";
        return new PrefixUse(cachedCount, match.Reason, match.MatchedCount, OneLine(around), VolatileLine(LastLine(before), now, known));
    }

    // The name of the line that both texts have at this place with other contents, if it is of the kind that changes by itself.
    private static string? VolatileLine(string beginning, string now, string known)
    {
        string nowLine = beginning + FirstLine(now), knownLine = beginning + FirstLine(known);
        if (nowLine.Contains("x-anthropic-billing-header", StringComparison.OrdinalIgnoreCase))
            return "x-anthropic-billing-header";
        if (!Changing().IsMatch(nowLine) || !Changing().IsMatch(knownLine))
            return null;
        int colon = nowLine.IndexOf(':', StringComparison.Ordinal);
        string name = colon > 0 && colon <= beginning.Length ? nowLine[..colon] : beginning.Length > 0 ? beginning : nowLine;
        return First(name.Trim(), LongestName);
    }

    private static string FirstLine(string text) => text.IndexOf('\n') is >= 0 and var end ? text[..end] : text;

    private static string LastLine(string text) => text[(text.LastIndexOf('\n') + 1)..];

    private static string First(string text, int count) => text.Length <= count ? text : text[..count];

    private static string Last(string text, int count) => text.Length <= count ? text : text[^count..];

    private static string OneLine(string text) => text.ReplaceLineEndings("\\n");

    // Dates, times of day, identifiers drawn at random, and lines that call themselves one.
    [GeneratedRegex(@"\d{4}-\d{1,2}-\d{1,2}|\d{1,2}[/.]\d{1,2}[/.]\d{2,4}|\b\d{1,2}:\d{2}\b|\b(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*\b|[0-9a-f]{8}-[0-9a-f]{4}-|\b(date|time|today|timestamp|nonce|session|request.?id)\b", RegexOptions.IgnoreCase | RegexOptions.CultureInvariant)]
    private static partial Regex Changing();
}
