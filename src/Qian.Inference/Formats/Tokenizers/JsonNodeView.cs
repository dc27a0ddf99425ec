using System.Text.Json;

namespace Qian.Inference.Formats;

// A JSON value of a hostile file together with where it stands, so that every disappointment is one BadModelFileException that names it.
internal readonly struct JsonNodeView
{
    private readonly string _path;
    private readonly JsonElement _element;

    public JsonNodeView(string path, JsonElement element)
    {
        _path = path;
        _element = element;
    }

    public JsonValueKind Kind => _element.ValueKind;

    public JsonNodeView? Find(string key)
    {
        RequireKind(JsonValueKind.Object, "an object");
        try
        {
            return _element.TryGetProperty(key, out JsonElement value) ? new JsonNodeView($"{_path}.{key}", value) : null;
        }
        catch (InvalidOperationException e)
        {
            throw InvalidText(e);
        }
    }

    public JsonNodeView Require(string key)
    {
        return Find(key) ?? throw new BadModelFileException($"{_path} has no \"{key}\"; the file is damaged or not of this family.");
    }

    public IEnumerable<JsonNodeView> Items()
    {
        RequireKind(JsonValueKind.Array, "an array");
        string path = _path + "[]";
        foreach (JsonElement item in _element.EnumerateArray())
        {
            yield return new JsonNodeView(path, item);
        }
    }

    public IEnumerable<(string Name, JsonNodeView Value)> Members()
    {
        RequireKind(JsonValueKind.Object, "an object");
        foreach (JsonProperty member in _element.EnumerateObject())
        {
            yield return (NameOf(member), new JsonNodeView(_path, member.Value));
        }
    }

    public string Text()
    {
        RequireKind(JsonValueKind.String, "a string");
        try
        {
            return _element.GetString()!;
        }
        catch (InvalidOperationException e)
        {
            throw InvalidText(e);
        }
    }

    public int Int32()
    {
        RequireKind(JsonValueKind.Number, "a number");
        return _element.TryGetInt32(out int value) ? value : throw Unexpected("a whole number of 32 bits", Summary());
    }

    public bool Boolean()
    {
        return Kind is JsonValueKind.True or JsonValueKind.False ? Kind == JsonValueKind.True : throw Unexpected("true or false", Summary());
    }

    // Null, false and the empty string all say that an option is not used.
    public bool IsAbsentOrNeutral()
    {
        return Kind is JsonValueKind.Null or JsonValueKind.False || (Kind == JsonValueKind.String && _element.ValueEquals(""));
    }

    public string Summary()
    {
        string raw;
        try
        {
            raw = _element.GetRawText();
        }
        catch (InvalidOperationException e)
        {
            throw InvalidText(e);
        }

        return raw.Length <= 200 ? raw : $"{raw.AsSpan(0, 200)}…";
    }

    public BadModelFileException Unexpected(string expected, string found)
    {
        return new BadModelFileException($"{_path}: expected {expected}, found {(found.Length <= 300 ? found : found[..300] + "…")}.");
    }

    private string NameOf(JsonProperty member)
    {
        try
        {
            return member.Name;
        }
        catch (InvalidOperationException e)
        {
            throw InvalidText(e);
        }
    }

    private void RequireKind(JsonValueKind kind, string expected)
    {
        if (Kind != kind)
        {
            throw Unexpected(expected, Summary());
        }
    }

    // The reader accepts escapes of lone surrogates and bytes that are not UTF-8, and objects only when asked for the string.
    private BadModelFileException InvalidText(InvalidOperationException cause)
    {
        return new BadModelFileException($"{_path} holds a text that is not valid Unicode; the file is damaged.", cause);
    }
}
