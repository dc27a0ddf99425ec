using System.Text.Json;

namespace Qian.Inference.Constraint.Json;

// oneOf wants exactly one of its schemas to hold. That is what anyOf gives where no value can fulfil two of them, which is plain when their types
// differ, when their enumerations do, or when they are objects told apart by a required property.
internal static class SchemaDisjointness
{
    private const int MostAlternatives = 64;

    public static void Require(JsonElement[] schemas, string path)
    {
        if (schemas.Length > MostAlternatives)
            throw new BadRequestException($"{path}: at most {MostAlternatives} alternatives are supported; use anyOf.");
        for (int i = 0; i < schemas.Length; i++)
        {
            for (int j = i + 1; j < schemas.Length; j++)
            {
                if (!AreApart(schemas[i], schemas[j]))
                    throw new BadRequestException($"{path}: alternatives {i} and {j} may both hold for one value; use anyOf, or tell them apart by type or by a required property with a const.");
            }
        }
    }

    private static bool AreApart(JsonElement a, JsonElement b)
    {
        if (a.ValueKind != JsonValueKind.Object || b.ValueKind != JsonValueKind.Object)
            return a.ValueKind == JsonValueKind.False || b.ValueKind == JsonValueKind.False;
        if (Types(a) is { } types && Types(b) is { } others && !types.Overlaps(others))
            return true;
        if (Values(a) is { } values && Values(b) is { } otherValues)
            return !values.Overlaps(otherValues);
        return Types(a) is { } left && left.SetEquals(["object"]) && HaveMark(a, b);
    }

    // A property that both require and that cannot be the same in both.
    private static bool HaveMark(JsonElement a, JsonElement b)
    {
        if (!a.TryGetProperty("properties", out JsonElement properties) || properties.ValueKind != JsonValueKind.Object
            || !b.TryGetProperty("properties", out JsonElement others) || others.ValueKind != JsonValueKind.Object)
            return false;
        foreach (JsonProperty property in properties.EnumerateObject())
        {
            if (Requires(a, property.Name) && Requires(b, property.Name) && others.TryGetProperty(property.Name, out JsonElement other)
                && Values(property.Value) is { } values && Values(other) is { } otherValues
                && !values.Overlaps(otherValues))
                return true;
        }

        return false;
    }

    private static bool Requires(JsonElement schema, string name) =>
        schema.TryGetProperty("required", out JsonElement required) && required.ValueKind == JsonValueKind.Array
        && required.EnumerateArray().Any(item => item.ValueKind == JsonValueKind.String && item.ValueEquals(name));

    private static HashSet<string>? Types(JsonElement schema)
    {
        if (!schema.TryGetProperty("type", out JsonElement type))
            return null;
        string[] names = type.ValueKind == JsonValueKind.String ? [type.GetString()!]
            : type.ValueKind == JsonValueKind.Array ? [.. type.EnumerateArray().Where(item => item.ValueKind == JsonValueKind.String).Select(item => item.GetString()!)]
            : [];
        // An integer is a number too.
        return [.. names.Select(name => name == "integer" ? "number" : name)];
    }

    // As the texts that stand for them. Numbers may be spelled in several ways, so they tell nothing apart here.
    private static HashSet<string>? Values(JsonElement schema)
    {
        if (schema.ValueKind != JsonValueKind.Object)
            return null;
        JsonElement[] values = schema.TryGetProperty("const", out JsonElement constant) ? [constant]
            : schema.TryGetProperty("enum", out JsonElement members) && members.ValueKind == JsonValueKind.Array ? [.. members.EnumerateArray()]
            : [];
        return values.Length == 0 || Array.Exists(values, value => value.ValueKind is not (JsonValueKind.String or JsonValueKind.True or JsonValueKind.False or JsonValueKind.Null)) ? null
            : [.. values.Select(JsonLiteral.Write)];
    }
}
