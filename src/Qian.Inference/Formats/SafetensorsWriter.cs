using System.Buffers;
using System.Buffers.Binary;
using System.Text;
using System.Text.Json;

namespace Qian.Inference.Formats;

// Writes tensors to one safetensors file, or to a folder as shards of a given size with their index. Like GgufWriter: Declare
// all, then Write their bytes in the declared order, then Complete; until then every file is NAME.part, and disposing early
// deletes them, unless they are kept for another run to go on with.
internal sealed class SafetensorsWriter : ITensorWriter, IDisposable
{
    private readonly string? _folder; // null when writing one named file
    private readonly string _stem;
    private readonly long _mostShardBytes;
    private readonly bool _isKept;
    private readonly Dictionary<string, string> _metadata = new(StringComparer.Ordinal) { ["format"] = "pt" };
    private readonly List<Entry> _entries = [];
    private readonly HashSet<string> _names = new(StringComparer.Ordinal);
    private readonly List<PartialFile> _files = [];
    private int _current = -1;
    private long _left;

    private SafetensorsWriter(string? folder, string stem, long mostShardBytes, bool isKept)
    {
        _isKept = isKept;
        _folder = folder;
        _stem = stem;
        _mostShardBytes = mostShardBytes;
    }

    public static SafetensorsWriter ToFile(string path) => new(null, path, long.MaxValue, isKept: false);

    // NAME.safetensors if everything fits one shard, else NAME-00001-of-0000N.safetensors … and NAME.safetensors.index.json.
    public static SafetensorsWriter ToFolder(string folder, long mostShardBytes, string name = "model", bool isKept = false)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(mostShardBytes);
        return new SafetensorsWriter(folder, name, mostShardBytes, isKept);
    }

    public void AddMetadata(string key, string value) => _metadata[key] = value;

    public void Declare(string name, SafetensorsType type, params ReadOnlySpan<long> sizes)
    {
        if (_current >= 0)
            throw new InvalidOperationException("tensors are declared before the first is written");
        if (name == "__metadata__" || !_names.Add(name))
            throw new ArgumentException($"tensor '{name}' is declared twice, or the name is reserved", nameof(name));
        long byteCount = type.ByteSize();
        foreach (long size in sizes)
        {
            ArgumentOutOfRangeException.ThrowIfNegative(size, nameof(sizes));
            byteCount = checked(byteCount * size);
        }
        Entry? last = _entries.Count > 0 ? _entries[^1] : null;
        int shard = last?.Shard ?? 0;
        long start = last == null ? 0 : last.Start + last.ByteCount;
        if (start > 0 && start + byteCount > _mostShardBytes)
        {
            shard++;
            start = 0;
        }
        _entries.Add(new Entry(name, type, sizes.ToArray(), shard, start, byteCount));
    }

    // The next bytes of the tensor that is due.
    public void Write(ReadOnlySpan<byte> bytes)
    {
        if (_current < 0)
            Next();
        if (_current >= _entries.Count || bytes.Length > _left)
            throw new InvalidOperationException(_current >= _entries.Count
                ? $"{bytes.Length} bytes too many: all {_entries.Count} tensors are written"
                : $"tensor '{_entries[_current].Name}' takes {_left} more bytes, not {bytes.Length}");
        _files[^1].Write(bytes);
        _left -= bytes.Length;
        if (_left == 0)
            Next();
    }

    public bool TryKeep(ReadOnlySpan<byte> digest)
    {
        if (_current < 0)
            Next();
        if (_current >= _entries.Count || _left != _entries[_current].ByteCount || !_files[^1].TrySkip(_left, digest))
            return false;
        Next();
        return true;
    }

    public void Flush() => _files[^1].Flush();

    public void Complete()
    {
        if (_current < 0)
            Next();
        if (_current < _entries.Count)
            throw new InvalidOperationException($"tensor '{_entries[_current].Name}' still lacks {_left} bytes");
        if (_entries.Count == 0)
            OpenShard(0);
        foreach (PartialFile file in _files)
            file.Commit();
        if (_files.Count > 1)
            WriteIndex();
    }

    public void Dispose()
    {
        foreach (PartialFile file in _files)
            file.Dispose();
    }

    private int ShardCount => _entries.Count > 0 ? _entries[^1].Shard + 1 : 1;

    // Moves to the next tensor that has bytes, opening its shard.
    private void Next()
    {
        do
        {
            _current++;
            if (_current == _entries.Count)
                return;
            _left = _entries[_current].ByteCount;
            if (_entries[_current].Shard == _files.Count)
                OpenShard(_files.Count);
        }
        while (_left == 0);
    }

    private string ShardName(int shard) => ShardCount == 1 ? $"{_stem}.safetensors" : $"{_stem}-{shard + 1:d5}-of-{ShardCount:d5}.safetensors";

    private void OpenShard(int shard)
    {
        var file = new PartialFile(_folder == null ? _stem : Path.Combine(_folder, ShardName(shard)), _isKept);
        _files.Add(file);
        var header = new ArrayBufferWriter<byte>();
        using (var json = new Utf8JsonWriter(header))
        {
            json.WriteStartObject();
            json.WriteStartObject("__metadata__");
            foreach ((string key, string value) in _metadata)
                json.WriteString(key, value);
            json.WriteEndObject();
            foreach (Entry entry in _entries)
            {
                if (entry.Shard != shard)
                    continue;
                json.WriteStartObject(entry.Name);
                json.WriteString("dtype", entry.Type.Name());
                json.WriteStartArray("shape");
                foreach (long size in entry.Sizes)
                    json.WriteNumberValue(size);
                json.WriteEndArray();
                json.WriteStartArray("data_offsets");
                json.WriteNumberValue(entry.Start);
                json.WriteNumberValue(entry.Start + entry.ByteCount);
                json.WriteEndArray();
                json.WriteEndObject();
            }
            json.WriteEndObject();
        }
        // Spaces up to a multiple of 8 keep the data aligned.
        int padding = -header.WrittenCount & 7;
        Span<byte> length = stackalloc byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(length, header.WrittenCount + padding);
        file.Write(length);
        file.Write(header.WrittenSpan);
        file.Write("       "u8[..padding]);
    }

    private void WriteIndex()
    {
        using var index = new PartialFile(Path.Combine(_folder!, $"{_stem}.safetensors.index.json"));
        var buffer = new ArrayBufferWriter<byte>();
        using (var json = new Utf8JsonWriter(buffer, new JsonWriterOptions { Indented = true, NewLine = "\n" }))
        {
            json.WriteStartObject();
            json.WriteStartObject("metadata");
            long totalBytes = 0;
            foreach (Entry entry in _entries)
                totalBytes += entry.ByteCount;
            json.WriteNumber("total_size", totalBytes);
            json.WriteEndObject();
            json.WriteStartObject("weight_map");
            foreach (Entry entry in _entries)
                json.WriteString(entry.Name, ShardName(entry.Shard));
            json.WriteEndObject();
            json.WriteEndObject();
        }
        index.Write(buffer.WrittenSpan);
        index.Write(Encoding.UTF8.GetBytes("\n"));
        index.Commit();
    }

    private sealed record Entry(string Name, SafetensorsType Type, long[] Sizes, int Shard, long Start, long ByteCount);
}
