using Qian.Inference.Chat.Jinja;

namespace Qian.Inference.Chat.Output;

internal enum TagMatch : byte
{
    No,

    // The text ends before it is decided.
    Partial,
    Yes,
}

// A tag that carries a name: <function=NAME>, <function name="NAME">, and the same for parameter and invoke.
internal readonly record struct NamedTag(string Name, int End, bool IsTemplateForm);

// Looks for tags at places of a text that may still grow. Everything here is a function of the text alone, and a decision other than
// Partial never changes when more text comes: that is what makes the parser's result independent of how its input is split.
internal static class OutputTags
{
    private const int MaxNameLength = 200;

    public static TagMatch Match(ReadOnlySpan<char> text, int at, string tag)
    {
        ReadOnlySpan<char> rest = text[at..];
        return rest.StartsWith(tag, StringComparison.Ordinal) ? TagMatch.Yes
            : tag.AsSpan().StartsWith(rest, StringComparison.Ordinal) ? TagMatch.Partial
            : TagMatch.No;
    }

    public static int SkipSpace(ReadOnlySpan<char> text, int at)
    {
        while (at < text.Length && PythonText.IsSpace(text[at]))
        {
            at++;
        }

        return at;
    }

    // Whether one of the tags follows after white space. The end of a finished text counts as one where endsToo is set, and so does a
    // tag that the end cut off.
    public static TagMatch Follows(ReadOnlySpan<char> text, int at, bool isEnd, bool endsToo, ReadOnlySpan<string> tags)
    {
        at = SkipSpace(text, at);
        if (at == text.Length)
        {
            return !isEnd ? TagMatch.Partial : endsToo ? TagMatch.Yes : TagMatch.No;
        }

        TagMatch best = TagMatch.No;
        foreach (string tag in tags)
        {
            TagMatch match = Match(text, at, tag);
            if (match == TagMatch.Yes)
            {
                return match;
            }

            best = match == TagMatch.Partial ? match : best;
        }

        return best == TagMatch.Partial && isEnd ? TagMatch.Yes : best;
    }

    // element: "function", "parameter" or "invoke".
    public static TagMatch ReadNamed(ReadOnlySpan<char> text, int at, string element, out NamedTag tag)
    {
        tag = default;
        TagMatch opening = Match(text, at, "<" + element);
        if (opening != TagMatch.Yes)
        {
            return opening;
        }

        int start = at + 1 + element.Length;
        if (start == text.Length)
        {
            return TagMatch.Partial;
        }

        if (text[start] != '=' && text[start] != ' ')
        {
            return TagMatch.No;
        }

        ReadOnlySpan<char> rest = text[start..];
        int stop = rest.IndexOfAny('>', '<', '\n');
        if (stop > MaxNameLength || (stop < 0 && rest.Length > MaxNameLength))
        {
            return TagMatch.No;
        }

        if (stop < 0)
        {
            return TagMatch.Partial;
        }

        if (rest[stop] != '>')
        {
            return TagMatch.No;
        }

        ReadOnlySpan<char> name = rest[..stop].Trim();
        bool isTemplateForm = name.StartsWith('=');
        if (!isTemplateForm)
        {
            if (!name.StartsWith("name", StringComparison.Ordinal))
            {
                return TagMatch.No;
            }

            name = name[4..].TrimStart();
            if (!name.StartsWith('='))
            {
                return TagMatch.No;
            }
        }

        name = name[1..].Trim();
        if (name.Length >= 2 && name[0] is '"' or '\'' && name[^1] == name[0])
        {
            isTemplateForm = false;
            name = name[1..^1].Trim();
        }

        if (name.IsEmpty)
        {
            return TagMatch.No;
        }

        tag = new NamedTag(name.ToString(), start + stop + 1, isTemplateForm);
        return TagMatch.Yes;
    }
}
