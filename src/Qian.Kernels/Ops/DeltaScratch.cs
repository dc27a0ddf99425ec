namespace Qian.Kernels;

/// <summary>Working memory of <see cref="DeltaRule.Chunk"/> and <see cref="DeltaRule.StepKeepingState"/>, one slot per thread. One call uses it at a time.</summary>
public sealed unsafe class DeltaScratch : IDisposable
{
    private readonly NativeBuffer _buffer;

    /// <summary>Scratch for layers of one shape and up to <paramref name="threadCount"/> threads.</summary>
    /// <exception cref="ArgumentException">An impossible shape or thread count.</exception>
    public DeltaScratch(in DeltaShape shape, int threadCount)
    {
        shape.Check();
        Expect.AtLeast(threadCount, 1);
        Shape = shape;
        SlotCount = threadCount;
        SlotFloats = Math.Max(ChunkBuffers.Floats(shape), ((long)shape.KeyDim * shape.ValueDim + 15) & ~15L);
        _buffer = NativeBuffer.AllocateFloats(checked(SlotFloats * threadCount));
    }

    /// <summary>The shape it was made for.</summary>
    public DeltaShape Shape { get; }

    /// <summary>Native bytes held: 385 KiB per thread with keys and values 128 wide and three value heads to a key head.</summary>
    public long Bytes => _buffer.Bytes;

    internal int SlotCount { get; }

    internal long SlotFloats { get; }

    internal float* Pointer => (float*)_buffer.Pointer;

    /// <summary>Frees the memory.</summary>
    public void Dispose() => _buffer.Dispose();
}

/// <summary>
/// One slot cut into the buffers of a chunk of C = <see cref="DeltaRule.ChunkRows"/> rows. A panel is a matrix of few columns, as
/// wide as the tier likes (up to <see cref="MaxPanelWidth"/>), stored by itself so that a column block of a wide matrix lies
/// together in the first-level cache. Every buffer starts on a 64-byte border. The scalar tier uses the same memory unpanelled.
/// </summary>
internal readonly unsafe struct ChunkBuffers
{
    public const int MaxPanelWidth = 64;

    // Rows are worked on in fours.
    private const int RowGranule = 4;
    private const int Rows = DeltaRule.ChunkRows;

    /// <summary>Decays of the value head in work.</summary>
    public readonly ChunkDecays Decays;

    /// <summary>Keys, then queries: [2C, KeyDim].</summary>
    public readonly float* Inputs;

    /// <summary>Keys with a column per row: panels of [KeyDim, panel width], C columns in all.</summary>
    public readonly float* TurnedKeys;

    /// <summary>k_i·k_j, then q_i·k_j: [2C, C], lower triangles.</summary>
    public readonly float* Products;

    /// <summary>−β_i (k_i·k_j) e^{G_i−G_j}, then (q_i·k_j) e^{G_i−G_j}: [2C, C], lower triangles.</summary>
    public readonly float* Scores;

    /// <summary>V' of the panel in work: [C, panel width]. For the scalar tier all of V': [C, ValueDim].</summary>
    public readonly float* Values;

    /// <summary>The states of the value heads in work, <see cref="StateFloats"/> each, in panels of [KeyDim rounded up to fours, panel width].</summary>
    public readonly float* States;

    /// <summary>Floats of one value head in <see cref="States"/>.</summary>
    public readonly long StateFloats;

    public ChunkBuffers(float* slot, in DeltaShape shape)
    {
        Decays = new ChunkDecays(slot);
        Inputs = slot + ChunkDecays.Floats;
        TurnedKeys = Inputs + 2 * Rows * (long)shape.KeyDim;
        Products = TurnedKeys + Rows * (long)shape.KeyDim;
        Scores = Products + 2 * Rows * Rows;
        Values = Scores + 2 * Rows * Rows;
        States = Values + Rows * PaddedColumns(shape);
        StateFloats = PaddedState(shape);
    }

    public static int PaddedRows(int keyDim) => (keyDim + RowGranule - 1) / RowGranule * RowGranule;

    public static long Floats(in DeltaShape shape)
    {
        long small = ChunkDecays.Floats + 3L * Rows * shape.KeyDim + 4L * Rows * Rows;
        return small + Rows * PaddedColumns(shape) + shape.ValueHeadsPerKeyHead * PaddedState(shape);
    }

    private static long PaddedState(in DeltaShape shape) => PaddedRows(shape.KeyDim) * PaddedColumns(shape);

    private static long PaddedColumns(in DeltaShape shape) => ((long)shape.ValueDim + MaxPanelWidth - 1) / MaxPanelWidth * MaxPanelWidth;
}

/// <summary>The decays of one value head over the C = <see cref="DeltaRule.ChunkRows"/> rows of a chunk.</summary>
internal readonly unsafe struct ChunkDecays
{
    public const int Floats = 4 * DeltaRule.ChunkRows;

    /// <summary>G_i, the running sums of g, as a float and what the float leaves over: [C] each.</summary>
    public readonly float* Log, LogRest;

    /// <summary>e^{G_i} and e^{G_last − G_i}: [C] each.</summary>
    public readonly float* FromStart, ToEnd;

    public ChunkDecays(float* memory)
    {
        Log = memory;
        LogRest = Log + DeltaRule.ChunkRows;
        FromStart = LogRest + DeltaRule.ChunkRows;
        ToEnd = FromStart + DeltaRule.ChunkRows;
    }
}
