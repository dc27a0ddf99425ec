using System.Globalization;
using System.Numerics;

namespace Qian.Inference.Chat.Jinja;

// The filters behind "|" that take one value: text, numbers, JSON. Those over sequences are in JinjaSequenceFilters.
internal static class JinjaFilters
{
    private const string Names =
        " abs capitalize count d default dictsort e escape first float forceescape indent int items join last length list lower map max min"
        + " reject rejectattr replace reverse round safe select selectattr sort string sum title tojson trim unique upper ";

    public static bool Exists(string name) => Names.Contains($" {name} ", StringComparison.Ordinal);

    public static JinjaValue Apply(string name, JinjaValue value, JinjaArguments arguments)
    {
        switch (name)
        {
            case "default" or "d":
                bool replaces = value.IsUndefined || (arguments.Flag(1, "boolean", fallback: false) && !value.IsTrue);
                return replaces ? arguments.Find(0, "default_value") ?? JinjaValue.FromLiteral(string.Empty) : value;
            case "string" or "safe":
                return JinjaValue.FromText(PythonText.Str(value, arguments.Budget));
            case "tojson":
                return ToJson(value, arguments);
            case "abs":
                return Absolute(value);
            case "round":
                return Round(value, arguments);
            case "int":
                return ToInteger(value, arguments);
            case "float":
                return ToFloat(value, arguments);
            case "trim" or "upper" or "lower" or "capitalize" or "title" or "replace" or "indent" or "e" or "escape" or "forceescape":
                JinjaText text = PythonText.Str(value, arguments.Budget);
                arguments.Budget.Chars(text.Length);
                return JinjaValue.FromText(OnText(name, text, arguments));
            default:
                return JinjaSequenceFilters.Apply(name, value, arguments);
        }
    }

    private static JinjaText OnText(string name, JinjaText text, JinjaArguments arguments)
    {
        switch (name)
        {
            case "trim":
                string? chars = arguments.Find(0, "chars") is { Kind: not JinjaKind.None } ? arguments.RequireText(0, "chars").Value : null;
                return JinjaTextMethods.Strip(text, chars, fromStart: true, fromEnd: true);
            case "upper":
                return text.WithSameLength(text.Value.ToUpperInvariant());
            case "lower":
                return text.WithSameLength(text.Value.ToLowerInvariant());
            case "capitalize":
                return JinjaTextMethods.Capitalize(text);
            case "title":
                return JinjaTextMethods.Recase(text, static (c, before) =>
                    before is '\0' or '-' or '(' or '{' or '[' or '<' || PythonText.IsSpace(before)
                        ? char.ToUpperInvariant(c)
                        : char.ToLowerInvariant(c));
            case "replace":
                JinjaText old = PythonText.Str(arguments.Require(0, "old"), arguments.Budget);
                JinjaText replacement = PythonText.Str(arguments.Require(1, "new"), arguments.Budget);
                return JinjaTextMethods.Replace(text, old, replacement, arguments.Integer(2, "count", -1), arguments.Budget);
            case "indent":
                return Indent(text, arguments);
            default:
                return Escape(text, arguments.Budget);
        }
    }

    private static JinjaText Indent(JinjaText text, JinjaArguments arguments)
    {
        JinjaText indent = arguments.Find(0, "width") is { Kind: JinjaKind.Text } width
            ? width.Text
            : new JinjaText(new string(' ', Math.Clamp(arguments.Integer(0, "width", 4), 0, 1000)), isTemplate: true);
        bool indentsFirst = arguments.Flag(1, "first", fallback: false);
        bool indentsBlank = arguments.Flag(2, "blank", fallback: false);

        // jinja2 adds a line feed before it splits, which keeps the lines of a text that ends in one.
        var whole = new JinjaTextBuilder(arguments.Budget);
        whole.Append(text);
        whole.Append("\n", isTemplate: true);
        List<JinjaValue> lines = JinjaTextMethods.SplitLines(whole.ToText(), keepsEnds: false, arguments.Budget);
        var builder = new JinjaTextBuilder(arguments.Budget);
        for (int i = 0; i < lines.Count; i++)
        {
            if (i > 0)
            {
                builder.Append("\n", isTemplate: true);
            }

            if (i == 0 ? indentsFirst : indentsBlank || lines[i].Text.Length > 0)
            {
                builder.Append(indent);
            }

            builder.Append(lines[i].Text);
        }

        return builder.ToText();
    }

    private static JinjaText Escape(JinjaText text, JinjaBudget budget)
    {
        var builder = new JinjaTextBuilder(budget);
        for (int i = 0; i < text.Length; i++)
        {
            string? entity = text.Value[i] switch
            {
                '&' => "&amp;",
                '<' => "&lt;",
                '>' => "&gt;",
                '"' => "&#34;",
                '\'' => "&#39;",
                _ => null,
            };
            if (entity is null)
            {
                builder.Append(text, i, 1);
            }
            else
            {
                builder.Append(entity, isTemplate: false);
            }
        }

        return builder.ToText();
    }

    private static JinjaValue ToJson(JinjaValue value, JinjaArguments arguments)
    {
        int indent = -1;
        if (arguments.Find(1, "indent") is { Kind: not JinjaKind.None })
        {
            indent = Math.Clamp(arguments.Integer(1, "indent", 0), 0, 64);
        }

        string itemSeparator = indent < 0 ? ", " : ",";
        string keySeparator = ": ";
        if (arguments.Find(2, "separators") is { Kind: JinjaKind.List } separators
            && separators.List.Items is [{ Kind: JinjaKind.Text } item, { Kind: JinjaKind.Text } key])
        {
            itemSeparator = item.Text.Value;
            keySeparator = key.Text.Value;
        }

        var form = new JinjaJsonForm(
            indent,
            itemSeparator,
            keySeparator,
            SortKeys: arguments.Flag(3, "sort_keys", fallback: false),
            AsciiOnly: arguments.Flag(0, "ensure_ascii", fallback: false));
        return JinjaValue.FromText(JinjaJson.Write(value, arguments.Budget, form));
    }

    private static JinjaValue Absolute(JinjaValue value)
    {
        if (!value.IsNumber)
        {
            throw value.IsUndefined
                ? value.UndefinedError()
                : new TemplateException(TemplateFault.Type, $"bad operand type for abs(): '{value.TypeName}'");
        }

        return value.Kind == JinjaKind.Float ? JinjaValue.FromFloat(Math.Abs(value.Float)) : JinjaValue.FromInteger(BigInteger.Abs(value.Integer));
    }

    private static JinjaValue Round(JinjaValue value, JinjaArguments arguments)
    {
        int digits = arguments.Integer(0, "precision", 0);
        string method = arguments.Find(1, "method") is null ? "common" : arguments.RequireText(1, "method").Value;
        if (!value.IsNumber || digits is < 0 or > 15)
        {
            throw value.IsUndefined
                ? value.UndefinedError()
                : new TemplateException(TemplateFault.Type, $"cannot round a {value.TypeName} to {digits} digits");
        }

        double number = JinjaOperators.ToFloat(value);
        double scale = Math.Pow(10, digits);
        switch (method)
        {
            case "common":
                return value.IsIntegral ? JinjaValue.FromInteger(value.Integer) : JinjaValue.FromFloat(RoundHalfEven(number, digits));
            case "ceil":
                return JinjaValue.FromFloat(Math.Ceiling(number * scale) / scale);
            case "floor":
                return JinjaValue.FromFloat(Math.Floor(number * scale) / scale);
            default:
                throw new TemplateException(TemplateFault.Value, "method must be common, ceil or floor");
        }
    }

    // Python rounds the exact binary value, half to even; so does .NET's exact "F" formatting, up to ties, which only exist where the
    // fraction is a short binary one and Math.Round is exact.
    private static double RoundHalfEven(double number, int digits)
    {
        if (digits == 0 || !double.IsFinite(number) || Math.Abs(number) > 1e15)
        {
            return Math.Round(number, MidpointRounding.ToEven);
        }

        double scaled = number * Math.Pow(10, digits);
        return Math.Abs(scaled % 1) == 0.5 && scaled / Math.Pow(10, digits) == number && IsShortBinary(number)
            ? Math.Round(scaled, MidpointRounding.ToEven) / Math.Pow(10, digits)
            : double.Parse(number.ToString("F" + digits, CultureInfo.InvariantCulture), CultureInfo.InvariantCulture);
    }

    private static bool IsShortBinary(double number) => (number * (1 << 16)) % 1 == 0;

    private static JinjaValue ToInteger(JinjaValue value, JinjaArguments arguments)
    {
        JinjaValue fallback = arguments.Find(0, "default") ?? JinjaValue.FromInteger(0);
        switch (value.Kind)
        {
            case JinjaKind.Undefined:
                throw value.UndefinedError();
            case JinjaKind.Integer or JinjaKind.Boolean:
                return JinjaValue.FromInteger(value.Integer);
            case JinjaKind.Float:
                return double.IsFinite(value.Float) ? JinjaValue.FromInteger(new BigInteger(value.Float)) : fallback;
            case JinjaKind.Text:
                string digits = value.Text.Value.Trim();
                if (digits.Length > 4300)
                {
                    return fallback;
                }

                if (BigInteger.TryParse(digits, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out BigInteger whole))
                {
                    return JinjaValue.FromInteger(whole);
                }

                return TryFloat(digits, out double number) && double.IsFinite(number)
                    ? JinjaValue.FromInteger(new BigInteger(number))
                    : fallback;
            default:
                return fallback;
        }
    }

    private static JinjaValue ToFloat(JinjaValue value, JinjaArguments arguments)
    {
        JinjaValue fallback = arguments.Find(0, "default") ?? JinjaValue.FromFloat(0);
        return value.Kind switch
        {
            JinjaKind.Undefined => throw value.UndefinedError(),
            JinjaKind.Integer or JinjaKind.Boolean or JinjaKind.Float => JinjaValue.FromFloat(JinjaOperators.ToFloat(value)),
            JinjaKind.Text when TryFloat(value.Text.Value.Trim(), out double number) => JinjaValue.FromFloat(number),
            _ => fallback,
        };
    }

    private static bool TryFloat(string text, out double number) => double.TryParse(
        text,
        NumberStyles.AllowLeadingSign | NumberStyles.AllowDecimalPoint | NumberStyles.AllowExponent,
        CultureInfo.InvariantCulture,
        out number);
}
