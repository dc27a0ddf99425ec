using System.IO.MemoryMappedFiles;
using Qian.Kernels.Native;

namespace Qian.Kernels;

/// <summary>
/// A file mapped read-only as a whole. Every access goes through <see cref="View"/>, which checks bounds once; a file
/// that another process truncates while it is mapped is outside what any reader can survive, so do not do that.
/// </summary>
public sealed unsafe class MappedFile : IDisposable
{
    private readonly MemoryMappedFile? _file;
    private readonly MemoryMappedViewAccessor? _accessor;
    private byte* _pointer;

    private MappedFile(string path)
    {
        Path = path;
        RegularFile.Require(path);
        using var stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read);
        Length = stream.Length;
        if (Length == 0)
            return; // an empty file cannot be mapped; every view of it but the empty one is refused
        _file = MemoryMappedFile.CreateFromFile(stream, null, 0, MemoryMappedFileAccess.Read, HandleInheritability.None, leaveOpen: false);
        _accessor = _file.CreateViewAccessor(0, 0, MemoryMappedFileAccess.Read);
        byte* pointer = null;
        _accessor.SafeMemoryMappedViewHandle.AcquirePointer(ref pointer);
        _pointer = pointer + _accessor.PointerOffset;
    }

    /// <summary>The path it was opened by.</summary>
    public string Path { get; }

    /// <summary>File length in bytes.</summary>
    public long Length { get; }

    /// <summary>Maps a file.</summary>
    /// <exception cref="IOException">The file cannot be opened.</exception>
    public static MappedFile Open(string path) => new(path);

    /// <summary>A bounds-checked view of <paramref name="length"/> bytes at <paramref name="offset"/>.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The range is not inside the file.</exception>
    public ByteView View(long offset, long length)
    {
        if (offset < 0 || length < 0 || offset > Length - length)
            throw new ArgumentOutOfRangeException(nameof(offset), $"bytes [{offset}, {offset}+{length}) lie outside {Path} of {Length} bytes");
        ObjectDisposedException.ThrowIf(_pointer == null && Length > 0, this);
        return new ByteView(_pointer + offset, length, this);
    }

    // Where a view of this file begins in it.
    internal long OffsetOf(ByteView view) => view.Pointer - _pointer;

    // True when all of the piece is in the page cache, so that reading it costs a copy only; false when unknown.
    internal bool IsInPageCache(long offset, int length) => Posix.IsResident(_pointer + offset, length);

    /// <summary>Unmaps the file. Views of it must not be used afterwards.</summary>
    public void Dispose()
    {
        if (_pointer == null)
            return;
        _pointer = null;
        _accessor!.SafeMemoryMappedViewHandle.ReleasePointer();
        _accessor.Dispose();
        _file!.Dispose();
    }
}

/// <summary>A borrowed, read-only view of bytes in native or mapped memory.</summary>
public readonly unsafe struct ByteView
{
    /// <summary>First byte.</summary>
    public readonly byte* Pointer;

    /// <summary>Number of bytes.</summary>
    public readonly long Length;

    // The file that the bytes are mapped from, for readers that would rather read than fault; null for other memory.
    internal readonly MappedFile? File;

    internal ByteView(byte* pointer, long length, MappedFile? file = null)
    {
        Pointer = pointer;
        Length = length;
        File = file;
    }

    /// <summary>Part of this view.</summary>
    public ByteView Slice(long offset, long length)
    {
        if (offset < 0 || length < 0 || offset > Length - length)
            throw new ArgumentOutOfRangeException(nameof(offset), $"[{offset}, {offset}+{length}) lies outside a view of {Length} bytes");
        return new ByteView(Pointer + offset, length, File);
    }

    /// <summary>At most <see cref="int.MaxValue"/> bytes as a span.</summary>
    public ReadOnlySpan<byte> Span(long offset, int length)
    {
        ByteView part = Slice(offset, length);
        return new ReadOnlySpan<byte>(part.Pointer, length);
    }

    /// <summary>A view of native memory.</summary>
    public static ByteView Of(NativeBuffer buffer) => new(buffer.Pointer, buffer.Bytes);

    /// <summary>Reads the pages ahead in one go (2.5 times the speed of faulting them one by one).</summary>
    public void Populate() => Advise(Posix.AdvisePopulateRead);

    /// <summary>Lets the process drop its pages of a mapped file; they are read again if touched.</summary>
    public void Release() => Advise(Posix.AdviseDontNeed);

    /// <summary>Says that small pieces of it will be read here and there: then a page that is missing comes alone, not with the megabytes around it.</summary>
    public void ExpectRandomReads()
    {
        // A neighbour's share of the first and last page may be told so too.
        long page = Environment.SystemPageSize;
        long first = (long)Pointer & -page;
        Posix.Advise((void*)first, (nuint)((long)Pointer + Length - first), Posix.AdviseRandom);
    }

    private void Advise(int advice)
    {
        // Whole pages inside the view only: a neighbour may still be in use.
        long page = Environment.SystemPageSize;
        long first = ((long)Pointer + page - 1) & -page;
        long end = ((long)Pointer + Length) & -page;
        if (end > first)
            Posix.Advise((void*)first, (nuint)(end - first), advice);
    }
}
