using System.Text;

namespace Qian.Agent;

// A change of a text for people: the lines from the first that differs to the last, with a little around them.
internal static class LineDiff
{
    private const int AroundCount = 2;
    private const int MostLines = 200;

    // Lines that begin with ' ', '-' or '+'; empty when nothing differs.
    public static string Of(string before, string after)
    {
        string[] old = Lines(before), now = Lines(after);
        int shared = Math.Min(old.Length, now.Length);
        int head = 0;
        while (head < shared && old[head] == now[head])
            head++;
        int tail = 0;
        while (tail < shared - head && old[^(tail + 1)] == now[^(tail + 1)])
            tail++;
        if (head == old.Length && head == now.Length)
            return "";
        var text = new StringBuilder();
        Append(text, ' ', old.AsSpan(Math.Max(0, head - AroundCount), Math.Min(head, AroundCount)));
        Append(text, '-', old.AsSpan(head, old.Length - head - tail));
        Append(text, '+', now.AsSpan(head, now.Length - head - tail));
        Append(text, ' ', old.AsSpan(old.Length - tail, Math.Min(tail, AroundCount)));
        return text.ToString().TrimEnd('\n');
    }

    private static string[] Lines(string text) => text.Length == 0 ? [] : (text.EndsWith('\n') ? text[..^1] : text).Split('\n');

    private static void Append(StringBuilder text, char sign, ReadOnlySpan<string> lines)
    {
        foreach (string line in lines[..Math.Min(lines.Length, MostLines)])
            text.Append(sign).Append(line).Append('\n');
        if (lines.Length > MostLines)
            text.Append(sign).Append("… ").Append(lines.Length - MostLines).Append(" more lines\n");
    }
}
