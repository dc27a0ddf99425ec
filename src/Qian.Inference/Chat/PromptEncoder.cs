using System.Text;
using Qian.Inference.Text;

namespace Qian.Inference.Chat;

// A rendered prompt to token ids. Control tokens are recognised in the template's own text only: what a user, a tool or a
// file spells stays text. Ordinary text is tokenized across the borders of segments, as it would be in one string.
internal static class PromptEncoder
{
    public static List<int> Encode(Tokenizer tokenizer, IReadOnlyList<PromptSegment> segments)
    {
        var ids = new List<int>();
        var ordinary = new StringBuilder();
        foreach (PromptSegment segment in segments)
        {
            ReadOnlySpan<char> text = segment.Text;
            while (segment.IsTemplateText && tokenizer.TryFindAddedToken(text, out int start, out int length, out int id))
            {
                ordinary.Append(text[..start]);
                Flush();
                ids.Add(id);
                text = text[(start + length)..];
            }

            ordinary.Append(text);
        }

        Flush();
        return ids;

        void Flush()
        {
            tokenizer.Encode(ordinary.ToString(), matchAddedTokens: false, ids);
            ordinary.Clear();
        }
    }

    public static string Join(IReadOnlyList<PromptSegment> segments) => string.Concat(segments.Select(segment => segment.Text));

    // What follows the first `length` characters.
    public static List<PromptSegment> After(IReadOnlyList<PromptSegment> segments, int length)
    {
        var rest = new List<PromptSegment>();
        foreach (PromptSegment segment in segments)
        {
            if (length < segment.Text.Length)
                rest.Add(segment with { Text = segment.Text[length..] });
            length = Math.Max(0, length - segment.Text.Length);
        }

        return rest;
    }
}
