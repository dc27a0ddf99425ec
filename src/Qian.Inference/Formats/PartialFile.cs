using Qian.Kernels;

namespace Qian.Inference.Formats;

// A file under construction: written beside its final place under the name plus `.part`, moved there by Commit, deleted when
// disposed without it. So a model file that exists is a whole one, whatever interrupted the writer.
internal sealed class PartialFile : IDisposable
{
    private const int BufferBytes = 1 << 20;

    private readonly string _partPath;
    private readonly FileStream _stream;
    private bool _closed;

    public PartialFile(string path)
    {
        FinalPath = path;
        RegularFile.Require(path);
        _partPath = path + ".part";
        _stream = new FileStream(_partPath, FileMode.Create, FileAccess.ReadWrite, FileShare.Read, BufferBytes);
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

    // Makes the file visible under its final name, replacing what was there.
    public void Commit(bool flushToDisk = false)
    {
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
        _stream.Dispose();
        File.Delete(_partPath);
    }
}
