using System.Buffers.Binary;
using Qian.Kernels;

namespace Qian.Inference.Formats;

// One GGUF file, parsed and checked; a split model has several (GgufFile puts them together).
// After the constructor everything that a tensor entry claims is true of the file: its bytes lie inside, aligned, and
// overlap no other tensor's (else a small file could claim the memory of a large one, once per tensor).
internal sealed class GgufPart : IDisposable
{
    private const int LongestKey = 65535;
    private const int LongestTensorName = 1024;
    private const int DeepestArray = 4;
    private const int MostStrings = 1 << 26;

    private readonly MappedFile _file;
    private readonly Dictionary<string, GgufValue> _metadata = new(StringComparer.Ordinal);
    private readonly List<GgufTensor> _tensors = [];

    private GgufPart(MappedFile file)
    {
        _file = file;
    }

    public string Path => _file.Path;

    public uint Version { get; private set; }

    public long Alignment { get; private set; } = 32;

    public IReadOnlyDictionary<string, GgufValue> Metadata => _metadata;

    // In the order of the file.
    public IReadOnlyList<GgufTensor> Tensors => _tensors;

    // Everything before the tensors' bytes.
    public ByteView Header { get; private set; }

    public static GgufPart Open(string path)
    {
        GgufPart part = new(OpenMapped(path));
        try
        {
            part.Parse();
            return part;
        }
        catch
        {
            part.Dispose();
            throw;
        }
    }

    public static MappedFile OpenMapped(string path)
    {
        try
        {
            return MappedFile.Open(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or NotSupportedException or ArgumentException)
        {
            throw new BadModelFileException($"{path}: cannot be opened: {e.Message}", e);
        }
    }

    public void Dispose() => _file.Dispose();

    private void Parse()
    {
        var cursor = new HeaderCursor(_file.View(0, _file.Length), Path);
        if (!cursor.Bytes(4, "the magic").SequenceEqual("GGUF"u8))
            throw new BadModelFileException($"{Path}: not a GGUF file: it does not start with 'GGUF'");
        Version = cursor.UInt32("the version");
        if (BinaryPrimitives.ReverseEndianness(Version) is >= 1 and <= 3)
            throw new BadModelFileException($"{Path}: this GGUF file is big-endian; only little-endian files are supported, so convert the model again on an ordinary machine");
        if (Version is not (2 or 3))
            throw new BadModelFileException($"{Path}: GGUF version {Version}; versions 2 and 3 are supported" + (Version == 1 ? ", so convert the model again" : ""));
        long tensorCount = cursor.Count("the tensor count", 8 + 4 + 8 + 4 + 8);
        long keyCount = cursor.Count("the key count", 8 + 4 + 1);
        for (long i = 0; i < keyCount; i++)
            ReadPair(ref cursor, i);
        if (_metadata.TryGetValue("general.alignment", out GgufValue? alignment))
        {
            if (!alignment.TryInteger(0, out long bytes) || alignment.IsArray || bytes < 1 || bytes > 1 << 20 || !long.IsPow2(bytes))
                throw new BadModelFileException($"{Path}: key 'general.alignment': expected a power of two up to 1048576, found {alignment.Describe()}");
            Alignment = bytes;
        }
        var entries = new List<TensorEntry>();
        for (long i = 0; i < tensorCount; i++)
            entries.Add(ReadTensor(ref cursor, i));
        Header = _file.View(0, cursor.Position);
        Place(entries, cursor.Position);
    }

    private void ReadPair(ref HeaderCursor cursor, long index)
    {
        string key = cursor.Name($"key number {index}", LongestKey);
        string what = $"key {FileText.Quote(key)}";
        GgufValueType type = ReadType(ref cursor, what);
        long start = cursor.Position;
        GgufValueType elementType = type;
        long count = 1;
        long[]? stringStarts = null;
        if (type == GgufValueType.Array)
            SkipArray(ref cursor, what, 1, start, out elementType, out count, out stringStarts);
        else if (type == GgufValueType.String)
            cursor.SkipString(what);
        else
            cursor.Skip(GgufValue.SizeOf(type), what);
        var value = new GgufValue(type, elementType, count, _file.View(start, cursor.Position - start), stringStarts);
        if (!_metadata.TryAdd(key, value))
            throw cursor.Error($"{what} occurs twice");
    }

    private static GgufValueType ReadType(ref HeaderCursor cursor, string what)
    {
        uint type = cursor.UInt32($"the type of {what}");
        return type <= (uint)GgufValueType.Float64 ? (GgufValueType)type : throw cursor.Error($"{what}: value type {type} is not defined (0 to 12 are)");
    }

    private static void SkipArray(ref HeaderCursor cursor, string what, int depth, long valueStart, out GgufValueType elementType, out long count, out long[]? stringStarts)
    {
        if (depth > DeepestArray)
            throw cursor.Error($"{what}: arrays inside arrays, more than {DeepestArray} deep");
        elementType = ReadType(ref cursor, what);
        int size = GgufValue.SizeOf(elementType);
        stringStarts = null;
        count = cursor.Count($"the element count of {what}", size > 0 ? size : elementType == GgufValueType.String ? 8 : 12);
        if (size > 0)
        {
            cursor.Skip(count * size, what);
        }
        else if (elementType == GgufValueType.String)
        {
            // Only the outermost array is read by anyone; nested ones are walked for their length.
            // Their places are noted as they are found, so that a false count costs nothing.
            if (count > MostStrings)
                throw cursor.Error($"{what}: {count} strings; at most {MostStrings} are allowed");
            var starts = new List<long>();
            for (long i = 0; i < count; i++)
            {
                if (depth == 1)
                    starts.Add(cursor.Position - valueStart);
                cursor.SkipString(what);
            }
            stringStarts = depth == 1 ? [.. starts] : null;
        }
        else
        {
            for (long i = 0; i < count; i++)
                SkipArray(ref cursor, what, depth + 1, valueStart, out _, out _, out _);
        }
    }

    private TensorEntry ReadTensor(ref HeaderCursor cursor, long index)
    {
        string name = cursor.Name($"the name of tensor number {index}", LongestTensorName);
        string what = $"tensor {FileText.Quote(name)}";
        uint dimensionCount = cursor.UInt32($"the dimension count of {what}");
        if (dimensionCount is < 1 or > 4)
            throw cursor.Error($"{what}: {dimensionCount} dimensions, expected 1 to 4");
        long[] sizes = new long[dimensionCount];
        long rowCount = 1;
        for (int i = 0; i < sizes.Length; i++)
        {
            ulong size = cursor.UInt64($"the sizes of {what}");
            // No tensor of the family is near this; the bound keeps every later product inside 63 bits.
            if (size is < 1 or > int.MaxValue || (i > 0 && (ulong)rowCount * size > int.MaxValue))
                throw cursor.Error($"{what}: size {size} in dimension {i} is not between 1 and {int.MaxValue}, or its rows are more than that");
            sizes[i] = (long)size;
            rowCount *= i > 0 ? (long)size : 1;
        }
        uint typeId = cursor.UInt32($"the type of {what}");
        ulong offset = cursor.UInt64($"the offset of {what}");
        var type = (WeightType)typeId;
        if (typeId > int.MaxValue || !WeightFormat.IsDefined(type))
            throw new BadModelFileException($"{Path}: {what}: type id {typeId}{GgufTypeNames.Hint(typeId)} is not supported; use a file of another quantisation");
        int blockValues = WeightFormat.BlockValues(type);
        if (sizes[0] % blockValues != 0)
            throw new BadModelFileException($"{Path}: {what}: rows of {sizes[0]} values cannot be stored as {type}, whose blocks hold {blockValues}; the file is damaged");
        long rowBytes = WeightFormat.RowBytes(type, (int)sizes[0]);
        if (rowBytes > int.MaxValue || rowBytes > _file.Length / rowCount)
            throw new BadModelFileException($"{Path}: {what}: {FileText.Shape(sizes)} of {type} is {rowCount} rows of {rowBytes} bytes, more than the whole file of {_file.Length}; it is damaged or cut short");
        return new TensorEntry(new GgufTensor(name, sizes, type, rowBytes * rowCount), offset);
    }

    // Gives every tensor its bytes, now that the end of the header is known.
    private void Place(List<TensorEntry> entries, long headerEnd)
    {
        long dataStart = (headerEnd + Alignment - 1) / Alignment * Alignment;
        foreach ((GgufTensor tensor, ulong offset) in entries)
        {
            string what = $"{Path}: tensor {FileText.Quote(tensor.Name)}";
            if (offset % (ulong)Alignment != 0)
                throw new BadModelFileException($"{what}: offset {offset} is not a multiple of the alignment {Alignment}; the file is damaged");
            if (dataStart > _file.Length || offset > (ulong)(_file.Length - dataStart) || tensor.ByteCount > _file.Length - dataStart - (long)offset)
                throw new BadModelFileException($"{what}: its {tensor.ByteCount} bytes at offset {offset} of the data lie outside the file of {_file.Length} bytes; the download is probably incomplete");
            tensor.Data = _file.View(dataStart + (long)offset, tensor.ByteCount);
            tensor.FilePath = Path;
            _tensors.Add(tensor);
        }
        entries.Sort(static (a, b) => a.Offset.CompareTo(b.Offset));
        for (int i = 1; i < entries.Count; i++)
        {
            TensorEntry before = entries[i - 1];
            if (before.Offset + (ulong)before.Tensor.ByteCount > entries[i].Offset)
                throw new BadModelFileException($"{Path}: tensors {FileText.Quote(before.Tensor.Name)} and {FileText.Quote(entries[i].Tensor.Name)} overlap; the file is damaged");
        }
    }

    private readonly record struct TensorEntry(GgufTensor Tensor, ulong Offset);
}
