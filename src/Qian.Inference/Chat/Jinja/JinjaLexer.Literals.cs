using System.Globalization;
using System.Text;

namespace Qian.Inference.Chat.Jinja;

internal sealed partial class JinjaLexer
{
    private void ReadNumber()
    {
        int start = _at;
        SkipDigits();
        bool isFloat = false;
        if (_at + 1 < _source.Length && _source[_at] == '.' && char.IsAsciiDigit(_source[_at + 1]))
        {
            isFloat = true;
            _at++;
            SkipDigits();
        }

        int exponent = _at + 1;
        if (_at < _source.Length && _source[_at] is 'e' or 'E' && char.IsAsciiDigit(CharAt(SignAt(exponent) == '\0' ? exponent : exponent + 1)))
        {
            isFloat = true;
            _at = exponent + 1;
            SkipDigits();
        }

        string digits = _source[start.._at].Replace("_", string.Empty, StringComparison.Ordinal);
        if (digits.Length > 1000)
        {
            throw Error("a number of more than 1000 digits", start);
        }

        Add(isFloat ? JinjaTokenKind.Float : JinjaTokenKind.Integer, digits, start);
    }

    private void SkipDigits()
    {
        while (_at < _source.Length && (char.IsAsciiDigit(_source[_at]) || _source[_at] == '_'))
        {
            _at++;
        }
    }

    private void ReadText(char quote)
    {
        int start = _at++;
        var text = new StringBuilder();
        while (true)
        {
            if (_at >= _source.Length)
            {
                throw Error("a string is not closed", start);
            }

            char c = _source[_at++];
            if (c == quote)
            {
                break;
            }

            if (c == '\\' && _at < _source.Length)
            {
                ReadEscape(text);
            }
            else
            {
                text.Append(c);
            }
        }

        Add(JinjaTokenKind.Text, text.ToString(), start);
    }

    // Python's escapes; a backslash before any other character stands for itself.
    private void ReadEscape(StringBuilder text)
    {
        char c = _source[_at++];
        switch (c)
        {
            case '\n':
                break;
            case '\\' or '\'' or '"':
                text.Append(c);
                break;
            case 'n':
                text.Append('\n');
                break;
            case 't':
                text.Append('\t');
                break;
            case 'r':
                text.Append('\r');
                break;
            case 'b':
                text.Append('\b');
                break;
            case 'f':
                text.Append('\f');
                break;
            case 'v':
                text.Append('\v');
                break;
            case 'a':
                text.Append('\a');
                break;
            case 'x':
                ReadHexEscape(text, 2);
                break;
            case 'u':
                ReadHexEscape(text, 4);
                break;
            case 'U':
                ReadHexEscape(text, 8);
                break;
            case >= '0' and <= '7':
                int value = c - '0';
                for (int i = 0; i < 2 && _at < _source.Length && _source[_at] is >= '0' and <= '7'; i++)
                {
                    value = (value * 8) + (_source[_at++] - '0');
                }

                text.Append((char)value);
                break;
            default:
                text.Append('\\').Append(c);
                break;
        }
    }

    private void ReadHexEscape(StringBuilder text, int digitCount)
    {
        if (_at + digitCount > _source.Length
            || !uint.TryParse(_source.AsSpan(_at, digitCount), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out uint value)
            || value > 0x10FFFF)
        {
            throw Error("a broken \\x, \\u or \\U escape in a string", _at);
        }

        _at += digitCount;
        if (value < 0x10000)
        {
            text.Append((char)value);
        }
        else
        {
            text.Append(char.ConvertFromUtf32((int)value));
        }
    }
}
