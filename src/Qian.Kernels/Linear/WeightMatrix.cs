namespace Qian.Kernels;

/// <summary>Where the bytes of a weight matrix live.</summary>
public enum WeightStorage
{
    /// <summary>Rows stay where they are; the caller keeps that memory alive.</summary>
    Mapped,

    /// <summary>Types with a packed layout are repacked into own huge-page memory; types without one stay mapped.</summary>
    Packed,
}

/// <summary>Fills <paramref name="destination"/> with the float values of row <paramref name="rowIndex"/>. Called from several threads at once.</summary>
public delegate void RowSource(int rowIndex, Span<float> destination);

/// <summary>Fills <paramref name="destination"/> with row <paramref name="rowIndex"/> as blocks of the matrix' type. Called from several threads at once.</summary>
public delegate void BlockSource(int rowIndex, Span<byte> destination);

/// <summary>
/// A weight matrix [out, in]: either rows in file order, borrowed or owned, or 16-row panels in the packed layout
/// (<see cref="PanelLayout"/>). Immutable once built, so any number of threads may read it.
/// </summary>
public sealed unsafe class WeightMatrix : IDisposable
{
    private readonly NativeBuffer? _own;
    private byte* _data;

    private WeightMatrix(WeightType type, int rowCount, int columnCount, byte* data, NativeBuffer? own, bool isPacked)
        : this(type, rowCount, columnCount, isPacked)
    {
        _data = data;
        _own = own;
    }

    // Laid out, its memory still to come: a store places all its matrices at once.
    internal WeightMatrix(WeightType type, int rowCount, int columnCount, bool isPacked, float factor = 1)
    {
        Type = type;
        Factor = factor;
        RowCount = rowCount;
        ColumnCount = columnCount;
        IsPacked = isPacked;
        RowBytes = WeightFormat.RowBytes(type, columnCount);
        Layout = isPacked ? PanelLayout.For(type, columnCount) : default;
        StoredBytes = isPacked ? Layout.TotalBytes(rowCount) : rowCount * RowBytes;
    }

    /// <summary>Storage type.</summary>
    public WeightType Type { get; }

    /// <summary>Output features.</summary>
    public int RowCount { get; }

    /// <summary>Input features.</summary>
    public int ColumnCount { get; }

    /// <summary>What the values of the blocks are multiplied by: 1, unless a quantised format keeps a scale of the whole matrix apart.</summary>
    public float Factor { get; }

    /// <summary>True when the rows are interleaved in panels.</summary>
    public bool IsPacked { get; }

    /// <summary>Bytes that one full pass over the weights reads.</summary>
    public long StoredBytes { get; }

    internal long RowBytes { get; }

    internal PanelLayout Layout { get; }

    // First byte of row 0, or of panel 0 when packed.
    internal byte* Data
    {
        get
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            return _data != null ? _data : throw new InvalidOperationException("The matrix' store has not been filled yet.");
        }
    }

    private bool _disposed;

    internal void Place(byte* data) => _data = data;

    /// <summary>
    /// A matrix over <paramref name="data"/>, which holds rowCount rows of the type's blocks without padding. For one matrix alone; those of a model
    /// share a <see cref="WeightStore"/>.
    /// </summary>
    /// <exception cref="ArgumentException">The type is unknown, the shape is not positive or not whole blocks, or the data's length does not match it.</exception>
    public static WeightMatrix Create(
        WeightType type, int rowCount, int columnCount, ByteView data, WeightStorage storage, ThreadTeam team)
    {
        CheckBytes(type, rowCount, columnCount, data);
        if (storage == WeightStorage.Mapped || !HasPackedLayout(type))
            return new WeightMatrix(type, rowCount, columnCount, data.Pointer, null, isPacked: false);

        NativeBuffer panels = NativeBuffer.Allocate(PackedBytes(type, rowCount, columnCount), hugePages: true);
        PanelPacking.Pack(type, rowCount, columnCount, data, panels.Pointer, team);
        return new WeightMatrix(type, rowCount, columnCount, panels.Pointer, panels, isPacked: true);
    }

    /// <summary>Encodes float rows to <paramref name="type"/> in own memory, packed where the type has a packed layout.</summary>
    /// <exception cref="ArgumentException">The type cannot be encoded, or the shape is not positive or not whole blocks.</exception>
    public static WeightMatrix FromRows(WeightType type, int rowCount, int columnCount, RowSource rows, ThreadTeam team)
    {
        CheckEncoding(type, rowCount, columnCount);
        bool pack = HasPackedLayout(type);
        long bytes = pack ? PackedBytes(type, rowCount, columnCount) : rowCount * WeightFormat.RowBytes(type, columnCount);
        NativeBuffer own = NativeBuffer.Allocate(bytes, hugePages: true);
        try
        {
            PanelPacking.Encode(type, rowCount, columnCount, rows, own.Pointer, pack, team);
        }
        catch
        {
            own.Dispose();
            throw;
        }

        return new WeightMatrix(type, rowCount, columnCount, own.Pointer, own, pack);
    }

    /// <summary>True for the types that <see cref="WeightStorage.Packed"/> repacks.</summary>
    public static bool HasPackedLayout(WeightType type) => PanelLayout.Exists(type);

    /// <summary>Bytes of a packed matrix; 0 for a type without a packed layout, which takes no memory of its own.</summary>
    /// <exception cref="ArgumentException">The shape is not positive or not whole blocks.</exception>
    public static long PackedBytes(WeightType type, int rowCount, int columnCount)
    {
        CheckShape(type, rowCount, columnCount);
        return HasPackedLayout(type) ? PanelLayout.For(type, columnCount).TotalBytes(rowCount) : 0;
    }

    /// <summary>Writes the float values of one row, <see cref="ColumnCount"/> of them. For embeddings, tests and the exact path.</summary>
    /// <exception cref="ArgumentException">No such row, or the destination has another length.</exception>
    public void DecodeRow(int rowIndex, Span<float> destination)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(rowIndex);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(rowIndex, RowCount);
        if (destination.Length != ColumnCount)
            throw new ArgumentException($"A row has {ColumnCount} values, the destination {destination.Length}.", nameof(destination));
        fixed (float* values = destination)
            new WeightRows(this).Decode(rowIndex, 0, ColumnCount, values);
    }

    /// <summary>Frees own memory; borrowed memory stays the caller's.</summary>
    public void Dispose()
    {
        _disposed = true;
        _own?.Dispose();
    }

    internal static void CheckBytes(WeightType type, int rowCount, int columnCount, ByteView data)
    {
        long rowBytes = CheckShape(type, rowCount, columnCount);
        if (data.Length != rowCount * rowBytes)
            throw new ArgumentException($"A {WeightFormat.Name(type)} matrix [{rowCount}, {columnCount}] takes {rowCount * rowBytes} bytes, not {data.Length}.", nameof(data));
    }

    internal static void CheckEncoding(WeightType type, int rowCount, int columnCount)
    {
        CheckShape(type, rowCount, columnCount);
        if (!WeightFormat.CanEncode(type))
            throw new ArgumentException($"{WeightFormat.Name(type)} cannot be encoded.", nameof(type));
    }

    private static long CheckShape(WeightType type, int rowCount, int columnCount)
    {
        long rowBytes = WeightFormat.RowBytes(type, columnCount);
        ArgumentOutOfRangeException.ThrowIfLessThan(rowCount, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(columnCount, 1);
        if (WeightFormat.IsQuantized(type) && columnCount % 32 != 0)
            throw new ArgumentException($"Quantised rows of {columnCount} values: expected a multiple of 32.", nameof(columnCount));
        return rowBytes;
    }
}
