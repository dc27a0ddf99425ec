namespace Qian.Inference.Chat.Jinja;

// Python counts a string in code points, .NET in UTF-16 units; these convert between the two. Half a surrogate pair counts as one.
internal static class CodePoints
{
    public static int WidthAt(string text, int index) =>
        char.IsHighSurrogate(text[index]) && index + 1 < text.Length && char.IsLowSurrogate(text[index + 1]) ? 2 : 1;

    public static int Count(string text) => Count(text, text.Length);

    // How many code points the first so many units hold.
    public static int Count(string text, int unitCount)
    {
        if (text.AsSpan(0, unitCount).IndexOfAnyInRange('\ud800', '\udbff') < 0)
        {
            return unitCount;
        }

        int count = 0;
        for (int i = 0; i < unitCount; i += WidthAt(text, i))
        {
            count++;
        }

        return count;
    }

    // The unit at which code point number so-and-so starts; the length of the text from the end on.
    public static int IndexOf(string text, int codePointIndex)
    {
        if (text.AsSpan().IndexOfAnyInRange('\ud800', '\udbff') < 0)
        {
            return Math.Min(codePointIndex, text.Length);
        }

        int at = 0;
        for (int i = 0; i < codePointIndex && at < text.Length; i++)
        {
            at += WidthAt(text, at);
        }

        return at;
    }

    // The start of each code point, and the length of the text behind them.
    public static int[] Offsets(string text)
    {
        var offsets = new List<int>(text.Length + 1);
        for (int i = 0; i < text.Length; i += WidthAt(text, i))
        {
            offsets.Add(i);
        }

        offsets.Add(text.Length);
        return [.. offsets];
    }
}
