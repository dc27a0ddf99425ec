using System.Text.Json;

namespace Qian.Server.Http;

// A JSON object as a request's reader sees it: fields by name, each of the type that is asked for or a fault that names its
// path. A field that is null counts as not given, as both official APIs have it. The strings of the document are known to be
// text (RequestBody has looked), so reading one cannot fail.
internal readonly struct JsonFields
{
    private readonly JsonElement _json;
    private readonly string _path;

    private JsonFields(JsonElement json, string path)
    {
        _json = json;
        _path = path;
    }

    public JsonElement Json => _json;

    // The whole body.
    public static JsonFields Root(JsonElement json) => json.ValueKind == JsonValueKind.Object
        ? new JsonFields(json, "")
        : throw RequestFault.Bad(null, $"The body must be a JSON object, not {Name(json)}.");

    public static JsonFields Of(JsonElement json, string path) => json.ValueKind == JsonValueKind.Object ? new JsonFields(json, path) : throw WrongType(path, "an object", json);

    public string PathOf(string name) => _path.Length == 0 ? name : $"{_path}.{name}";

    // Undefined when not given.
    public JsonElement Any(string name) => _json.TryGetProperty(name, out JsonElement value) && value.ValueKind != JsonValueKind.Null ? value : default;

    public bool Has(string name) => Any(name).ValueKind != JsonValueKind.Undefined;

    public string? Text(string name) => Any(name) is var value && value.ValueKind == JsonValueKind.Undefined ? null : AsText(value, PathOf(name));

    public string RequiredText(string name) => Text(name) ?? throw Missing(name);

    public bool? Flag(string name) => Any(name).ValueKind switch
    {
        JsonValueKind.Undefined => null,
        JsonValueKind.True => true,
        JsonValueKind.False => false,
        _ => throw WrongType(PathOf(name), "a boolean", Any(name)),
    };

    public int? Integer(string name, int low, int high)
    {
        JsonElement value = Any(name);
        return value.ValueKind == JsonValueKind.Undefined ? null : AsInteger(value, PathOf(name), low, high);
    }

    // Any 64 bits: seeds.
    public ulong? Bits(string name)
    {
        JsonElement value = Any(name);
        if (value.ValueKind == JsonValueKind.Undefined)
            return null;
        if (value.ValueKind != JsonValueKind.Number)
            throw WrongType(PathOf(name), "an integer", value);
        if (value.TryGetInt64(out long signed))
            return unchecked((ulong)signed);
        return value.TryGetUInt64(out ulong bits) ? bits : throw RequestFault.Bad(PathOf(name), $"Invalid '{PathOf(name)}': expected an integer of 64 bits.");
    }

    public float? Number(string name, double low, double high)
    {
        JsonElement value = Any(name);
        return value.ValueKind == JsonValueKind.Undefined ? null : (float)AsNumber(value, PathOf(name), low, high);
    }

    public JsonFields? Object(string name)
    {
        JsonElement value = Any(name);
        return value.ValueKind == JsonValueKind.Undefined ? null : Of(value, PathOf(name));
    }

    // Null when not given.
    public JsonElement[]? List(string name, int maxCount)
    {
        JsonElement value = Any(name);
        return value.ValueKind == JsonValueKind.Undefined ? null : AsList(value, PathOf(name), maxCount);
    }

    public RequestFault Missing(string name) => RequestFault.Bad(PathOf(name), $"Missing required parameter: '{PathOf(name)}'.", "missing_required_parameter");

    public RequestFault Invalid(string name, string message) => RequestFault.Bad(PathOf(name), $"Invalid '{PathOf(name)}': {message}", "invalid_value");

    public static string AsText(JsonElement value, string path) => value.ValueKind == JsonValueKind.String ? value.GetString()! : throw WrongType(path, "a string", value);

    public static int AsInteger(JsonElement value, string path, int low, int high)
    {
        // 16.0 is an integer too: some languages write all their numbers so.
        if (value.ValueKind != JsonValueKind.Number || !value.TryGetDouble(out double number) || number != Math.Floor(number))
            throw WrongType(path, "an integer", value);
        return number >= low && number <= high ? (int)number : throw OutOfRange(path, low, high);
    }

    public static double AsNumber(JsonElement value, string path, double low, double high)
    {
        if (value.ValueKind != JsonValueKind.Number || !value.TryGetDouble(out double number))
            throw WrongType(path, "a number", value);
        return number >= low && number <= high ? number : throw OutOfRange(path, low, high);
    }

    public static JsonElement[] AsList(JsonElement value, string path, int maxCount)
    {
        if (value.ValueKind != JsonValueKind.Array)
            throw WrongType(path, "an array", value);
        int count = value.GetArrayLength();
        if (count > maxCount)
            throw RequestFault.Bad(path, $"Invalid '{path}': array too long. Expected at most {maxCount} elements, but got {count}.", "array_above_max_length");
        return [.. value.EnumerateArray()];
    }

    public static RequestFault WrongType(string path, string expected, JsonElement found) =>
        RequestFault.Bad(path, $"Invalid type for '{path}': expected {expected}, but got {Name(found)} instead.", "invalid_type");

    private static RequestFault OutOfRange(string path, double low, double high) =>
        RequestFault.Bad(path, FormattableString.Invariant($"Invalid '{path}': expected a number from {low} to {high}."), "invalid_value");

    private static string Name(JsonElement json) => json.ValueKind switch
    {
        JsonValueKind.Object => "an object",
        JsonValueKind.Array => "an array",
        JsonValueKind.String => "a string",
        JsonValueKind.Number => "a number",
        JsonValueKind.True or JsonValueKind.False => "a boolean",
        _ => "null",
    };
}
