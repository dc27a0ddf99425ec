using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Qian.Inference;
using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Training.Run;

// Named floats of a run: a parameter's values or moments.
internal readonly record struct StateTensor(string Name, FloatView Values);

// One file that holds a whole run: magic, version, header (JSON), then per tensor its name, its length and its floats, and at
// the end the SHA-256 of all before. Little-endian. Reading goes twice over the file: first the checksum, so that a damaged
// file changes nothing, then the numbers. Knows nothing of what the tensors mean.
internal static class StateFile
{
    private const int Version = 1;
    private const int MaxHeaderBytes = 1 << 20;
    private const int MaxNameBytes = 1 << 10;
    private const int FloatsAtOnce = 1 << 18;

    private static ReadOnlySpan<byte> Magic => "QIANTRN\0"u8;

    // Written beside its place, flushed to the disk, then renamed: a state that exists under its name is a whole one.
    public static void Write(string path, StateHeader header, IReadOnlyList<StateTensor> tensors)
    {
        using var file = new PartialFile(path);
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        var writer = new HashingWriter(file, hash);
        writer.Write(Magic);
        writer.Write(Version);
        writer.WriteText(header.ToJson());
        writer.Write(tensors.Count);
        foreach (StateTensor tensor in tensors)
        {
            writer.WriteText(Encoding.UTF8.GetBytes(tensor.Name));
            writer.Write(tensor.Values.Length);
            for (long at = 0; at < tensor.Values.Length; at += FloatsAtOnce)
                writer.Write(MemoryMarshal.AsBytes<float>(tensor.Values.Slice(at, Math.Min(FloatsAtOnce, tensor.Values.Length - at)).Span));
        }

        file.Write(hash.GetHashAndReset());
        file.Commit(flushToDisk: true);
    }

    // Only the header. Throws BadModelFileException when the file is damaged.
    public static StateHeader ReadHeader(string path)
    {
        using FileStream stream = OpenVerified(path);
        return ReadHeader(stream, path);
    }

    // Fills `tensors` with what the file holds. Throws BadModelFileException when the file is damaged, BadRequestException when
    // it holds other tensors than these; in both cases none of them is touched.
    public static StateHeader Read(string path, IReadOnlyList<StateTensor> tensors)
    {
        using FileStream stream = OpenVerified(path);
        StateHeader header = ReadHeader(stream, path);
        long first = stream.Position;
        for (int pass = 0; pass < 2; pass++)
        {
            stream.Position = first;
            int count = ReadInt(stream);
            if (count != tensors.Count)
                throw Other(path, $"it holds {count} tensors, this run has {tensors.Count}");
            foreach (StateTensor tensor in tensors)
                ReadTensor(stream, tensor, path, fill: pass == 1);
        }

        return header;
    }

    private static void ReadTensor(FileStream stream, StateTensor tensor, string path, bool fill)
    {
        string name = Encoding.UTF8.GetString(ReadText(stream, MaxNameBytes, path));
        Span<byte> number = stackalloc byte[sizeof(long)];
        stream.ReadExactly(number);
        long length = BinaryPrimitives.ReadInt64LittleEndian(number);
        if (name != tensor.Name || length != tensor.Values.Length)
            throw Other(path, $"it holds {name} of {length} values where this run has {tensor.Name} of {tensor.Values.Length}");
        if (!fill)
        {
            stream.Position += length * sizeof(float);
            return;
        }

        for (long at = 0; at < length; at += FloatsAtOnce)
            stream.ReadExactly(MemoryMarshal.AsBytes(tensor.Values.Slice(at, Math.Min(FloatsAtOnce, length - at)).Span));
    }

    private static FileStream OpenVerified(string path)
    {
        RegularFile.Require(path);
        var stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read, 1 << 16);
        try
        {
            long bodyBytes = stream.Length - SHA256.HashSizeInBytes;
            if (bodyBytes < Magic.Length + sizeof(int))
                throw Damaged(path, "it is too short");
            Span<byte> magic = stackalloc byte[Magic.Length];
            stream.ReadExactly(magic);
            int version = ReadInt(stream);
            if (!magic.SequenceEqual(Magic))
                throw Damaged(path, "it does not begin as one");
            if (version != Version)
                throw new BadModelFileException($"{path}: a training state of version {version}; this program reads version {Version}. Use the program that wrote it, or begin anew from the saved model.");
            stream.Position = 0;
            using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
            var buffer = new byte[1 << 20];
            for (long left = bodyBytes; left > 0;)
            {
                int count = stream.Read(buffer, 0, (int)Math.Min(buffer.Length, left));
                if (count == 0)
                    throw Damaged(path, "it shrank while it was read");
                hash.AppendData(buffer, 0, count);
                left -= count;
            }

            var stored = new byte[SHA256.HashSizeInBytes];
            stream.ReadExactly(stored);
            if (!stored.AsSpan().SequenceEqual(hash.GetHashAndReset()))
                throw Damaged(path, "its checksum does not match its content");
            stream.Position = 0;
            return stream;
        }
        catch
        {
            stream.Dispose();
            throw;
        }
    }

    private static StateHeader ReadHeader(FileStream stream, string path)
    {
        stream.Position = Magic.Length + sizeof(int);
        try
        {
            return StateHeader.FromJson(ReadText(stream, MaxHeaderBytes, path));
        }
        catch (Exception error) when (error is JsonException or KeyNotFoundException or InvalidOperationException or FormatException)
        {
            throw new BadModelFileException($"{path}: the header of this training state cannot be read: {error.Message}", error);
        }
    }

    private static byte[] ReadText(FileStream stream, int mostBytes, string path)
    {
        int length = ReadInt(stream);
        if (length < 0 || length > mostBytes || length > stream.Length - stream.Position)
            throw Damaged(path, $"a text of {length} bytes");
        var text = new byte[length];
        stream.ReadExactly(text);
        return text;
    }

    private static int ReadInt(FileStream stream)
    {
        Span<byte> number = stackalloc byte[sizeof(int)];
        stream.ReadExactly(number);
        return BinaryPrimitives.ReadInt32LittleEndian(number);
    }

    private static BadModelFileException Damaged(string path, string how) => new($"{path}: not a whole training state: {how}.");

    private static BadRequestException Other(string path, string how) => new($"{path} belongs to another run: {how}. Resume with the model, the adapter settings and the optimiser that wrote it.");

    private sealed class HashingWriter(PartialFile file, IncrementalHash hash)
    {
        public void Write(ReadOnlySpan<byte> bytes)
        {
            hash.AppendData(bytes);
            file.Write(bytes);
        }

        public void Write(int value)
        {
            Span<byte> number = stackalloc byte[sizeof(int)];
            BinaryPrimitives.WriteInt32LittleEndian(number, value);
            Write(number);
        }

        public void Write(long value)
        {
            Span<byte> number = stackalloc byte[sizeof(long)];
            BinaryPrimitives.WriteInt64LittleEndian(number, value);
            Write(number);
        }

        public void WriteText(byte[] text)
        {
            Write(text.Length);
            Write(text.AsSpan());
        }
    }
}
