using System.Runtime.InteropServices;

namespace Qian.Kernels;

/// <summary>
/// One region of memory for all matrices of a model that are repacked or converted. Matrices are added first, which lays them out; then the region
/// is allocated in huge pages and filled (<see cref="Fill"/>), or mapped from a file that holds it already (<see cref="Use"/>). Matrices can be
/// read from then on and live as long as the store. It knows no model and no file format.
/// </summary>
public sealed unsafe class WeightStore : IDisposable
{
    /// <summary>Names the layout of packed weights and of their order in a store; another number means that stored bytes must be made anew.</summary>
    public const int LayoutVersion = PanelLayout.Version;

    private const int Alignment = 64;
    private const int WindowBytes = 2 << 20;

    // Chunks between two reports; with several threads, few enough that waiting for the last of them costs nothing.
    private const int ChunksPerReport = 64;

    private readonly List<Entry> _entries = [];
    private NativeBuffer? _own;
    private StoreMapping? _mapping;

    /// <summary>Bytes of all matrices added so far, with what lies between them.</summary>
    public long Bytes { get; private set; }

    /// <summary>Matrices added so far.</summary>
    public int Count => _entries.Count;

    /// <summary>True when the region is a mapped file's.</summary>
    public bool IsMapped => _mapping is not null;

    /// <summary>Adds a matrix to be packed from rows in file order; <paramref name="source"/> must stay valid until <see cref="Fill"/> is done.</summary>
    /// <exception cref="ArgumentException">The type has no packed layout, or shape and bytes do not agree.</exception>
    public WeightMatrix Pack(WeightType type, int rowCount, int columnCount, ByteView source)
    {
        if (!WeightMatrix.HasPackedLayout(type))
            throw new ArgumentException($"{WeightFormat.Name(type)} has no packed layout.", nameof(type));
        WeightMatrix.CheckBytes(type, rowCount, columnCount, source);
        return Add(new WeightMatrix(type, rowCount, columnCount, isPacked: true), source, null);
    }

    /// <summary>Adds a matrix to be encoded from float rows, packed where the type has a packed layout.</summary>
    /// <exception cref="ArgumentException">The type cannot be encoded, or the shape is not positive or not whole blocks.</exception>
    public WeightMatrix Encode(WeightType type, int rowCount, int columnCount, RowSource rows)
    {
        WeightMatrix.CheckEncoding(type, rowCount, columnCount);
        return Add(new WeightMatrix(type, rowCount, columnCount, WeightMatrix.HasPackedLayout(type)), default, rows);
    }

    /// <summary>
    /// Adds a quantised matrix from rows of blocks that the caller makes, packed where the type has a packed layout; its values are those of the blocks
    /// times <paramref name="factor"/>.
    /// </summary>
    /// <exception cref="ArgumentException">The type is not quantised, or the shape is not positive or not whole blocks.</exception>
    public WeightMatrix Take(WeightType type, int rowCount, int columnCount, BlockSource blocks, float factor = 1)
    {
        if (!WeightFormat.IsQuantized(type))
            throw new ArgumentException($"{WeightFormat.Name(type)} has no blocks.", nameof(type));
        WeightMatrix.CheckEncoding(type, rowCount, columnCount);
        return Add(new WeightMatrix(type, rowCount, columnCount, WeightMatrix.HasPackedLayout(type), factor), default, null, blocks);
    }

    /// <summary>Type, shape and place of every matrix, one a line: what two stores must share for one's bytes to serve the other.</summary>
    public string Describe()
    {
        var text = new System.Text.StringBuilder();
        foreach (Entry entry in _entries)
            text.Append(System.Globalization.CultureInfo.InvariantCulture, $"{(int)entry.Matrix.Type} {entry.Matrix.RowCount} {entry.Matrix.ColumnCount} {entry.Offset} {entry.Matrix.Factor:R}\n");
        return text.ToString();
    }

    /// <summary>
    /// Allocates the region and fills it. Files are read front to back, ahead of the packing, those of a quarter of the machine's memory and more past
    /// the page cache. <paramref name="progress"/> hears the matrix finished last and the source bytes done, on the calling thread.
    /// </summary>
    /// <exception cref="IOException">A file could not be read.</exception>
    /// <exception cref="OutOfMemoryException">The system refuses the memory.</exception>
    public void Fill(ThreadTeam team, Action<int, long>? progress = null, CancellationToken cancellation = default) =>
        Fill(team, progress, GC.GetGCMemoryInfo().TotalAvailableMemoryBytes / 4, cancellation);

    internal void Fill(ThreadTeam team, Action<int, long>? progress, long directFromBytes, CancellationToken cancellation)
    {
        RequireUnplaced();
        _own = NativeBuffer.Allocate(Bytes, hugePages: true);
        Place(_own.Pointer);
        long done = PackAll(team, progress, directFromBytes, cancellation);
        for (int i = 0; i < _entries.Count; i++)
        {
            (WeightMatrix matrix, long offset, _, RowSource? rows, BlockSource? blocks) = _entries[i];
            if (rows is null && blocks is null)
                continue;
            cancellation.ThrowIfCancellationRequested();
            if (rows is not null)
                PanelPacking.Encode(matrix.Type, matrix.RowCount, matrix.ColumnCount, rows, _own.Pointer + offset, matrix.IsPacked, team);
            else
                PanelPacking.Encode(matrix.Type, matrix.RowCount, matrix.ColumnCount, blocks!, _own.Pointer + offset, matrix.IsPacked, team);
            done += (long)matrix.RowCount * matrix.RowBytes;
            progress?.Invoke(i, done);
        }
    }

    /// <summary>Takes the region from a file, which the store then owns, starting at <paramref name="offset"/>. Its pages are read ahead in the background.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The file is shorter.</exception>
    public void Use(MappedFile file, long offset)
    {
        ArgumentNullException.ThrowIfNull(file);
        RequireUnplaced();
        ByteView region = file.View(offset, Bytes);
        _mapping = new StoreMapping(file, region);
        Place(region.Pointer);
    }

    /// <summary>The bytes of a store that has been filled, for <see cref="Use"/> in another process.</summary>
    /// <exception cref="InvalidOperationException">The store has no memory of its own.</exception>
    public ByteView Region => _own is not null ? ByteView.Of(_own) : throw new InvalidOperationException("The store has not been filled.");

    /// <summary>Frees or unmaps the region. Its matrices must not be used afterwards.</summary>
    public void Dispose()
    {
        foreach (Entry entry in _entries)
            entry.Matrix.Dispose();
        _mapping?.Dispose();
        _own?.Dispose();
    }

    private WeightMatrix Add(WeightMatrix matrix, ByteView source, RowSource? rows, BlockSource? blocks = null)
    {
        RequireUnplaced();
        _entries.Add(new Entry(matrix, Bytes, source, rows, blocks));
        Bytes += (matrix.StoredBytes + Alignment - 1) & -Alignment;
        return matrix;
    }

    private void RequireUnplaced()
    {
        if (_own is not null || _mapping is not null)
            throw new InvalidOperationException("The store has its memory already.");
    }

    private void Place(byte* region)
    {
        foreach (Entry entry in _entries)
            entry.Matrix.Place(region + entry.Offset);
    }

    private long PackAll(ThreadTeam team, Action<int, long>? progress, long directFromBytes, CancellationToken cancellation)
    {
        PackChunk[] chunks = Chunks(out FileWindow[] windows);
        using FileWindows? files = windows.Length > 0 ? new FileWindows(windows, team.ThreadCount, directFromBytes) : null;
        long done = 0;
        for (int first = 0; first < chunks.Length; first += ChunksPerReport)
        {
            int count = Math.Min(ChunksPerReport, chunks.Length - first);
            cancellation.ThrowIfCancellationRequested();
            var job = new PackJob { Chunks = chunks, First = first, Files = files };
            team.Run(ref job, count);
            if (files?.Failure is { } failure)
                throw new IOException(failure.Message, failure);
            for (int i = first; i < first + count; i++)
                done += chunks[i].RowCount * chunks[i].RowBytes;
            progress?.Invoke(chunks[first + count - 1].Entry, done);
        }

        return done;
    }

    // In the order of the files, so that a disk is read front to back.
    private PackChunk[] Chunks(out FileWindow[] windows)
    {
        var order = new List<int>();
        for (int i = 0; i < _entries.Count; i++)
        {
            if (_entries[i].Rows is null && _entries[i].Blocks is null)
                order.Add(i);
        }

        order.Sort((a, b) => ((nuint)_entries[a].Source.Pointer).CompareTo((nuint)_entries[b].Source.Pointer));
        var chunks = new List<PackChunk>();
        var files = new List<FileWindow>();
        foreach (int index in order)
        {
            (WeightMatrix matrix, _, ByteView source, _, _) = _entries[index];
            long panelBytes = matrix.RowBytes * PanelLayout.PanelRows;
            int rowsPerChunk = (int)Math.Clamp(WindowBytes / panelBytes, 1, matrix.RowCount / PanelLayout.PanelRows + 1) * PanelLayout.PanelRows;
            for (int row = 0; row < matrix.RowCount; row += rowsPerChunk)
            {
                int rowCount = Math.Min(rowsPerChunk, matrix.RowCount - row);
                ByteView part = source.Slice(row * matrix.RowBytes, rowCount * matrix.RowBytes);
                // A panel of absurdly long rows is read where it is mapped.
                bool reads = part.File is not null && part.Length <= FileWindows.MostBytes;
                chunks.Add(new PackChunk(index, matrix.Layout, part.Pointer, matrix.Data + row / PanelLayout.PanelRows * matrix.Layout.PanelBytes, rowCount, matrix.RowBytes, reads ? files.Count : -1));
                if (reads)
                    files.Add(new FileWindow(part.File!, part.File!.OffsetOf(part), (int)part.Length));
            }
        }

        windows = [.. files];
        return [.. chunks];
    }

    private readonly record struct Entry(WeightMatrix Matrix, long Offset, ByteView Source, RowSource? Rows, BlockSource? Blocks);

    // Window is its number in the files' order, or -1 where the rows are read where they are.
    private sealed class PackChunk(int entry, PanelLayout layout, byte* source, byte* panels, int rowCount, long rowBytes, int window)
    {
        public int Entry => entry;

        public int RowCount => rowCount;

        public long RowBytes => rowBytes;

        public void Pack(FileWindows? files)
        {
            byte* rows = window < 0 ? source : files!.Take(window);
            for (int row = 0; rows != null && row < rowCount; row += PanelLayout.PanelRows)
                PanelPacking.PackPanel(layout, rows + row * rowBytes, rowBytes, Math.Min(PanelLayout.PanelRows, rowCount - row), panels + row / PanelLayout.PanelRows * layout.PanelBytes);
            if (window >= 0)
                files!.Give(window);
        }
    }

    private struct PackJob : IChunkedJob
    {
        public PackChunk[] Chunks;
        public int First;
        public FileWindows? Files;

        public readonly void Run(int chunk) => Chunks[First + chunk].Pack(Files);
    }
}
