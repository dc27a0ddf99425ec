namespace Qian.Inference.Chat.Output;

// Finds where JSON ends in a text that still grows, and goes on where it stopped: a large file that a model writes as JSON arrives in
// thousands of pieces. It counts brackets outside strings and knows no more of JSON.
internal sealed class JsonScan
{
    private static readonly string[] s_ends = ["</tool_call>", "<tool_call>", "</function>"];

    private readonly Stack<char> _open = new();
    private bool _isInString;
    private int _at;

    public JsonScan(int start)
    {
        Start = start;
        _at = start;
    }

    public int Start { get; }

    // The end is behind the last bracket, at a call tag outside strings, or the end of a finished text.
    // several: further objects may follow the first. missing: the one bracket to add, or '\0'.
    public TagMatch FindEnd(ReadOnlySpan<char> text, bool isEnd, bool several, out int end, out char missing)
    {
        missing = '\0';
        for (; _at < text.Length; _at++)
        {
            char c = text[_at];
            if (_isInString)
            {
                if (c == '\\' && _at + 1 == text.Length)
                {
                    break;
                }

                _at += c == '\\' ? 1 : 0;
                _isInString = c != '"';
                continue;
            }

            switch (c)
            {
                case '"':
                    _isInString = true;
                    break;
                case '{' or '[':
                    _open.Push(c == '{' ? '}' : ']');
                    break;
                case '<':
                    TagMatch tag = OutputTags.Follows(text, _at, isEnd: false, endsToo: false, s_ends);
                    end = _at;
                    if (tag == TagMatch.Yes)
                    {
                        return Close(out missing);
                    }

                    if (tag == TagMatch.Partial && !isEnd)
                    {
                        return tag;
                    }

                    break;
                case '}' or ']':
                    if (!_open.TryPeek(out char expected) || expected != c)
                    {
                        end = _at;
                        return TagMatch.No;
                    }

                    _open.Pop();

                    TagMatch whole = _open.Count > 0 ? TagMatch.No : IsWhole(text, isEnd, several);
                    if (whole != TagMatch.No)
                    {
                        end = _at + 1;

                        // Undecided, the bracket is read again with what follows.
                        _open.Push(c);
                        return whole;
                    }

                    break;
            }
        }

        end = text.Length;
        return !isEnd ? TagMatch.Partial : _isInString ? TagMatch.No : Close(out missing);
    }

    // Behind the last bracket: No when a further object follows.
    private TagMatch IsWhole(ReadOnlySpan<char> text, bool isEnd, bool several)
    {
        int next = OutputTags.SkipSpace(text, _at + 1);
        if (next < text.Length && several && text[next] == ',')
        {
            next = OutputTags.SkipSpace(text, next + 1);
        }

        return next == text.Length ? isEnd ? TagMatch.Yes : TagMatch.Partial
            : several && text[next] is '{' or '[' ? TagMatch.No
            : TagMatch.Yes;
    }

    private TagMatch Close(out char missing)
    {
        missing = _open.Count == 1 ? _open.Peek() : '\0';
        return _open.Count <= 1 ? TagMatch.Yes : TagMatch.No;
    }
}
