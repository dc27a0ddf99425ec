using System.Text.Json;
using System.Text.Json.Nodes;

namespace Qian.Inference.Constraint.Json;

// Two schemas that must both hold, as one: what they say of the same thing is narrowed where that is plain, and refused where it is not.
internal static class SchemaMerge
{
    private static readonly string[] s_greater = ["minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"];

    private static readonly string[] s_lesser = ["maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"];

    private static readonly string[] s_notes = ["title", "description", "default", "examples", "$schema", "$id", "$comment", "deprecated", "readOnly", "writeOnly"];

    public static JsonElement Of(JsonElement a, JsonElement b, string path)
    {
        if (a.ValueKind == JsonValueKind.True)
            return b;
        if (b.ValueKind == JsonValueKind.True)
            return a;
        if (a.ValueKind != JsonValueKind.Object || b.ValueKind != JsonValueKind.Object)
            throw Bad(path, "only schemas that are objects can be combined");
        var merged = new Dictionary<string, JsonElement>();
        foreach (JsonProperty property in a.EnumerateObject())
            merged[property.Name] = property.Value;
        foreach (JsonProperty property in b.EnumerateObject())
        {
            string name = property.Name;
            bool isNew = !merged.TryGetValue(name, out JsonElement known) || s_notes.Contains(name) || JsonElement.DeepEquals(known, property.Value);
            merged[name] = isNew ? property.Value : Both(name, known, property.Value, path);
        }

        // "Nothing else" would speak of one schema's properties only.
        if (a.TryGetProperty("properties", out _) && b.TryGetProperty("properties", out _) && (IsClosed(a) || IsClosed(b)) && !JsonElement.DeepEquals(a.GetProperty("properties"), b.GetProperty("properties")))
            throw Bad(path, "schemas that both list properties and close the object with additionalProperties cannot be combined");
        return ToElement(merged);
    }

    public static JsonElement ToElement(Dictionary<string, JsonElement> schema)
    {
        var json = new JsonObject();
        foreach ((string name, JsonElement value) in schema)
            json[name] = JsonNode.Parse(value.GetRawText());
        return JsonSerializer.SerializeToElement(json);
    }

    private static bool IsClosed(JsonElement schema) => schema.TryGetProperty("additionalProperties", out JsonElement others) && others.ValueKind != JsonValueKind.True;

    private static JsonElement Both(string name, JsonElement a, JsonElement b, string path)
    {
        if (s_greater.Contains(name) || s_lesser.Contains(name))
        {
            if (!IsNumber(a, out decimal x) || !IsNumber(b, out decimal y))
                throw Bad($"{path}.{name}", "expected a number");
            return (s_greater.Contains(name) ? x >= y : x <= y) ? a : b;
        }

        switch (name)
        {
            case "type":
                string[] types = [.. Names(a).SelectMany(type => Names(b).Select(other => Narrower(type, other))).OfType<string>().Distinct()];
                return types.Length > 0 ? JsonSerializer.SerializeToElement(types) : throw Bad($"{path}.type", "no value has both types");
            case "required":
                return JsonSerializer.SerializeToElement(Names(a).Union(Names(b)).ToArray());
            case "enum":
                JsonElement[] values = [.. Items(a).Where(value => Items(b).Any(other => JsonElement.DeepEquals(value, other)))];
                return values.Length > 0 ? JsonSerializer.SerializeToElement(values) : throw Bad($"{path}.enum", "no value is in both");
            case "properties" or "$defs" or "definitions":
                return Of(a, b, $"{path}.{name}", name == "properties");
            case "additionalProperties" when a.ValueKind is JsonValueKind.False || b.ValueKind == JsonValueKind.True:
                return a;
            case "additionalProperties" when b.ValueKind is JsonValueKind.False || a.ValueKind == JsonValueKind.True:
                return b;
            default:
                throw Bad($"{path}.{name}", "says two things here that cannot be combined");
        }
    }

    // Objects of schemas by name; what both name must hold twice.
    private static JsonElement Of(JsonElement a, JsonElement b, string path, bool combines)
    {
        if (a.ValueKind != JsonValueKind.Object || b.ValueKind != JsonValueKind.Object)
            throw Bad(path, "expected an object");
        var merged = new Dictionary<string, JsonElement>();
        foreach (JsonProperty property in a.EnumerateObject())
            merged[property.Name] = property.Value;
        foreach (JsonProperty property in b.EnumerateObject())
        {
            merged[property.Name] = combines && merged.TryGetValue(property.Name, out JsonElement known) && !JsonElement.DeepEquals(known, property.Value)
                ? JsonSerializer.SerializeToElement(new { allOf = new[] { known, property.Value } })
                : property.Value;
        }

        return ToElement(merged);
    }

    private static string? Narrower(string a, string b) => a == b ? a : (a, b) is ("integer", "number") or ("number", "integer") ? "integer" : null;

    private static string[] Names(JsonElement json) => json.ValueKind == JsonValueKind.String ? [json.GetString()!] : [.. Items(json).Where(item => item.ValueKind == JsonValueKind.String).Select(item => item.GetString()!)];

    private static IEnumerable<JsonElement> Items(JsonElement json) => json.ValueKind == JsonValueKind.Array ? json.EnumerateArray() : [];

    private static bool IsNumber(JsonElement json, out decimal number)
    {
        number = 0;
        return json.ValueKind == JsonValueKind.Number && json.TryGetDecimal(out number);
    }

    private static BadRequestException Bad(string path, string problem) => new($"{path}: {problem}.");
}
