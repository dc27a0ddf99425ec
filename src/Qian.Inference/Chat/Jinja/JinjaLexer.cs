namespace Qian.Inference.Chat.Jinja;

internal enum JinjaTokenKind : byte
{
    Data,
    BlockBegin,
    BlockEnd,
    PrintBegin,
    PrintEnd,
    Name,
    Text,
    Integer,
    Float,
    Operator,
    End,
}

internal readonly record struct JinjaToken(JinjaTokenKind Kind, string Text, int Line);

// Cuts a template into tokens, and does all white-space control on the way: trim_blocks and lstrip_blocks are on and the last line
// feed is dropped, as transformers sets jinja2 up. It knows tags, strings, numbers and operators, but no
// grammar. Numbers and strings are in the other part.
internal sealed partial class JinjaLexer
{
    // Published templates are below 20,000 characters.
    private const int MaxSourceLength = 1 << 20;

    private static readonly string[] s_operators =
        ["//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}", ">", "<", "=", ".", ":", "|", ",", ";"];

    private readonly string _source;
    private readonly List<JinjaToken> _tokens = [];
    private int _at;
    private int _line = 1;
    private int _lineCountedTo;

    // Whether the last tag ended its line, so that white space before the next tag is indentation.
    private bool _isLineStart = true;

    private JinjaLexer(string source)
    {
        _source = source;
    }

    public static List<JinjaToken> Tokenize(string source)
    {
        if (source.Length > MaxSourceLength)
        {
            throw new TemplateException(
                TemplateFault.Syntax, $"The template has {source.Length} characters; at most {MaxSourceLength} are read.", 1);
        }

        // Not ReplaceLineEndings, which also takes U+0085, U+2028 and form feeds for line ends.
        source = source.Replace("\r\n", "\n", StringComparison.Ordinal).Replace('\r', '\n');
        var lexer = new JinjaLexer(source.EndsWith('\n') ? source[..^1] : source);
        lexer.ReadAll();
        return lexer._tokens;
    }

    private void ReadAll()
    {
        while (_at < _source.Length)
        {
            int tag = FindTag();
            char mark = tag < _source.Length ? _source[tag + 1] : '\0';
            char sign = SignAt(tag + 2);
            AddData(_at, tag, mark, sign);
            if (mark == '\0')
            {
                break;
            }

            int opened = tag;
            _at = tag + 2 + (sign == '\0' ? 0 : 1);
            switch (mark)
            {
                case '#':
                    SkipComment(opened);
                    break;
                case '{':
                    Add(JinjaTokenKind.PrintBegin, "{{", opened);
                    ReadExpression(opened, isBlock: false);
                    break;
                default:
                    if (!ReadRaw(opened))
                    {
                        Add(JinjaTokenKind.BlockBegin, "{%", opened);
                        ReadExpression(opened, isBlock: true);
                    }

                    break;
            }
        }

        Add(JinjaTokenKind.End, string.Empty, _source.Length);
    }

    private int FindTag()
    {
        for (int i = _at; i + 1 < _source.Length; i++)
        {
            if (_source[i] == '{' && _source[i + 1] is '{' or '%' or '#')
            {
                return i;
            }
        }

        return _source.Length;
    }

    private char SignAt(int index) => CharAt(index) is '-' or '+' ? _source[index] : '\0';

    private char CharAt(int index) => index < _source.Length ? _source[index] : '\0';

    private void AddData(int start, int end, char mark, char sign)
    {
        if (sign == '-')
        {
            while (end > start && PythonText.IsSpace(_source[end - 1]))
            {
                end--;
            }
        }
        else if (sign != '+' && mark is '%' or '#')
        {
            int lineStart = end > start ? _source.LastIndexOf('\n', end - 1, end - start) + 1 : start;
            lineStart = Math.Max(lineStart, start);
            bool startsLine = (lineStart > start && _source[lineStart - 1] == '\n') || _isLineStart;
            if (startsLine && IsBlank(lineStart, end))
            {
                end = lineStart;
            }
        }

        if (end > start)
        {
            Add(JinjaTokenKind.Data, _source[start..end], start);
        }
    }

    private bool IsBlank(int start, int end)
    {
        for (int i = start; i < end; i++)
        {
            if (!PythonText.IsSpace(_source[i]))
            {
                return false;
            }
        }

        return true;
    }

    private void SkipComment(int opened)
    {
        int close = _source.IndexOf("#}", _at, StringComparison.Ordinal);
        if (close < 0)
        {
            throw Error("Missing end of comment tag", opened);
        }

        EndTag(close > _at ? _source[close - 1] : '\0', close + 2, trimsLine: true);
    }

    // Behind "%}" and its like: what of the following white space belongs to the tag.
    private void EndTag(char sign, int after, bool trimsLine)
    {
        _at = after;
        if (sign == '-')
        {
            SkipSpace();
        }
        else if (trimsLine && sign != '+' && _at < _source.Length && _source[_at] == '\n')
        {
            _at++;
        }

        _isLineStart = _source[_at - 1] == '\n';
    }

    private void SkipSpace()
    {
        while (_at < _source.Length && PythonText.IsSpace(_source[_at]))
        {
            _at++;
        }
    }

    private bool ReadRaw(int opened)
    {
        int at = AfterWord(_at, "raw");
        bool strips = at >= 0 && at < _source.Length && _source[at] == '-';
        at += strips ? 1 : 0;
        if (at < 0 || !StartsWith(at, "%}"))
        {
            return false;
        }

        _at = at + 2;
        if (strips)
        {
            SkipSpace();
        }

        _isLineStart = _source[_at - 1] == '\n';
        for (int tag = _at; (tag = _source.IndexOf("{%", tag, StringComparison.Ordinal)) >= 0; tag += 2)
        {
            char sign = SignAt(tag + 2);
            int end = AfterWord(tag + 2 + (sign == '\0' ? 0 : 1), "endraw");
            char endSign = end >= 0 ? SignAt(end) : '\0';
            int close = end + (endSign == '\0' ? 0 : 1);
            if (end >= 0 && StartsWith(close, "%}"))
            {
                AddData(_at, tag, '%', sign);
                EndTag(endSign, close + 2, trimsLine: true);
                return true;
            }
        }

        throw Error("Missing end of raw directive", opened);
    }

    // The index behind white space, the word and white space again; -1 when something else stands there.
    private int AfterWord(int at, string word)
    {
        while (at < _source.Length && PythonText.IsSpace(_source[at]))
        {
            at++;
        }

        if (!StartsWith(at, word))
        {
            return -1;
        }

        at += word.Length;
        while (at < _source.Length && PythonText.IsSpace(_source[at]))
        {
            at++;
        }

        return at;
    }

    private bool StartsWith(int at, string text) => string.CompareOrdinal(_source, at, text, 0, text.Length) == 0;

    private void ReadExpression(int opened, bool isBlock)
    {
        string close = isBlock ? "%}" : "}}";
        var brackets = new Stack<char>();
        while (true)
        {
            SkipSpace();
            if (_at >= _source.Length)
            {
                throw Error($"unexpected end of template, the tag is not closed by '{close}'", opened);
            }

            if (brackets.Count == 0)
            {
                char sign = SignAt(_at);
                sign = sign == '+' && !isBlock ? '\0' : sign;
                int closeAt = _at + (sign == '\0' ? 0 : 1);
                if (StartsWith(closeAt, close))
                {
                    Add(isBlock ? JinjaTokenKind.BlockEnd : JinjaTokenKind.PrintEnd, close, closeAt);
                    EndTag(sign, closeAt + 2, trimsLine: isBlock);
                    return;
                }
            }

            char c = _source[_at];
            if (c is '\'' or '"')
            {
                ReadText(c);
            }
            else if (char.IsAsciiDigit(c))
            {
                ReadNumber();
            }
            else if (c == '_' || char.IsLetter(c))
            {
                int start = _at;
                while (_at < _source.Length && (_source[_at] == '_' || char.IsLetterOrDigit(_source[_at])))
                {
                    _at++;
                }

                Add(JinjaTokenKind.Name, _source[start.._at], start);
            }
            else
            {
                ReadOperator(brackets);
            }
        }
    }

    private void ReadOperator(Stack<char> brackets)
    {
        foreach (string candidate in s_operators)
        {
            if (!StartsWith(_at, candidate))
            {
                continue;
            }

            switch (candidate[0])
            {
                case '(' or '[' or '{':
                    brackets.Push(candidate[0] switch { '(' => ')', '[' => ']', _ => '}' });
                    break;
                case ')' or ']' or '}':
                    if (!brackets.TryPop(out char expected) || expected != candidate[0])
                    {
                        throw Error($"unexpected '{candidate}'", _at);
                    }

                    break;
            }

            Add(JinjaTokenKind.Operator, candidate, _at);
            _at += candidate.Length;
            return;
        }

        throw Error($"unexpected char '{_source[_at]}'", _at);
    }

    private void Add(JinjaTokenKind kind, string text, int at) => _tokens.Add(new JinjaToken(kind, text, LineOf(at)));

    private int LineOf(int at)
    {
        for (; _lineCountedTo < at; _lineCountedTo++)
        {
            if (_source[_lineCountedTo] == '\n')
            {
                _line++;
            }
        }

        return _line;
    }

    private TemplateException Error(string message, int at)
    {
        int line = 1;
        for (int i = 0; i < at && i < _source.Length; i++)
        {
            line += _source[i] == '\n' ? 1 : 0;
        }

        return new TemplateException(TemplateFault.Syntax, message, line);
    }
}
