using System.Security.Cryptography;
using Qian.Kernels;

namespace Qian.Inference.Formats;

// A file under construction: written beside its final place under the name plus `.part`, moved there by Commit, deleted when
// disposed without it, unless a later run is to go on with it. So a model file that exists is a whole one, whatever interrupted
// the writer.
internal sealed class PartialFile : IDisposable
{
    private const int BufferBytes = 1 << 20;

    private readonly string _partPath;
    private readonly FileStream _stream;
    private readonly bool _isKept;
    private bool _closed;

    // One writer at a time: a second one is refused while the first is at it.
    // `isKept`: what is there already stays and is written over, and disposing without Commit leaves the file.
    public PartialFile(string path, bool isKept = false)
    {
        FinalPath = path;
        RegularFile.Require(path);
        if (Directory.Exists(path))
            throw new IOException($"{path}: this is a folder; expected a file.");
        _partPath = path + ".part";
        _isKept = isKept;
        _stream = new FileStream(_partPath, isKept ? FileMode.OpenOrCreate : FileMode.Create, FileAccess.ReadWrite, FileShare.None, BufferBytes);
    }

    public string FinalPath { get; set; }

    public long Length => _stream.Position;

    public void Write(ReadOnlySpan<byte> bytes) => _stream.Write(bytes);

    public void WriteZeros(long count)
    {
        Span<byte> zeros = stackalloc byte[256];
        zeros.Clear();
        for (; count > 0; count -= Math.Min(count, zeros.Length))
            _stream.Write(zeros[..(int)Math.Min(count, zeros.Length)]);
    }

    public void Flush() => _stream.Flush();

    // Goes past the next bytes if they have this SHA-256, else stays where it is.
    public bool TrySkip(long byteCount, ReadOnlySpan<byte> digest)
    {
        long start = _stream.Position;
        if (byteCount > _stream.Length - start)
            return false;
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        byte[] buffer = new byte[BufferBytes];
        for (long left = byteCount; left > 0;)
        {
            int count = _stream.Read(buffer.AsSpan(0, (int)Math.Min(left, buffer.Length)));
            if (count == 0)
                break; // somebody cut the file; the digest differs
            hash.AppendData(buffer, 0, count);
            left -= count;
        }

        if (hash.GetHashAndReset().AsSpan().SequenceEqual(digest))
            return true;
        _stream.Position = start;
        return false;
    }

    // Makes the file visible under its final name, replacing what was there.
    public void Commit(bool flushToDisk = false)
    {
        if (_isKept)
            _stream.SetLength(_stream.Position);
        _stream.Flush(flushToDisk);
        _stream.Dispose();
        _closed = true;
        File.Move(_partPath, FinalPath, overwrite: true);
    }

    public void Dispose()
    {
        if (_closed)
            return;
        _closed = true;
        try
        {
            _stream.Dispose();
        }
        catch (IOException)
        {
            // What the buffer still held has no room on the disk. The writer knows: it was told when it wrote.
        }

        if (!_isKept)
            File.Delete(_partPath);
    }
}
