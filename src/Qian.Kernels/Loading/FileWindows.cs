using Microsoft.Win32.SafeHandles;
using Qian.Kernels.Native;

namespace Qian.Kernels;

/// <summary>One piece of a mapped file that somebody will want.</summary>
internal readonly record struct FileWindow(MappedFile File, long Offset, int Length);

/// <summary>
/// Reads pieces of files ahead of those who use them, in the order given, into a small ring of buffers. Several readers keep the disk's queue
/// full while all processors compute. The point of the ring is that its memory is used again and again: a mapped page costs a page fault, a fresh page
/// of the page cache, and on a virtual machine a fault of the host as well, for every 4 KiB of the file.
/// Files that would push everything else out of the page cache are read past it, but for the pieces that are in it already.
/// </summary>
internal sealed unsafe class FileWindows : IDisposable
{
    public const int MostBytes = 16 << 20;

    private const int ReaderCount = 4;
    private const int PageBytes = 4096;

    private readonly FileWindow[] _windows;
    private readonly Slot[] _slots;
    private readonly NativeBuffer _ring;
    private readonly Dictionary<MappedFile, Source> _sources = [];
    private readonly Thread[] _readers;
    private int _next;
    private volatile bool _stopped;
    private volatile Exception? _failure;

    // At most `takerCount` windows are held at a time, and they are taken in order. Files of `directFromBytes` and more go past the page cache.
    public FileWindows(FileWindow[] windows, int takerCount, long directFromBytes)
    {
        _windows = windows;
        long slotBytes = 0;
        foreach (FileWindow window in windows)
            slotBytes = Math.Max(slotBytes, window.Length);
        slotBytes = (slotBytes + 2 * PageBytes - 1) & -PageBytes;
        _slots = new Slot[takerCount + 2 * ReaderCount];
        _ring = NativeBuffer.Allocate(_slots.Length * slotBytes + PageBytes, hugePages: true);
        byte* start = (byte*)(((nuint)_ring.Pointer + PageBytes - 1) & ~(nuint)(PageBytes - 1));
        for (int i = 0; i < _slots.Length; i++)
            _slots[i] = new Slot(start + i * slotBytes, i);
        foreach (FileWindow window in windows)
        {
            if (!_sources.ContainsKey(window.File))
                _sources.Add(window.File, new Source(window.File, window.File.Length >= directFromBytes));
        }

        _readers = new Thread[Math.Min(ReaderCount, windows.Length)];
        for (int i = 0; i < _readers.Length; i++)
        {
            _readers[i] = new Thread(ReadWindows, 256 << 10) { IsBackground = true, Name = $"qian read {i + 1}" };
            _readers[i].Start();
        }
    }

    // What went wrong while reading; every window taken since is null.
    public Exception? Failure => _failure;

    // Waits for window `index` and returns its first byte.
    public byte* Take(int index)
    {
        Slot slot = _slots[index % _slots.Length];
        lock (slot.Gate)
        {
            while (slot.Holds != index)
                Monitor.Wait(slot.Gate);
            return slot.Bytes;
        }
    }

    public void Give(int index)
    {
        Slot slot = _slots[index % _slots.Length];
        lock (slot.Gate)
        {
            slot.NextIndex = index + _slots.Length;
            Monitor.PulseAll(slot.Gate);
        }
    }

    public void Dispose()
    {
        _stopped = true;
        foreach (Slot slot in _slots)
        {
            lock (slot.Gate)
                Monitor.PulseAll(slot.Gate);
        }

        foreach (Thread reader in _readers)
            reader.Join();
        foreach (Source source in _sources.Values)
            source.Dispose();
        _ring.Dispose();
    }

    private void ReadWindows()
    {
        while (!_stopped)
        {
            int index = Interlocked.Increment(ref _next) - 1;
            if (index >= _windows.Length)
                return;
            Slot slot = _slots[index % _slots.Length];
            lock (slot.Gate)
            {
                while (slot.NextIndex != index && !_stopped)
                    Monitor.Wait(slot.Gate);
            }

            if (_stopped)
                return;
            byte* bytes = null;
            try
            {
                if (_failure is null)
                    bytes = _sources[_windows[index].File].Read(_windows[index], slot.Buffer);
            }
            catch (Exception exception)
            {
                _failure = exception;
            }

            lock (slot.Gate)
            {
                slot.Bytes = bytes;
                slot.Holds = index;
                Monitor.PulseAll(slot.Gate);
            }
        }
    }

    // Says by number whose turn it is: a slow reader or taker of one window must not be mistaken for that of the window a whole ring later.
    private sealed class Slot(byte* buffer, int first)
    {
        public readonly object Gate = new();
        public readonly byte* Buffer = buffer;
        public byte* Bytes;           // where window Holds begins, null when it could not be read
        public int Holds = -1;        // the window that was read into it last
        public int NextIndex = first; // the window that it may be filled with
    }

    // A file's handles: an ordinary one, and one past the page cache where that is wanted and the file system allows it.
    private sealed class Source : IDisposable
    {
        private readonly SafeFileHandle _cached;
        private readonly SafeFileHandle? _direct;
        private volatile bool _refused;

        public Source(MappedFile file, bool direct)
        {
            _cached = File.OpenHandle(file.Path);
            _direct = direct ? Posix.OpenDirect(file.Path) : null;
        }

        // The window's first byte, somewhere in the buffer.
        public byte* Read(FileWindow window, byte* buffer)
        {
            if (_direct is not null && !_refused && !window.File.IsInPageCache(window.Offset, window.Length))
            {
                int lead = (int)(window.Offset % PageBytes);
                int count = (lead + window.Length + PageBytes - 1) & -PageBytes;
                try
                {
                    if (RandomAccess.Read(_direct, new Span<byte>(buffer, count), window.Offset - lead) >= lead + window.Length)
                        return buffer + lead;
                }
                catch (IOException)
                {
                    // Such as a disk with larger sectors. What is wrong with the file itself shows below.
                    _refused = true;
                }
            }

            for (int done = 0; done < window.Length;)
            {
                int count = RandomAccess.Read(_cached, new Span<byte>(buffer + done, window.Length - done), window.Offset + done);
                if (count == 0)
                    throw new IOException($"{window.File.Path}: ends at byte {window.Offset + done}; it had {window.File.Length} bytes when it was opened.");
                done += count;
            }

            return buffer;
        }

        public void Dispose()
        {
            _direct?.Dispose();
            _cached.Dispose();
        }
    }
}
