using System.Text.Json;
using Qian.Kernels;

namespace Qian.Inference.Formats;

// Typed access to one object of a JSON configuration file. Every getter checks kind and range, and its error names the file,
// the dotted path of the field, what was expected and what was found. Null counts as absent, as in Hugging Face's files.
internal readonly struct JsonSection
{
    private const int DeepestNesting = 32;

    private readonly JsonElement _element;
    private readonly string _path;   // the file
    private readonly string _prefix; // "text_config." and the like

    private JsonSection(JsonElement element, string path, string prefix)
    {
        _element = element;
        _path = path;
        _prefix = prefix;
    }

    // Reads a whole file; duplicated names are refused, since readers differ in which one they believe.
    public static JsonDocument Load(string path, long longestBytes)
    {
        try
        {
            RegularFile.Require(path);
            using FileStream stream = File.OpenRead(path);
            if (stream.Length > longestBytes)
                throw new BadModelFileException($"{path}: {stream.Length} bytes, at most {longestBytes} are expected of such a file");
            return JsonDocument.Parse(stream, new JsonDocumentOptions { MaxDepth = DeepestNesting, AllowDuplicateProperties = false });
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            throw new BadModelFileException($"{path}: not valid JSON: {e.Message}", e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new BadModelFileException($"{path}: cannot be read: {e.Message}", e);
        }
    }

    public static JsonSection Root(JsonDocument document, string path) => document.RootElement.ValueKind == JsonValueKind.Object
        ? new JsonSection(document.RootElement, path, "")
        : throw new BadModelFileException($"{path}: expected a JSON object, found {Describe(document.RootElement)}");

    public string FilePath => _path;

    // The fields in file order; a name with half a surrogate pair is valid JSON but no name.
    public IEnumerable<(string Name, JsonElement Value)> Fields()
    {
        foreach (JsonProperty field in _element.EnumerateObject())
        {
            string name;
            try
            {
                name = field.Name;
            }
            catch (InvalidOperationException e)
            {
                throw new BadModelFileException($"{_path}: a field name inside '{_prefix}' is not valid Unicode", e);
            }
            yield return (name, field.Value);
        }
    }

    // The objects of an object of objects, whatever they are called.
    public IEnumerable<JsonSection> Sections()
    {
        foreach ((string name, JsonElement value) in Fields())
            yield return value.ValueKind == JsonValueKind.Object ? new JsonSection(value, _path, $"{_prefix}{FileText.Quote(name)}.") : throw Wrong(FileText.Quote(name), "an object", value);
    }

    public bool Has(string name) => TryGet(name, out _);

    public JsonElement? Raw(string name) => TryGet(name, out JsonElement value) ? value : null;

    public JsonSection Section(string name) => OptionalSection(name) ?? throw Missing(name);

    public JsonSection? OptionalSection(string name)
    {
        if (!TryGet(name, out JsonElement value))
            return null;
        return value.ValueKind == JsonValueKind.Object ? new JsonSection(value, _path, $"{_prefix}{name}.") : throw Wrong(name, "an object", value);
    }

    public int Integer(string name, long least, long most) => OptionalInteger(name, least, most) ?? throw Missing(name);

    // 262144 and 262144.0 alike.
    public int? OptionalInteger(string name, long least, long most)
    {
        if (!TryGet(name, out JsonElement value))
            return null;
        return IntegerOf(name, value, least, most);
    }

    public double? OptionalNumber(string name, double least, double most)
    {
        if (!TryGet(name, out JsonElement value))
            return null;
        if (value.ValueKind != JsonValueKind.Number || !value.TryGetDouble(out double number))
            throw Wrong(name, "a number", value);
        return number >= least && number <= most ? number : throw Wrong(name, FormattableString.Invariant($"a number from {least} to {most}"), value);
    }

    public bool? OptionalBool(string name)
    {
        if (!TryGet(name, out JsonElement value))
            return null;
        return value.ValueKind is JsonValueKind.True or JsonValueKind.False ? value.GetBoolean() : throw Wrong(name, "true or false", value);
    }

    public string? OptionalText(string name)
    {
        if (!TryGet(name, out JsonElement value))
            return null;
        return value.ValueKind == JsonValueKind.String ? TextOf(name, value) : throw Wrong(name, "a string", value);
    }

    public int[]? OptionalIntegers(string name, long least, long most, int mostCount)
    {
        if (!TryGet(name, out JsonElement value))
            return null;
        if (value.ValueKind != JsonValueKind.Array || value.GetArrayLength() > mostCount)
            throw Wrong(name, $"an array of at most {mostCount} integers", value);
        var numbers = new List<int>();
        foreach (JsonElement element in value.EnumerateArray())
            numbers.Add(IntegerOf(name, element, least, most));
        return [.. numbers];
    }

    public string[]? OptionalTexts(string name, int mostCount)
    {
        if (!TryGet(name, out JsonElement value))
            return null;
        if (value.ValueKind != JsonValueKind.Array || value.GetArrayLength() > mostCount)
            throw Wrong(name, $"an array of at most {mostCount} strings", value);
        var texts = new List<string>();
        foreach (JsonElement element in value.EnumerateArray())
            texts.Add(element.ValueKind == JsonValueKind.String ? TextOf(name, element) : throw Wrong(name, "an array of strings", element));
        return [.. texts];
    }

    public BadModelFileException Missing(string name) =>
        new($"{_path}: '{_prefix}{name}' is missing");

    public BadModelFileException Wrong(string name, string expected, string found) =>
        new($"{_path}: '{_prefix}{name}': expected {expected}, found {found}");

    private static string Describe(JsonElement value) => value.ValueKind switch
    {
        JsonValueKind.Object => "an object",
        JsonValueKind.Array => $"an array of {value.GetArrayLength()}",
        JsonValueKind.String when TextOrNull(value) is null => "a string that is not valid Unicode",
        _ => FileText.Quote(value.GetRawText()),
    };

    private BadModelFileException Wrong(string name, string expected, JsonElement found) => Wrong(name, expected, Describe(found));

    private int IntegerOf(string name, JsonElement value, long least, long most)
    {
        if (value.ValueKind != JsonValueKind.Number || !value.TryGetDouble(out double number) || number != Math.Floor(number))
            throw Wrong(name, "an integer", value);
        return number >= least && number <= most ? checked((int)number) : throw Wrong(name, $"an integer from {least} to {most}", value);
    }

    // Null for an unpaired surrogate escape, which is valid JSON but no text.
    public static string? TextOrNull(JsonElement value)
    {
        try
        {
            return value.GetString();
        }
        catch (InvalidOperationException)
        {
            return null;
        }
    }

    private string TextOf(string name, JsonElement value) => TextOrNull(value) ?? throw Wrong(name, "a string of valid Unicode", value);

    private bool TryGet(string name, out JsonElement value) =>
        _element.TryGetProperty(name, out value) && value.ValueKind != JsonValueKind.Null;
}
