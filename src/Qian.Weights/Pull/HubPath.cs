using System.Globalization;

namespace Qian.Weights;

// What a hub may call a file, a branch or a folder. These strings come from strangers and become paths, addresses and lines on
// a terminal: relative, without "..", backslashes, control or direction-changing characters, and of bounded length.
internal static class HubPath
{
    private const int LongestPath = 512;
    private const int LongestSegment = 200;

    // What is wrong with a path, or null.
    public static string? Fault(string path)
    {
        if (path.Length is 0 or > LongestPath)
            return $"expected 1 to {LongestPath} characters, found {path.Length}";
        foreach (char c in path)
        {
            if (c is '\\' || (OperatingSystem.IsWindows() && c is ':' or '*' or '?' or '"' or '<' or '>' or '|'))
                return $"the character '{c}' is not allowed";
            if (char.IsControl(c) || char.IsSurrogate(c) || char.GetUnicodeCategory(c) is UnicodeCategory.Format or UnicodeCategory.LineSeparator or UnicodeCategory.ParagraphSeparator)
                return $"the character U+{(int)c:X4} is not allowed";
        }

        foreach (string segment in path.Split('/'))
        {
            if (segment.Length is 0 or > LongestSegment)
                return "expected names of 1 to 200 characters between slashes";
            if (segment is "." or ".." || (OperatingSystem.IsWindows() && (segment[^1] is '.' or ' ')))
                return "a path must not leave its folder";
        }

        return null;
    }

    // Text of a stranger, safe to print: at most so many characters, nothing that moves a cursor.
    public static string Shown(string text, int longest = 200)
    {
        Span<char> shown = stackalloc char[Math.Min(text.Length, Math.Min(longest, 1000))];
        for (int i = 0; i < shown.Length; i++)
            shown[i] = char.IsControl(text[i]) || char.IsSurrogate(text[i]) || char.GetUnicodeCategory(text[i]) == UnicodeCategory.Format ? '?' : text[i];
        return text.Length > shown.Length ? string.Concat(shown, "…") : shown.ToString();
    }

    public static string Escaped(string path) => string.Join('/', path.Split('/').Select(Uri.EscapeDataString));

    public static bool IsHex(string? text, int length)
    {
        if (text is null || text.Length != length)
            return false;
        foreach (char c in text)
        {
            if (c is not ((>= '0' and <= '9') or (>= 'a' and <= 'f')))
                return false;
        }

        return true;
    }
}
