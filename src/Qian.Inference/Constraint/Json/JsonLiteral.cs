using System.Text;
using System.Text.Json;

namespace Qian.Inference.Constraint.Json;

// A JSON value as the one text that stands for it in an enumeration: no white space, the escapes of JsonText, numbers as they were given.
internal static class JsonLiteral
{
    private const int MostCharacters = 1 << 16;

    public static string Write(JsonElement value)
    {
        var text = new StringBuilder();
        Append(text, value);
        return text.ToString();
    }

    // A JsonElement is as deep as its reader allowed, so recursion is bounded.
    private static void Append(StringBuilder text, JsonElement value)
    {
        if (text.Length > MostCharacters)
            ConstraintLimits.ThrowTooLarge();
        switch (value.ValueKind)
        {
            case JsonValueKind.String:
                text.Append(JsonText.Quote(value.GetString()!));
                break;
            case JsonValueKind.Array:
                AppendItems(text, '[', ']', value.EnumerateArray(), (item, _) => Append(text, item));
                break;
            case JsonValueKind.Object:
                AppendItems(text, '{', '}', value.EnumerateObject(), (property, _) =>
                {
                    text.Append(JsonText.Quote(property.Name)).Append(':');
                    Append(text, property.Value);
                });
                break;
            default:
                text.Append(value.GetRawText());
                break;
        }
    }

    private static void AppendItems<T>(StringBuilder text, char open, char close, IEnumerable<T> items, Action<T, int> append)
    {
        text.Append(open);
        int index = 0;
        foreach (T item in items)
        {
            if (index > 0)
                text.Append(',');
            append(item, index++);
        }

        text.Append(close);
    }
}
