using System.Text.Json;

namespace Qian.Inference.Chat.Output;

// The JSON types that a schema allows, in the order in which a conversion tries them; string is always tried last.
[Flags]
internal enum JsonTypes : byte
{
    // Nothing said: any JSON value.
    Any = 0,
    Null = 1,
    Boolean = 2,
    Integer = 4,
    Number = 8,
    Object = 16,
    Array = 32,
    String = 64,
}

// What the request's tools say about their parameters: which names a tool declares, which it requires, and which types each allows.
// It reads the subset of JSON schema that tells a type (type, anyOf, oneOf, allOf, enum, const, local $ref), and never validates.
internal sealed class ToolSchemas
{
    private const int MaxDepth = 8;

    private readonly Dictionary<string, Tool> _tools = [];

    public ToolSchemas(IReadOnlyList<ToolDefinition>? tools)
    {
        foreach (ToolDefinition tool in tools ?? [])
        {
            // Of two tools with one name the first counts.
            _tools.TryAdd(tool.Name, ReadTool(tool.Parameters));
        }
    }

    public bool IsEmpty => _tools.Count == 0;

    public bool IsDeclared(string tool) => _tools.ContainsKey(tool);

    public bool IsDeclared(string tool, string parameter) => _tools.TryGetValue(tool, out Tool? found) && found.Parameters.ContainsKey(parameter);

    public JsonTypes TypesOf(string tool, string parameter) => !_tools.TryGetValue(tool, out Tool? found) ? JsonTypes.Any
        : found.Parameters.TryGetValue(parameter, out JsonTypes types) ? types
        : found.Others;

    // The one tool that declares all the given parameters and requires no others; null when there is none or more than one.
    public string? FindByParameters(IReadOnlyCollection<string> given)
    {
        string? match = null;
        foreach ((string name, Tool tool) in _tools)
        {
            bool fits = true;
            foreach (string parameter in given)
            {
                fits &= tool.Parameters.ContainsKey(parameter);
            }

            foreach (string required in tool.Required)
            {
                fits &= given.Contains(required);
            }

            if (fits && match is not null)
            {
                return null;
            }

            match = fits ? name : match;
        }

        return match;
    }

    private static Tool ReadTool(JsonElement schema)
    {
        var parameters = new Dictionary<string, JsonTypes>();
        var required = new List<string>();
        var others = JsonTypes.Any;
        if (schema.ValueKind == JsonValueKind.Object)
        {
            if (schema.TryGetProperty("properties", out JsonElement properties) && properties.ValueKind == JsonValueKind.Object)
            {
                foreach (JsonProperty property in properties.EnumerateObject())
                {
                    parameters[property.Name] = ReadTypes(property.Value, schema, 0);
                }
            }

            if (schema.TryGetProperty("required", out JsonElement names) && names.ValueKind == JsonValueKind.Array)
            {
                foreach (JsonElement name in names.EnumerateArray())
                {
                    if (name.ValueKind == JsonValueKind.String)
                    {
                        required.Add(MessageJson.String(name));
                    }
                }
            }

            if (schema.TryGetProperty("additionalProperties", out JsonElement additional))
            {
                others = ReadTypes(additional, schema, 0);
            }
        }

        return new Tool(parameters, required, others);
    }

    private static JsonTypes ReadTypes(JsonElement schema, JsonElement root, int depth)
    {
        if (schema.ValueKind != JsonValueKind.Object || depth > MaxDepth)
        {
            return JsonTypes.Any;
        }

        if (schema.TryGetProperty("type", out JsonElement type))
        {
            return OfNames(type);
        }

        if (schema.TryGetProperty("$ref", out JsonElement reference) && reference.ValueKind == JsonValueKind.String)
        {
            return ReadTypes(Resolve(MessageJson.String(reference), root), root, depth + 1);
        }

        foreach (string key in (ReadOnlySpan<string>)["anyOf", "oneOf", "allOf"])
        {
            if (schema.TryGetProperty(key, out JsonElement choices) && choices.ValueKind == JsonValueKind.Array)
            {
                var types = JsonTypes.Any;
                foreach (JsonElement choice in choices.EnumerateArray())
                {
                    types |= ReadTypes(choice, root, depth + 1);
                }

                return types;
            }
        }

        if (schema.TryGetProperty("enum", out JsonElement members) && members.ValueKind == JsonValueKind.Array)
        {
            var types = JsonTypes.Any;
            foreach (JsonElement member in members.EnumerateArray())
            {
                types |= OfValue(member);
            }

            return types;
        }

        return schema.TryGetProperty("const", out JsonElement constant) ? OfValue(constant) : JsonTypes.Any;
    }

    private static JsonTypes OfNames(JsonElement type)
    {
        if (type.ValueKind == JsonValueKind.Array)
        {
            var types = JsonTypes.Any;
            foreach (JsonElement member in type.EnumerateArray())
            {
                types |= member.ValueKind == JsonValueKind.String ? OfNames(member) : JsonTypes.Any;
            }

            return types;
        }

        return type.ValueKind != JsonValueKind.String ? JsonTypes.Any : MessageJson.String(type) switch
        {
            "null" => JsonTypes.Null,
            "boolean" => JsonTypes.Boolean,
            "integer" => JsonTypes.Integer,
            "number" => JsonTypes.Number,
            "object" => JsonTypes.Object,
            "array" => JsonTypes.Array,
            "string" => JsonTypes.String,
            _ => JsonTypes.Any,
        };
    }

    private static JsonTypes OfValue(JsonElement value) => value.ValueKind switch
    {
        JsonValueKind.String => JsonTypes.String,
        JsonValueKind.Number => value.TryGetInt64(out _) ? JsonTypes.Integer : JsonTypes.Number,
        JsonValueKind.True or JsonValueKind.False => JsonTypes.Boolean,
        JsonValueKind.Object => JsonTypes.Object,
        JsonValueKind.Array => JsonTypes.Array,
        _ => JsonTypes.Null,
    };

    // "#/$defs/Name", from the root of the parameters.
    private static JsonElement Resolve(string reference, JsonElement root)
    {
        if (!reference.StartsWith("#/", StringComparison.Ordinal))
        {
            return default;
        }

        JsonElement target = root;
        foreach (string part in reference[2..].Split('/'))
        {
            string key = part.Replace("~1", "/", StringComparison.Ordinal).Replace("~0", "~", StringComparison.Ordinal);
            if (target.ValueKind != JsonValueKind.Object || !target.TryGetProperty(key, out target))
            {
                return default;
            }
        }

        return target;
    }

    private sealed record Tool(Dictionary<string, JsonTypes> Parameters, List<string> Required, JsonTypes Others);
}
