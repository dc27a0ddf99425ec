using System.Text.Json;
using System.Text.RegularExpressions;

namespace Qian.Inference.Tests.Constraint;

// A plain validator of JSON schema for the tests, written apart from the reader it judges: recursive, over parsed values.
internal static class SchemaCheck
{
    public static bool Fulfils(JsonElement value, JsonElement schema, JsonElement root)
    {
        if (schema.ValueKind is JsonValueKind.True or JsonValueKind.False)
            return schema.GetBoolean();
        foreach (JsonProperty keyword in schema.EnumerateObject())
        {
            if (!Holds(keyword.Name, keyword.Value, value, schema, root))
                return false;
        }

        return true;
    }

    private static bool Holds(string keyword, JsonElement says, JsonElement value, JsonElement schema, JsonElement root)
    {
        bool isText = value.ValueKind == JsonValueKind.String, isNumber = value.ValueKind == JsonValueKind.Number;
        bool isList = value.ValueKind == JsonValueKind.Array, isObject = value.ValueKind == JsonValueKind.Object;
        switch (keyword)
        {
            case "type":
                return says.ValueKind == JsonValueKind.String ? IsOf(value, says.GetString()!) : says.EnumerateArray().Any(type => IsOf(value, type.GetString()!));
            case "enum":
                return says.EnumerateArray().Any(item => JsonElement.DeepEquals(item, value));
            case "const":
                return JsonElement.DeepEquals(says, value);
            case "anyOf":
                return says.EnumerateArray().Any(item => Fulfils(value, item, root));
            case "oneOf":
                return says.EnumerateArray().Count(item => Fulfils(value, item, root)) == 1;
            case "allOf":
                return says.EnumerateArray().All(item => Fulfils(value, item, root));
            case "$ref":
                JsonElement target = root;
                foreach (string part in says.GetString()!.Split('/').Skip(1))
                    target = target.GetProperty(part);
                return Fulfils(value, target, root);
            case "minLength":
                return !isText || value.GetString()!.EnumerateRunes().Count() >= says.GetInt32();
            case "maxLength":
                return !isText || value.GetString()!.EnumerateRunes().Count() <= says.GetInt32();
            case "pattern":
                return !isText || Regex.IsMatch(value.GetString()!, says.GetString()!, RegexOptions.ECMAScript);
            case "format":
                return !isText || HasFormat(value.GetString()!, says.GetString()!);
            case "minimum":
                return !isNumber || value.GetDouble() >= says.GetDouble();
            case "maximum":
                return !isNumber || value.GetDouble() <= says.GetDouble();
            case "exclusiveMinimum":
                return !isNumber || value.GetDecimal() > says.GetDecimal();
            case "exclusiveMaximum":
                return !isNumber || value.GetDecimal() < says.GetDecimal();
            case "multipleOf":
                return !isNumber || value.GetDecimal() % says.GetDecimal() == 0;
            case "minItems":
                return !isList || value.GetArrayLength() >= says.GetInt32();
            case "maxItems":
                return !isList || value.GetArrayLength() <= says.GetInt32();
            case "prefixItems":
                return !isList || value.EnumerateArray().Zip(says.EnumerateArray()).All(pair => Fulfils(pair.First, pair.Second, root));
            case "items":
                int first = schema.TryGetProperty("prefixItems", out JsonElement prefix) ? prefix.GetArrayLength() : 0;
                return !isList || value.EnumerateArray().Skip(first).All(item => Fulfils(item, says, root));
            case "required":
                return !isObject || says.EnumerateArray().All(name => value.TryGetProperty(name.GetString()!, out _));
            case "properties":
                return !isObject || says.EnumerateObject().All(property => !value.TryGetProperty(property.Name, out JsonElement inner) || Fulfils(inner, property.Value, root));
            case "additionalProperties":
                return !isObject || value.EnumerateObject().All(property => (schema.TryGetProperty("properties", out JsonElement known) && known.TryGetProperty(property.Name, out _)) || Fulfils(property.Value, says, root));
            case "title" or "description" or "$defs":
                return true;
            default:
                throw new ArgumentException($"The tests' validator does not know '{keyword}'.", nameof(keyword));
        }
    }

    private static bool IsOf(JsonElement value, string type) => type switch
    {
        "integer" => value.ValueKind == JsonValueKind.Number && value.GetDecimal() == decimal.Truncate(value.GetDecimal()),
        "number" => value.ValueKind == JsonValueKind.Number,
        "string" => value.ValueKind == JsonValueKind.String,
        "boolean" => value.ValueKind is JsonValueKind.True or JsonValueKind.False,
        "null" => value.ValueKind == JsonValueKind.Null,
        "array" => value.ValueKind == JsonValueKind.Array,
        _ => value.ValueKind == JsonValueKind.Object,
    };

    private static bool HasFormat(string text, string format) => format switch
    {
        "date" => DateOnly.TryParseExact(text, "yyyy-MM-dd", out _),
        "date-time" => DateTimeOffset.TryParse(text, out _) && text.Length >= 20 && text[10] == 'T',
        "time" => DateTimeOffset.TryParse("2000-02-29T" + text, out _),
        "uuid" => Guid.TryParseExact(text, "D", out _),
        "ipv4" => System.Net.IPAddress.TryParse(text, out var four) && four.AddressFamily == System.Net.Sockets.AddressFamily.InterNetwork && text.Count(c => c == '.') == 3,
        "ipv6" => System.Net.IPAddress.TryParse(text, out var six) && six.AddressFamily == System.Net.Sockets.AddressFamily.InterNetworkV6,
        "email" => System.Net.Mail.MailAddress.TryCreate(text, out _),
        "hostname" => Uri.CheckHostName(text) is UriHostNameType.Dns or UriHostNameType.IPv4,
        "uri" => Uri.TryCreate(text, UriKind.Absolute, out _),
        "duration" => IsDuration(text),
        _ => true,
    };

    private static bool IsDuration(string text)
    {
        if (Regex.IsMatch(text, "^P[0-9]+W$"))
            return true;
        System.Xml.XmlConvert.ToTimeSpan(text);
        return true;
    }
}
