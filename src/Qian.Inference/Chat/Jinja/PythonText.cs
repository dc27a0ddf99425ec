using System.Globalization;
using System.Numerics;
using System.Text;

namespace Qian.Inference.Chat.Jinja;

// How Python spells values: str(), repr() and the shortest float form. Templates were written against these spellings, and one
// character of difference is another prompt.
internal static class PythonText
{
    public static bool IsSpace(char c) => char.IsWhiteSpace(c) || c is >= '\u001c' and <= '\u001f';

    // str(value), with the marks of a string kept.
    public static JinjaText Str(JinjaValue value, JinjaBudget budget)
    {
        switch (value.Kind)
        {
            case JinjaKind.Text:
                return value.Text;
            case JinjaKind.Undefined:
                return JinjaText.Empty;
            case JinjaKind.List or JinjaKind.Mapping or JinjaKind.Namespace:
                var builder = new JinjaTextBuilder(budget);
                Repr(value, builder, budget);
                return builder.ToText();
            default:
                return new JinjaText(Scalar(value), isTemplate: true);
        }
    }

    public static string Float(double value)
    {
        if (double.IsNaN(value))
        {
            return "nan";
        }

        if (double.IsInfinity(value))
        {
            return value > 0 ? "inf" : "-inf";
        }

        // .NET and Python agree on the shortest digits that read back as the same number; only the layout differs.
        string shortest = value.ToString("R", CultureInfo.InvariantCulture);
        bool isNegative = shortest[0] == '-';
        var mantissa = new StringBuilder();
        int exponent = 0;
        int pointIndex = -1;
        for (int i = isNegative ? 1 : 0; i < shortest.Length; i++)
        {
            char c = shortest[i];
            if (c == 'E')
            {
                exponent = int.Parse(shortest.AsSpan(i + 1), NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture);
                break;
            }

            if (c == '.')
            {
                pointIndex = mantissa.Length;
            }
            else
            {
                mantissa.Append(c);
            }
        }

        int pointAt = (pointIndex < 0 ? mantissa.Length : pointIndex) + exponent;
        int leadingZeroCount = 0;
        while (leadingZeroCount < mantissa.Length - 1 && mantissa[leadingZeroCount] == '0')
        {
            leadingZeroCount++;
        }

        mantissa.Remove(0, leadingZeroCount);
        pointAt -= leadingZeroCount;
        while (mantissa.Length > 1 && mantissa[^1] == '0')
        {
            mantissa.Length--;
        }

        string body = mantissa.Length == 1 && mantissa[0] == '0' ? "0.0" : Layout(mantissa.ToString(), pointAt);
        return isNegative ? "-" + body : body;
    }

    // digits d1d2d3... stand for 0.d1d2d3... times ten to the power of pointAt.
    private static string Layout(string digits, int pointAt)
    {
        int exponent = pointAt - 1;
        if (exponent is < -4 or >= 16)
        {
            string fraction = digits.Length > 1 ? "." + digits[1..] : string.Empty;
            string sign = exponent < 0 ? "-" : "+";
            return $"{digits[0]}{fraction}e{sign}{Math.Abs(exponent):00}";
        }

        if (pointAt <= 0)
        {
            return "0." + new string('0', -pointAt) + digits;
        }

        return pointAt >= digits.Length
            ? digits + new string('0', pointAt - digits.Length) + ".0"
            : digits[..pointAt] + "." + digits[pointAt..];
    }

    public static string Integer(BigInteger value) => value.ToString(CultureInfo.InvariantCulture);

    public static void Repr(JinjaValue value, JinjaTextBuilder output, JinjaBudget budget)
    {
        budget.Step();
        budget.Enter();
        switch (value.Kind)
        {
            case JinjaKind.Text:
                ReprText(value.Text, output);
                break;
            case JinjaKind.List:
                bool isTuple = value.List.Form == JinjaListForm.Tuple;
                output.Append(isTuple ? "(" : "[", isTemplate: true);
                for (int i = 0; i < value.List.Items.Count; i++)
                {
                    output.Append(i > 0 ? ", " : string.Empty, isTemplate: true);
                    Repr(value.List.Items[i], output, budget);
                }

                output.Append(isTuple ? value.List.Items.Count == 1 ? ",)" : ")" : "]", isTemplate: true);
                break;
            case JinjaKind.Mapping:
                output.Append("{", isTemplate: true);
                for (int i = 0; i < value.Mapping.Count; i++)
                {
                    output.Append(i > 0 ? ", " : string.Empty, isTemplate: true);
                    Repr(value.Mapping.KeyAt(i), output, budget);
                    output.Append(": ", isTemplate: true);
                    Repr(value.Mapping.ValueAt(i), output, budget);
                }

                output.Append("}", isTemplate: true);
                break;
            default:
                output.Append(Scalar(value), isTemplate: true);
                break;
        }

        budget.Leave();
    }

    private static string Scalar(JinjaValue value) => value.Kind switch
    {
        JinjaKind.Undefined => "Undefined",
        JinjaKind.None => "None",
        JinjaKind.Boolean => value.IsTrue ? "True" : "False",
        JinjaKind.Integer => Integer(value.Integer),
        JinjaKind.Float => Float(value.Float),
        JinjaKind.Namespace => "<Namespace>",
        JinjaKind.Loop => "<LoopContext>",
        _ => "<function>",
    };

    private static void ReprText(JinjaText text, JinjaTextBuilder output)
    {
        string value = text.Value;
        char quote = value.Contains('\'') && !value.Contains('"') ? '"' : '\'';
        output.Append([quote], isTemplate: true);
        int copied = 0;
        for (int i = 0; i < value.Length; i++)
        {
            char c = value[i];
            int width = char.IsHighSurrogate(c) && i + 1 < value.Length && char.IsLowSurrogate(value[i + 1]) ? 2 : 1;
            string? escape = EscapeOf(value, i, width, quote);
            if (escape is not null)
            {
                output.Append(text, copied, i - copied);
                output.Append(escape, isTemplate: false);
                copied = i + width;
            }

            i += width - 1;
        }

        output.Append(text, copied, value.Length - copied);
        output.Append([quote], isTemplate: true);
    }

    private static string? EscapeOf(string value, int index, int width, char quote)
    {
        char c = value[index];
        switch (c)
        {
            case '\\':
                return "\\\\";
            case '\n':
                return "\\n";
            case '\r':
                return "\\r";
            case '\t':
                return "\\t";
        }

        if (c == quote)
        {
            return "\\" + quote;
        }

        if (c is ' ' || IsPrintable(width == 2 ? CharUnicodeInfo.GetUnicodeCategory(value, index) : CharUnicodeInfo.GetUnicodeCategory(c)))
        {
            return null;
        }

        int codePoint = width == 2 ? char.ConvertToUtf32(value, index) : c;
        return codePoint switch
        {
            < 0x100 => $"\\x{codePoint:x2}",
            < 0x10000 => $"\\u{codePoint:x4}",
            _ => $"\\U{codePoint:x8}",
        };
    }

    private static bool IsPrintable(UnicodeCategory category) => category is not (
        UnicodeCategory.Control or UnicodeCategory.Format or UnicodeCategory.Surrogate or UnicodeCategory.PrivateUse
        or UnicodeCategory.OtherNotAssigned or UnicodeCategory.LineSeparator or UnicodeCategory.ParagraphSeparator
        or UnicodeCategory.SpaceSeparator);
}
