using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text;
using Qian.Kernels;

namespace Qian.Inference.Formats;

// Writes a GGUF file (version 3) as a stream: first every key (Add) and every tensor's name, type and sizes (Declare), then
// the tensors' bytes in the declared order (Write, in pieces of any size), then Complete. Offsets follow from the sizes, so
// memory holds the header and nothing else. Until Complete the file is called NAME.part; disposing before that deletes it, unless
// it is kept for another run to go on with.
internal sealed class GgufWriter : ITensorWriter, IDisposable
{
    private readonly PartialFile _file;
    private readonly MemoryStream _keys = new();
    private readonly MemoryStream _entries = new();
    private readonly HashSet<string> _names = new(StringComparer.Ordinal);
    private readonly List<(string Name, long ByteCount)> _tensors = [];
    private readonly int _alignment;
    private ulong _keyCount;
    private long _dataOffset;
    private int _current = -1; // the tensor being written; -1 while declaring
    private long _left;        // its bytes still to come

    public GgufWriter(string path, int alignment = 32, bool isKept = false)
    {
        if (alignment < 1 || !int.IsPow2(alignment))
            throw new ArgumentException($"alignment {alignment} is not a power of two", nameof(alignment));
        _alignment = alignment;
        _file = new PartialFile(path, isKept);
        if (alignment != 32)
            Add("general.alignment", (uint)alignment);
    }

    // Tensor bytes of the declared tensors, padding not counted.
    public long DeclaredBytes { get; private set; }

    public void Add(string key, uint value)
    {
        Key(key, GgufValueType.UInt32);
        Put(_keys, value);
    }

    public void Add(string key, int value) => AddScalar(key, GgufValueType.Int32, value);

    public void Add(string key, ulong value) => AddScalar(key, GgufValueType.UInt64, value);

    public void Add(string key, long value) => AddScalar(key, GgufValueType.Int64, value);

    public void Add(string key, float value) => AddScalar(key, GgufValueType.Float32, value);

    public void Add(string key, double value) => AddScalar(key, GgufValueType.Float64, value);

    public void Add(string key, bool value) => AddScalar(key, GgufValueType.Bool, (byte)(value ? 1 : 0));

    public void Add(string key, string value)
    {
        Key(key, GgufValueType.String);
        Put(_keys, value);
    }

    public void Add(string key, ReadOnlySpan<int> values) => AddArray(key, GgufValueType.Int32, values.Length, MemoryMarshal.AsBytes(values));

    public void Add(string key, ReadOnlySpan<uint> values) => AddArray(key, GgufValueType.UInt32, values.Length, MemoryMarshal.AsBytes(values));

    public void Add(string key, ReadOnlySpan<float> values) => AddArray(key, GgufValueType.Float32, values.Length, MemoryMarshal.AsBytes(values));

    public void Add(string key, ReadOnlySpan<bool> values) => AddArray(key, GgufValueType.Bool, values.Length, MemoryMarshal.AsBytes(values));

    public void Add(string key, IReadOnlyList<string> values)
    {
        Key(key, GgufValueType.Array);
        Put(_keys, (uint)GgufValueType.String);
        Put(_keys, (ulong)values.Count);
        foreach (string value in values)
            Put(_keys, value);
    }

    // A value of another file, as it is.
    public void Add(string key, GgufValue value)
    {
        Key(key, value.Type);
        _keys.Write(value.Bytes.Span(0, checked((int)value.Bytes.Length)));
    }

    // `sizes` is ne: the contiguous axis first.
    public void Declare(string name, WeightType type, params ReadOnlySpan<long> sizes)
    {
        if (_current >= 0)
            throw new InvalidOperationException("tensors are declared before the first is written");
        if (!_names.Add("tensor " + name))
            throw new ArgumentException($"tensor '{name}' is declared twice", nameof(name));
        if (sizes.Length is < 1 or > 4)
            throw new ArgumentException($"tensor '{name}' has {sizes.Length} sizes, expected 1 to 4", nameof(sizes));
        long byteCount = WeightFormat.RowBytes(type, checked((int)sizes[0]));
        Put(_entries, name);
        Put(_entries, (uint)sizes.Length);
        for (int i = 0; i < sizes.Length; i++)
        {
            ArgumentOutOfRangeException.ThrowIfLessThan(sizes[i], 1, nameof(sizes));
            Put(_entries, (ulong)sizes[i]);
            byteCount = checked(byteCount * (i > 0 ? sizes[i] : 1));
        }
        Put(_entries, (uint)type);
        Put(_entries, (ulong)_dataOffset);
        _tensors.Add((name, byteCount));
        _dataOffset += Aligned(byteCount);
        DeclaredBytes += byteCount;
    }

    // The next bytes of the tensor that is due; may end one tensor exactly, never run into the next.
    public void Write(ReadOnlySpan<byte> bytes)
    {
        if (_current < 0)
            WriteHeader();
        if (_current >= _tensors.Count || bytes.Length > _left)
            throw new InvalidOperationException(_current >= _tensors.Count
                ? $"{bytes.Length} bytes too many: all {_tensors.Count} tensors are written"
                : $"tensor '{_tensors[_current].Name}' takes {_left} more bytes, not {bytes.Length}");
        _file.Write(bytes);
        _left -= bytes.Length;
        if (_left == 0)
            EndTensor();
    }

    public bool TryKeep(ReadOnlySpan<byte> digest)
    {
        if (_current < 0)
            WriteHeader();
        if (_current >= _tensors.Count || _left != _tensors[_current].ByteCount || !_file.TrySkip(_left, digest))
            return false;
        EndTensor();
        return true;
    }

    public void Flush() => _file.Flush();

    public void Complete()
    {
        if (_current < 0)
            WriteHeader();
        if (_current < _tensors.Count)
            throw new InvalidOperationException($"tensor '{_tensors[_current].Name}' still lacks {_left} bytes");
        _file.Commit();
    }

    public void Dispose() => _file.Dispose();

    private void WriteHeader()
    {
        var head = new MemoryStream();
        head.Write("GGUF"u8);
        Put(head, 3u);
        Put(head, (ulong)_tensors.Count);
        Put(head, _keyCount);
        foreach (MemoryStream part in (ReadOnlySpan<MemoryStream>)[head, _keys, _entries])
            _file.Write(part.GetBuffer().AsSpan(0, (int)part.Length));
        _file.WriteZeros(Aligned(_file.Length) - _file.Length);
        Next();
    }

    private void EndTensor()
    {
        long byteCount = _tensors[_current].ByteCount;
        _file.WriteZeros(Aligned(byteCount) - byteCount);
        Next();
    }

    private void Next()
    {
        _current++;
        _left = _current < _tensors.Count ? _tensors[_current].ByteCount : 0;
    }

    private long Aligned(long length) => (length + _alignment - 1) & -(long)_alignment;

    private void Key(string key, GgufValueType type)
    {
        if (_current >= 0)
            throw new InvalidOperationException("keys are added before the first tensor is written");
        if (!_names.Add("key " + key))
            throw new ArgumentException($"key '{key}' is added twice", nameof(key));
        Put(_keys, key);
        Put(_keys, (uint)type);
        _keyCount++;
    }

    private void AddScalar<T>(string key, GgufValueType type, T value) where T : unmanaged
    {
        Key(key, type);
        _keys.Write(MemoryMarshal.AsBytes(new ReadOnlySpan<T>(in value)));
    }

    private void AddArray(string key, GgufValueType elementType, int count, ReadOnlySpan<byte> bytes)
    {
        Key(key, GgufValueType.Array);
        Put(_keys, (uint)elementType);
        Put(_keys, (ulong)count);
        _keys.Write(bytes);
    }

    private static void Put(MemoryStream stream, uint value)
    {
        Span<byte> bytes = stackalloc byte[4];
        BinaryPrimitives.WriteUInt32LittleEndian(bytes, value);
        stream.Write(bytes);
    }

    private static void Put(MemoryStream stream, ulong value)
    {
        Span<byte> bytes = stackalloc byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, value);
        stream.Write(bytes);
    }

    private static void Put(MemoryStream stream, string value)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(value);
        Put(stream, (ulong)bytes.Length);
        stream.Write(bytes);
    }
}
