using System.Buffers.Binary;
using System.Text.Json;
using Qian.Kernels;

namespace Qian.Inference.Formats;

// One safetensors file: u64 header length, a JSON object of tensors, their bytes. The header is read token by token, so its
// memory is that of the names it holds; every tensor's range is checked against its type, its sizes and the file, and no two
// may overlap.
internal sealed class SafetensorsFile : IDisposable
{
    private const long LongestHeader = 256 << 20;
    private const int MostDimensions = 8;

    private readonly MappedFile _file;
    private readonly List<SafetensorsTensor> _tensors = [];
    private readonly Dictionary<string, SafetensorsTensor> _byName = new(StringComparer.Ordinal);
    private readonly Dictionary<string, string> _metadata = new(StringComparer.Ordinal);

    private SafetensorsFile(MappedFile file)
    {
        _file = file;
    }

    public string Path => _file.Path;

    // Everything before the tensors' bytes.
    public ByteView Header { get; private set; }

    // In the order of the header.
    public IReadOnlyList<SafetensorsTensor> Tensors => _tensors;

    // The strings under __metadata__.
    public IReadOnlyDictionary<string, string> Metadata => _metadata;

    public static SafetensorsFile Open(string path)
    {
        var file = new SafetensorsFile(GgufPart.OpenMapped(path));
        try
        {
            file.Parse();
            return file;
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            file.Dispose();
            throw new BadModelFileException($"{path}: the header is not the JSON of a safetensors file: {e.Message}", e);
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    public SafetensorsTensor? Find(string name) => _byName.GetValueOrDefault(name);

    public SafetensorsTensor Require(string name) =>
        Find(name) ?? throw new BadModelFileException($"{Path}: tensor {FileText.Quote(name)} is missing");

    public void Dispose() => _file.Dispose();

    private void Parse()
    {
        if (_file.Length < 8)
            throw new BadModelFileException($"{Path}: {_file.Length} bytes are too few for a safetensors file; the download is probably incomplete");
        ulong headerBytes = BinaryPrimitives.ReadUInt64LittleEndian(_file.View(0, 8).Span(0, 8));
        if (headerBytes > (ulong)Math.Min(LongestHeader, _file.Length - 8))
            throw new BadModelFileException($"{Path}: the header claims {headerBytes} bytes, at most {Math.Min(LongestHeader, _file.Length - 8)} are possible; not a safetensors file, or damaged");
        Header = _file.View(0, 8 + (long)headerBytes);
        ByteView data = _file.View(8 + (long)headerBytes, _file.Length - 8 - (long)headerBytes);
        var json = new Utf8JsonReader(_file.View(8, (long)headerBytes).Span(0, (int)headerBytes), new JsonReaderOptions { MaxDepth = 8 });
        var ranges = new List<(long Start, long End, string Name)>();
        json.Read();
        Expect(ref json, JsonTokenType.StartObject, "the header");
        while (json.Read() && json.TokenType == JsonTokenType.PropertyName)
        {
            string name = json.GetString()!;
            json.Read();
            if (name == "__metadata__")
                ReadMetadata(ref json);
            else
                ReadTensor(ref json, name, data, ranges);
        }
        while (json.Read())
        {
            // What follows the object may only be white space: the reader throws at anything else.
        }
        ranges.Sort();
        for (int i = 1; i < ranges.Count; i++)
        {
            if (ranges[i - 1].End > ranges[i].Start)
                throw new BadModelFileException($"{Path}: tensors {FileText.Quote(ranges[i - 1].Name)} and {FileText.Quote(ranges[i].Name)} overlap; the file is damaged");
        }
    }

    private void ReadMetadata(ref Utf8JsonReader json)
    {
        Expect(ref json, JsonTokenType.StartObject, "__metadata__");
        while (json.Read() && json.TokenType == JsonTokenType.PropertyName)
        {
            string key = json.GetString()!;
            json.Read();
            Expect(ref json, JsonTokenType.String, $"__metadata__ {FileText.Quote(key)}");
            _metadata[key] = json.GetString()!;
        }
    }

    private void ReadTensor(ref Utf8JsonReader json, string name, ByteView data, List<(long Start, long End, string Name)> ranges)
    {
        string what = $"{Path}: tensor {FileText.Quote(name)}";
        Expect(ref json, JsonTokenType.StartObject, $"tensor {FileText.Quote(name)}");
        SafetensorsType? type = null;
        long[]? sizes = null;
        long[]? range = null;
        while (json.Read() && json.TokenType == JsonTokenType.PropertyName)
        {
            string field = json.GetString()!;
            json.Read();
            switch (field)
            {
                case "dtype":
                    string? spelling = json.TokenType == JsonTokenType.String ? json.GetString() : null;
                    type = SafetensorsTypes.TryParse(spelling, out SafetensorsType known)
                        ? known
                        : throw new BadModelFileException($"{what}: dtype {FileText.Quote(spelling ?? "")} is not supported");
                    break;
                case "shape":
                    sizes = ReadIntegers(ref json, what, field, MostDimensions);
                    break;
                case "data_offsets":
                    range = ReadIntegers(ref json, what, field, 2);
                    break;
                default:
                    throw new BadModelFileException($"{what}: unknown field {FileText.Quote(field)}; expected dtype, shape, data_offsets");
            }
        }
        if (type == null || sizes == null || range is not { Length: 2 })
            throw new BadModelFileException($"{what}: needs dtype, shape and two data_offsets");
        long elementCount = 1;
        foreach (long size in sizes)
            elementCount = Math.BigMul(elementCount, size) is var product && product <= long.MaxValue / 8
                ? (long)product
                : throw new BadModelFileException($"{what}: shape {FileText.Shape(sizes)} is too large; the file is damaged");
        long byteCount = elementCount * type.Value.ByteSize();
        if (range[0] > range[1] || range[1] > data.Length)
            throw new BadModelFileException($"{what}: bytes {range[0]} to {range[1]} lie outside the {data.Length} bytes of data; the download is probably incomplete");
        if (range[1] - range[0] != byteCount)
            throw new BadModelFileException($"{what}: {type.Value.Name()} {FileText.Shape(sizes)} takes {byteCount} bytes, data_offsets give it {range[1] - range[0]}; the file is damaged");
        var tensor = new SafetensorsTensor(name, type.Value, sizes, data.Slice(range[0], byteCount), Path);
        if (!_byName.TryAdd(name, tensor))
            throw new BadModelFileException($"{what} occurs twice");
        _tensors.Add(tensor);
        if (byteCount > 0)
            ranges.Add((range[0], range[1], name));
    }

    private static long[] ReadIntegers(ref Utf8JsonReader json, string what, string field, int mostCount)
    {
        var numbers = new List<long>();
        bool array = json.TokenType == JsonTokenType.StartArray;
        while (array && json.Read() && json.TokenType != JsonTokenType.EndArray)
        {
            if (json.TokenType != JsonTokenType.Number || !json.TryGetInt64(out long number) || number < 0 || numbers.Count == mostCount)
                throw new BadModelFileException($"{what}: {field} must be at most {mostCount} integers that are not negative");
            numbers.Add(number);
        }
        return array ? [.. numbers] : throw new BadModelFileException($"{what}: {field} must be an array of integers");
    }

    private void Expect(ref Utf8JsonReader json, JsonTokenType expected, string what)
    {
        if (json.TokenType != expected)
            throw new BadModelFileException($"{Path}: {what}: expected JSON {expected}, found {json.TokenType}");
    }
}
