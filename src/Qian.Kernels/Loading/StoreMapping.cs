namespace Qian.Kernels;

/// <summary>
/// A mapped file's region that holds packed weights. The mapping is ready at once; a thread then brings its pages in, front to back, so that the first
/// pass over the weights finds most of them there. Large pages of the page cache are mapped as such where the file system makes them.
/// </summary>
internal sealed class StoreMapping : IDisposable
{
    private const int WindowBytes = 8 << 20;

    private readonly MappedFile _file;
    private readonly ByteView _region;
    private readonly Thread _reader;
    private volatile bool _stopped;

    public StoreMapping(MappedFile file, ByteView region)
    {
        _file = file;
        _region = region;
        _reader = new Thread(ReadAhead, 256 << 10) { IsBackground = true, Name = "qian read ahead" };
        _reader.Start();
    }

    public void Dispose()
    {
        _stopped = true;
        _reader.Join();
        _file.Dispose();
    }

    private void ReadAhead()
    {
        for (long at = 0; at < _region.Length && !_stopped; at += WindowBytes)
            _region.Slice(at, Math.Min(WindowBytes, _region.Length - at)).Populate();
    }
}
