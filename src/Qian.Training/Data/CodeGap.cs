namespace Qian.Training;

// Chooses which part of a source text is missing. In equal shares: a few whole lines; a block, which is a line and what is indented deeper
// below it; the rest of a line from somewhere inside; any stretch of characters. No gap splits a character.
internal static class CodeGap
{
    private const int MostLines = 10;
    private const int LongestStretch = 400;

    // The gap is not empty. The text has at least two characters.
    public static (int Start, int End) Choose(string text, ref Draws random)
    {
        (int start, int end) = random.Below(4) switch
        {
            0 => Lines(text, ref random),
            1 => Block(text, ref random),
            2 => RestOfLine(text, ref random),
            _ => Stretch(text, ref random),
        };
        start -= SplitsCharacter(text, start) ? 1 : 0;
        end += SplitsCharacter(text, end) ? 1 : 0;
        return (start, Math.Max(end, start + 1));
    }

    private static (int Start, int End) Lines(string text, ref Draws random)
    {
        int start = LineStart(text, random.Below(text.Length));
        int end = start;
        for (int count = 1 + random.Below(MostLines); count > 0 && end < text.Length; count--)
            end = NextLine(text, end);
        return (start, end);
    }

    // From below the chosen line on, so that the signature is given and the body is asked for.
    private static (int Start, int End) Block(string text, ref Draws random)
    {
        int head = LineStart(text, random.Below(text.Length));
        int start = NextLine(text, head);
        int end = start;
        while (end < text.Length && end - start < 2 * LongestStretch && Indent(text, end) is int indent && (indent < 0 || indent > Indent(text, head)))
            end = NextLine(text, end);
        return end > start ? (start, end) : (head, start);
    }

    private static (int Start, int End) RestOfLine(string text, ref Draws random)
    {
        int start = random.Below(text.Length);
        int feed = text.IndexOf('\n', start);
        return (start, feed < 0 ? text.Length : feed);
    }

    private static (int Start, int End) Stretch(string text, ref Draws random)
    {
        int start = random.Below(text.Length);
        return (start, start + 1 + random.Below(Math.Min(LongestStretch, text.Length - start)));
    }

    private static int LineStart(string text, int index) => index == 0 ? 0 : text.LastIndexOf('\n', index - 1) + 1;

    private static int NextLine(string text, int index)
    {
        int feed = text.IndexOf('\n', index);
        return feed < 0 ? text.Length : feed + 1;
    }

    // Columns of white space before the line's text; -1 for a blank line.
    private static int Indent(string text, int lineStart)
    {
        int index = lineStart;
        while (index < text.Length && (text[index] is ' ' or '\t'))
            index++;
        return index == text.Length || text[index] is '\r' or '\n' ? -1 : index - lineStart;
    }

    private static bool SplitsCharacter(string text, int index) =>
        index > 0 && index < text.Length && (char.IsSurrogatePair(text[index - 1], text[index]) || (text[index - 1] == '\r' && text[index] == '\n'));
}
