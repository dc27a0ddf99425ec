using System.Text.Json;

namespace Qian.Inference.Constraint;

// How a parameter's value is written in a call: as text wherever a string may be meant, else as JSON.
internal static class ToolValueKind
{
    private const int MaxDepth = 8;
    private const int MostChoices = 512;

    public enum Kind
    {
        Text,
        Json,

        // One of a few strings.
        Choice,
    }

    public static Kind Of(JsonElement schema, JsonElement root) => Choices(schema) is not null ? Kind.Choice : MayBeText(schema, root, 0) ? Kind.Text : Kind.Json;

    // The strings of an enumeration that holds nothing else and no markup; null for any other schema.
    public static string[]? Choices(JsonElement schema)
    {
        if (schema.ValueKind != JsonValueKind.Object || !schema.TryGetProperty("enum", out JsonElement values) || values.ValueKind != JsonValueKind.Array || values.GetArrayLength() is 0 or > MostChoices)
            return null;
        foreach (JsonElement value in values.EnumerateArray())
        {
            if (value.ValueKind != JsonValueKind.String || value.GetString()!.Contains("</parameter>", StringComparison.Ordinal))
                return null;
        }

        return [.. values.EnumerateArray().Select(value => value.GetString()!)];
    }

    private static bool MayBeText(JsonElement schema, JsonElement root, int depth)
    {
        if (schema.ValueKind != JsonValueKind.Object || depth > MaxDepth)
            return true;
        if (schema.TryGetProperty("type", out JsonElement type))
        {
            return type.ValueKind switch
            {
                JsonValueKind.String => !IsJsonType(type),
                JsonValueKind.Array => type.GetArrayLength() == 0 || type.EnumerateArray().Any(item => !IsJsonType(item)),
                _ => true,
            };
        }

        if (schema.TryGetProperty("$ref", out JsonElement reference) && reference.ValueKind == JsonValueKind.String)
            return MayBeText(Resolve(reference.GetString()!, root), root, depth + 1);
        foreach (string key in (ReadOnlySpan<string>)["anyOf", "oneOf"])
        {
            if (schema.TryGetProperty(key, out JsonElement choices) && choices.ValueKind == JsonValueKind.Array && choices.GetArrayLength() > 0)
                return choices.EnumerateArray().Any(choice => MayBeText(choice, root, depth + 1));
        }

        if (schema.TryGetProperty("allOf", out JsonElement members) && members.ValueKind == JsonValueKind.Array && members.GetArrayLength() > 0)
            return members.EnumerateArray().All(member => MayBeText(member, root, depth + 1));
        if (schema.TryGetProperty("enum", out JsonElement values) && values.ValueKind == JsonValueKind.Array && values.GetArrayLength() > 0)
            return values.EnumerateArray().Any(value => value.ValueKind == JsonValueKind.String);
        return !schema.TryGetProperty("const", out JsonElement constant) || constant.ValueKind == JsonValueKind.String;
    }

    private static bool IsJsonType(JsonElement type) =>
        type.ValueKind == JsonValueKind.String && type.GetString() is "null" or "boolean" or "integer" or "number" or "array" or "object";

    private static JsonElement Resolve(string pointer, JsonElement root)
    {
        if (!pointer.StartsWith("#/", StringComparison.Ordinal))
            return pointer == "#" ? root : default;
        JsonElement at = root;
        foreach (string part in pointer[2..].Split('/'))
        {
            if (at.ValueKind != JsonValueKind.Object || !at.TryGetProperty(part.Replace("~1", "/", StringComparison.Ordinal).Replace("~0", "~", StringComparison.Ordinal), out at))
                return default;
        }

        return at;
    }
}
