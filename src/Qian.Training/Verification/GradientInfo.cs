using System.Text.Json;
using Qian.Inference;

namespace Qian.Training.Verification;

// info.json of a folder of reference gradients: the model beside it, losses, optimiser runs, bounds.
internal sealed class GradientInfo : IDisposable
{
    private readonly JsonDocument _document;
    private readonly string _path;

    private GradientInfo(string path, JsonDocument document) => (_path, _document) = (path, document);

    public static GradientInfo Read(string folder)
    {
        string path = Path.Combine(folder, "info.json");
        try
        {
            return new GradientInfo(path, JsonDocument.Parse(File.ReadAllBytes(path)));
        }
        catch (Exception error) when (error is JsonException or FileNotFoundException)
        {
            throw new BadModelFileException($"{path}: expected the losses and bounds of these gradients as JSON.", error);
        }
    }

    // The model's folder, beside this one.
    public string ModelFolder
    {
        get
        {
            string name = Path.GetFileName(Text("model"));
            string folder = Path.Combine(Path.GetDirectoryName(Path.GetFullPath(_path))!, "..", name);
            return Directory.Exists(folder) ? folder : throw new BadModelFileException($"{_path}: \"model\": no folder {name} beside this one; put the model's folder there.");
        }
    }

    public bool Has(string section) => _document.RootElement.TryGetProperty(section, out _);

    public double Number(params ReadOnlySpan<string> keys)
    {
        JsonElement value = Find(keys);
        return value.ValueKind == JsonValueKind.Number ? value.GetDouble() : throw Missing(keys);
    }

    // Null where the file says null or nothing.
    public double? NumberOrNull(string section, string part, string key) =>
        Find([section, part]).TryGetProperty(key, out JsonElement value) && value.ValueKind == JsonValueKind.Number ? value.GetDouble() : null;

    public double[] Numbers(params ReadOnlySpan<string> keys)
    {
        JsonElement list = Find(keys);
        if (list.ValueKind != JsonValueKind.Array)
            throw Missing(keys);
        var numbers = new List<double>();
        foreach (JsonElement item in list.EnumerateArray())
            numbers.Add(item.ValueKind == JsonValueKind.Number ? item.GetDouble() : throw Missing(keys));
        return [.. numbers];
    }

    public string[] Texts(params ReadOnlySpan<string> keys)
    {
        JsonElement list = Find(keys);
        if (list.ValueKind != JsonValueKind.Array)
            throw Missing(keys);
        var texts = new List<string>();
        foreach (JsonElement item in list.EnumerateArray())
            texts.Add(item.ValueKind == JsonValueKind.String ? item.GetString()! : throw Missing(keys));
        return [.. texts];
    }

    public void Dispose() => _document.Dispose();

    private string Text(string key) => Find([key]) is { ValueKind: JsonValueKind.String } value ? value.GetString()! : throw Missing([key]);

    private JsonElement Find(ReadOnlySpan<string> keys)
    {
        JsonElement element = _document.RootElement;
        foreach (string key in keys)
        {
            if (element.ValueKind != JsonValueKind.Object || !element.TryGetProperty(key, out element))
                throw Missing(keys);
        }

        return element;
    }

    private BadModelFileException Missing(ReadOnlySpan<string> keys) => new($"{_path}: expected {string.Join('.', keys.ToArray())}, which is missing or of another kind.");
}
