using System.Globalization;
using System.Numerics;
using System.Text;
using System.Text.Json;
using Qian.Inference.Chat.Jinja;

namespace Qian.Inference.Chat.Output;

// Turns the text of a parameter into a JSON value by the types that the tool's schema allows. Numbers keep their digits: nothing passes
// through a double. What cannot be converted becomes a string, so that no call is ever lost over a value.
internal static class ArgumentText
{
    private const int MaxDigitCount = 400;

    // The JSON text of a value; isRepaired tells that the model used Python's spelling or encoded twice.
    public static string ToJson(string text, JsonTypes types, out bool isRepaired)
    {
        isRepaired = false;
        string trimmed = JinjaTextMethods.Strip(new JinjaText(text, isTemplate: false), null, fromStart: true, fromEnd: true).Value;
        if (types == JsonTypes.Any)
        {
            return KindOf(trimmed) == JsonValueKind.Undefined ? Quote(text) : trimmed;
        }

        if (types.HasFlag(JsonTypes.Null) && IsNull(trimmed, types, ref isRepaired))
        {
            return "null";
        }

        if (types.HasFlag(JsonTypes.Boolean) && (IsWord(trimmed, "true", ref isRepaired) || IsWord(trimmed, "false", ref isRepaired)))
        {
            return trimmed.ToLowerInvariant();
        }

        bool isNumber = (types & (JsonTypes.Integer | JsonTypes.Number)) != 0 && KindOf(trimmed) == JsonValueKind.Number;
        if (isNumber && types.HasFlag(JsonTypes.Integer) && ToInteger(trimmed) is { } integer)
        {
            return integer;
        }

        if (isNumber && types.HasFlag(JsonTypes.Number))
        {
            return trimmed;
        }

        foreach ((JsonTypes type, JsonValueKind kind) in
            (ReadOnlySpan<(JsonTypes, JsonValueKind)>)[(JsonTypes.Object, JsonValueKind.Object), (JsonTypes.Array, JsonValueKind.Array)])
        {
            if (types.HasFlag(type) && ToContainer(trimmed, kind, ref isRepaired) is { } container)
            {
                return container;
            }
        }

        return Quote(text);
    }

    public static string Quote(string text)
    {
        var quoted = new StringBuilder(text.Length + 2).Append('"');
        AppendEscaped(quoted, text);
        return quoted.Append('"').ToString();
    }

    // The inside of a JSON string. Half surrogate pairs, which no encoder takes, become replacement characters.
    public static void AppendEscaped(StringBuilder output, ReadOnlySpan<char> text)
    {
        for (int i = 0; i < text.Length; i++)
        {
            char c = text[i];
            switch (c)
            {
                case '"':
                    output.Append("\\\"");
                    break;
                case '\\':
                    output.Append("\\\\");
                    break;
                case '\n':
                    output.Append("\\n");
                    break;
                case '\r':
                    output.Append("\\r");
                    break;
                case '\t':
                    output.Append("\\t");
                    break;
                case < ' ':
                    output.Append(CultureInfo.InvariantCulture, $"\\u{(int)c:x4}");
                    break;
                default:
                    if (char.IsHighSurrogate(c) && i + 1 < text.Length && char.IsLowSurrogate(text[i + 1]))
                    {
                        output.Append(c).Append(text[++i]);
                    }
                    else
                    {
                        output.Append(char.IsSurrogate(c) ? '\ufffd' : c);
                    }

                    break;
            }
        }
    }

    // Undefined when the text is no JSON.
    public static JsonValueKind KindOf(string text)
    {
        try
        {
            using JsonDocument document = JsonDocument.Parse(text);
            return IsText(document.RootElement) ? document.RootElement.ValueKind : JsonValueKind.Undefined;
        }
        catch (Exception broken) when (broken is JsonException or ArgumentException)
        {
            return JsonValueKind.Undefined;
        }
    }

    // False when a string or key within escapes half a surrogate pair: valid JSON that nobody can read.
    public static bool IsText(JsonElement json)
    {
        try
        {
            switch (json.ValueKind)
            {
                case JsonValueKind.String:
                    json.GetString();
                    return true;
                case JsonValueKind.Array:
                    foreach (JsonElement item in json.EnumerateArray())
                    {
                        if (!IsText(item))
                        {
                            return false;
                        }
                    }

                    return true;
                case JsonValueKind.Object:
                    foreach (JsonProperty property in json.EnumerateObject())
                    {
                        if (property.Name is null || !IsText(property.Value))
                        {
                            return false;
                        }
                    }

                    return true;
                default:
                    return true;
            }
        }
        catch (InvalidOperationException)
        {
            return false;
        }
    }

    private static bool IsNull(string text, JsonTypes types, ref bool isRepaired)
    {
        if (text == "null")
        {
            return true;
        }

        bool isPython = text == "None" && !types.HasFlag(JsonTypes.String);
        isRepaired |= isPython;
        return isPython;
    }

    private static bool IsWord(string text, string word, ref bool isRepaired)
    {
        bool isIt = string.Equals(text, word, StringComparison.OrdinalIgnoreCase);
        isRepaired |= isIt && text != word;
        return isIt;
    }

    // The digits of a JSON number with integral value, such as 5.0 or 1e3; null for any other.
    private static string? ToInteger(string number)
    {
        int exponentAt = number.AsSpan().IndexOfAny('e', 'E');
        string mantissa = exponentAt < 0 ? number : number[..exponentAt];
        int exponent = 0;
        if (exponentAt >= 0
            && (!int.TryParse(number.AsSpan(exponentAt + 1), NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out exponent)
                || Math.Abs((long)exponent) > MaxDigitCount))
        {
            return null;
        }

        int pointAt = mantissa.IndexOf('.', StringComparison.Ordinal);
        string digits = pointAt < 0 ? mantissa : mantissa.Remove(pointAt, 1);
        int scale = exponent - (pointAt < 0 ? 0 : mantissa.Length - pointAt - 1);
        if (scale == 0)
        {
            return digits == "-0" ? "0" : digits;
        }

        if (digits.Length > MaxDigitCount || Math.Abs((long)scale) > MaxDigitCount)
        {
            return null;
        }

        var value = BigInteger.Parse(digits, CultureInfo.InvariantCulture);
        if (scale > 0)
        {
            return (value * BigInteger.Pow(10, scale)).ToString(CultureInfo.InvariantCulture);
        }

        BigInteger whole = BigInteger.DivRem(value, BigInteger.Pow(10, -scale), out BigInteger rest);
        return rest.IsZero ? whole.ToString(CultureInfo.InvariantCulture) : null;
    }

    private static string? ToContainer(string text, JsonValueKind kind, ref bool isRepaired)
    {
        JsonValueKind found = KindOf(text);
        if (found == kind)
        {
            return text;
        }

        string? repaired = null;
        if (found == JsonValueKind.String)
        {
            using JsonDocument document = JsonDocument.Parse(text);
            repaired = document.RootElement.GetString()!.Trim();
        }
        else if (found == JsonValueKind.Undefined)
        {
            repaired = PythonLiteral.ToJson(text);
        }

        if (repaired is null || KindOf(repaired) != kind)
        {
            return null;
        }

        isRepaired = true;
        return repaired;
    }
}
