using System.Globalization;
using System.Text;

namespace Qian.Inference.Chat.Output;

// Rewrites a list or dict in Python's spelling as JSON: single quotes, True, False, None, tuples, trailing commas. Models copy these
// from histories that a template printed with str(). Anything it does not know makes it give up.
internal sealed class PythonLiteral
{
    private const int MaxDepth = 60;

    private readonly string _text;
    private readonly StringBuilder _json = new();
    private int _at;

    private PythonLiteral(string text)
    {
        _text = text;
    }

    public static string? ToJson(string text)
    {
        var literal = new PythonLiteral(text);
        bool isWhole = literal.Value(0) && literal.Peek() == '\0' && literal._at == text.Length;
        return isWhole ? literal._json.ToString() : null;
    }

    // The next character behind white space; '\0' at the end.
    private char Peek()
    {
        while (_at < _text.Length && char.IsWhiteSpace(_text[_at]))
        {
            _at++;
        }

        return _at < _text.Length ? _text[_at] : '\0';
    }

    private bool Take(char c)
    {
        bool isIt = Peek() == c && _at < _text.Length;
        _at += isIt ? 1 : 0;
        return isIt;
    }

    private bool Value(int depth)
    {
        if (depth > MaxDepth)
        {
            return false;
        }

        switch (Peek())
        {
            case '{':
                return Items('}', isDict: true, depth);
            case '[':
                return Items(']', isDict: false, depth);
            case '(':
                return Items(')', isDict: false, depth);
            case '\'' or '"':
                return Text();
            default:
                return Word();
        }
    }

    private bool Items(char closer, bool isDict, int depth)
    {
        _at++;
        _json.Append(isDict ? '{' : '[');
        for (int count = 0; !Take(closer); count++)
        {
            if (count > 0)
            {
                if (!Take(','))
                {
                    return false;
                }

                if (Take(closer))
                {
                    break;
                }

                _json.Append(',');
            }

            if (isDict)
            {
                if (Peek() is not ('\'' or '"') || !Text() || !Take(':'))
                {
                    return false;
                }

                _json.Append(':');
            }

            if (!Value(depth + 1))
            {
                return false;
            }
        }

        _json.Append(isDict ? '}' : ']');
        return true;
    }

    private bool Word()
    {
        int start = _at;
        while (_at < _text.Length && (char.IsAsciiLetterOrDigit(_text[_at]) || _text[_at] is '+' or '-' or '.'))
        {
            _at++;
        }

        string word = _text[start.._at];
        string? json = word switch
        {
            "True" or "true" => "true",
            "False" or "false" => "false",
            "None" or "null" => "null",
            _ when ArgumentText.KindOf(word) == System.Text.Json.JsonValueKind.Number => word,
            _ => null,
        };
        _json.Append(json);
        return json is not null;
    }

    private bool Text()
    {
        char quote = _text[_at++];
        var text = new StringBuilder();
        while (_at < _text.Length && _text[_at] != quote)
        {
            char c = _text[_at++];
            if (c != '\\')
            {
                text.Append(c);
            }
            else if (!Escape(text))
            {
                return false;
            }
        }

        if (_at == _text.Length)
        {
            return false;
        }

        _at++;
        _json.Append(ArgumentText.Quote(text.ToString()));
        return true;
    }

    private bool Escape(StringBuilder text)
    {
        if (_at == _text.Length)
        {
            return false;
        }

        char c = _text[_at++];
        int digitCount = c switch { 'x' => 2, 'u' => 4, _ => 0 };
        if (digitCount > 0)
        {
            if (_at + digitCount > _text.Length
                || !ushort.TryParse(
                    _text.AsSpan(_at, digitCount), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out ushort value))
            {
                return false;
            }

            _at += digitCount;
            text.Append((char)value);
            return true;
        }

        text.Append(c switch { 'n' => "\n", 't' => "\t", 'r' => "\r", '\\' => "\\", '\'' => "'", '"' => "\"", '\n' => "", _ => "\\" + c });
        return true;
    }
}
