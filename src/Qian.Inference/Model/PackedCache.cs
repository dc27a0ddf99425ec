using System.Buffers.Binary;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using Microsoft.Win32.SafeHandles;
using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Inference.Model;

// A file that holds a weight store as it stands in memory, so that a start maps it instead of packing. Header, then from 2 MiB on (so that large pages
// fit) the store's bytes. The key is a hash of all that the bytes follow from: name, size, time and header of every file of the model, the packed
// layout's version, and type, shape and place of every matrix. The instruction set is not part of it: all share one layout.
// A file that does not fit is never an error: it is named in a note and written anew, beside first and then renamed. Its bytes hold no offsets, so
// damage can make wrong numbers, nothing worse; a thousand samples of them are checked, since reading them all is what this file saves.
internal sealed class PackedCache
{
    private const string Beside = "on";
    private const string Extension = ".packed";
    private const int FormatVersion = 1;
    private const int DataStart = 2 << 20;
    private const int HeaderBytes = 120, CheckedBytes = 88;
    private const int SampleCount = 1024, SampleBytes = 4096;
    private const int WriteBytes = 8 << 20;

    private readonly string _path;
    private readonly Checkpoint _checkpoint;
    private readonly List<string> _notes = [];

    private PackedCache(string path, Checkpoint checkpoint)
    {
        _path = path;
        _checkpoint = checkpoint;
    }

    public IReadOnlyList<string> Notes => _notes;

    private static ReadOnlySpan<byte> Magic => "QIANPACK"u8;

    public static PackedCache At(string place, Checkpoint checkpoint)
    {
        string model = Path.TrimEndingDirectorySeparator(Path.GetFullPath(checkpoint.Path));
        string path = place == Beside ? model + Extension : Directory.Exists(place) ? Path.Combine(place, Path.GetFileName(model) + Extension) : Path.GetFullPath(place);
        // Somebody else's file must not be overwritten because of a mistyped path.
        if (!path.EndsWith(Extension, StringComparison.Ordinal) && (Directory.Exists(path) || (File.Exists(path) && !StartsWithMagic(path))))
            throw new BadRequestException($"{nameof(EngineOptions)}.{nameof(EngineOptions.PackedCache)}: {path} exists and is no packed cache; name another file, or a folder.");
        return new PackedCache(path, checkpoint);
    }

    // True when the store's bytes now come from the file.
    public bool TryUse(WeightStore store)
    {
        if (!File.Exists(_path))
            return false;
        MappedFile? file = null;
        try
        {
            file = MappedFile.Open(_path);
            string? fault = FaultOf(file, store);
            if (fault is null)
            {
                store.Use(file, DataStart);
                return true;
            }

            file.Dispose();
            _notes.Add($"packed cache {_path}: {fault}; the weights are packed from the model");
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            file?.Dispose();
            _notes.Add($"packed cache {_path}: {error.Message}; the weights are packed from the model");
        }

        return false;
    }

    public void Save(WeightStore store, CancellationToken cancellation)
    {
        try
        {
            string folder = Path.GetDirectoryName(_path)!;
            Directory.CreateDirectory(folder);
            // An older one goes when the new one is complete, not before.
            long free = new DriveInfo(folder).AvailableFreeSpace;
            if (free < store.Bytes + DataStart)
            {
                _notes.Add($"packed cache {_path}: not written, since {MemoryPlan.Format(store.Bytes)} are needed and {MemoryPlan.Format(free)} are free there");
                return;
            }

            using var file = new PartialFile(_path);
            file.Write(Header(store, Fingerprint(store.Bytes, (at, piece) => store.Region.Span(at, piece.Length).CopyTo(piece))));
            file.WriteZeros(DataStart - HeaderBytes);
            for (long at = 0; at < store.Bytes; at += WriteBytes)
            {
                cancellation.ThrowIfCancellationRequested();
                file.Write(store.Region.Span(at, (int)Math.Min(WriteBytes, store.Bytes - at)));
            }

            file.Commit(flushToDisk: true);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException or ArgumentException)
        {
            _notes.Add($"packed cache {_path}: not written: {error.Message}");
        }
    }

    private static bool StartsWithMagic(string path)
    {
        RegularFile.Require(path);
        using FileStream stream = File.OpenRead(path);
        Span<byte> start = stackalloc byte[8];
        return stream.ReadAtLeast(start, start.Length, throwOnEndOfStream: false) == 0 || start.SequenceEqual(Magic);
    }

    // What is wrong with the file, or null.
    private string? FaultOf(MappedFile file, WeightStore store)
    {
        if (file.Length < DataStart || !file.View(0, 8).Span(0, 8).SequenceEqual(Magic))
            return "no packed cache, or a damaged one";
        ReadOnlySpan<byte> header = file.View(0, HeaderBytes).Span(0, HeaderBytes);
        if (!SHA256.HashData(header[..CheckedBytes]).AsSpan().SequenceEqual(header[CheckedBytes..]))
            return "its header is damaged";
        if (BinaryPrimitives.ReadInt32LittleEndian(header[8..]) != FormatVersion)
            return "of another version";
        if (!header.Slice(24, 32).SequenceEqual(Key(store)))
            return "of another model, of another state of this one, or of other options";
        if (BinaryPrimitives.ReadInt64LittleEndian(header[16..]) != store.Bytes || file.Length != DataStart + store.Bytes)
            return "cut short or damaged";
        // Read, not mapped: a missing page of a mapping comes with the megabytes around it.
        using SafeFileHandle handle = File.OpenHandle(_path, options: FileOptions.RandomAccess);
        byte[] fingerprint = Fingerprint(store.Bytes, (at, piece) => RandomAccess.Read(handle, piece, DataStart + at));
        return header.Slice(56, 32).SequenceEqual(fingerprint) ? null : "its weights are damaged";
    }

    private byte[] Header(WeightStore store, byte[] fingerprint)
    {
        var header = new byte[HeaderBytes];
        Magic.CopyTo(header);
        BinaryPrimitives.WriteInt32LittleEndian(header.AsSpan(8), FormatVersion);
        BinaryPrimitives.WriteInt32LittleEndian(header.AsSpan(12), DataStart);
        BinaryPrimitives.WriteInt64LittleEndian(header.AsSpan(16), store.Bytes);
        Key(store).CopyTo(header.AsSpan(24));
        fingerprint.CopyTo(header.AsSpan(56));
        SHA256.HashData(header.AsSpan(0, CheckedBytes)).CopyTo(header.AsSpan(CheckedBytes));
        return header;
    }

    private byte[] Key(WeightStore store)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        hash.AppendData(Encoding.UTF8.GetBytes($"layout {WeightStore.LayoutVersion}\n{store.Describe()}"));
        foreach ((string path, ByteView header) in _checkpoint.Files)
        {
            var file = new FileInfo(path);
            hash.AppendData(Encoding.UTF8.GetBytes(string.Create(CultureInfo.InvariantCulture, $"{file.Name} {file.Length} {file.LastWriteTimeUtc.Ticks}\n")));
            for (long at = 0; at < header.Length; at += WriteBytes)
                hash.AppendData(header.Span(at, (int)Math.Min(WriteBytes, header.Length - at)));
        }

        return hash.GetHashAndReset();
    }

    // Pieces spread evenly over the whole, all of it when it is small.
    private static byte[] Fingerprint(long length, PieceReader read)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        Span<byte> buffer = stackalloc byte[SampleBytes];
        long stride = Math.Max(SampleBytes, length / SampleCount);
        for (long at = 0; at < length; at += stride)
        {
            Span<byte> piece = buffer[..(int)Math.Min(SampleBytes, length - at)];
            read(at, piece);
            hash.AppendData(piece);
        }

        return hash.GetHashAndReset();
    }

    private delegate void PieceReader(long at, Span<byte> piece);
}
