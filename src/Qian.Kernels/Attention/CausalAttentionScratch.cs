namespace Qian.Kernels;

/// <summary>Working memory of <see cref="CausalAttention"/>, allocated once. One call uses it at a time.</summary>
public sealed unsafe class CausalAttentionScratch : IDisposable
{
    private readonly NativeBuffer _memory;
    private readonly long _threadFloats;

    /// <summary>Scratch for calls of up to <paramref name="maxRows"/> rows (all samples together) on up to <paramref name="threadCount"/> threads.</summary>
    /// <exception cref="ArgumentException">A size is not positive or the shape is not one that the kernels take.</exception>
    public CausalAttentionScratch(in AttentionShape shape, int maxRows, int threadCount)
    {
        shape.Check();
        Expect.AtLeast(maxRows, 1);
        Expect.AtLeast(threadCount, 1);
        Shape = shape;
        MaxRows = maxRows;
        ThreadCount = threadCount;
        _threadFloats = CausalBuffers.Floats(shape);
        long rowBytes = (long)shape.Heads * sizeof(double) + sizeof(ulong) + CausalAttention.UnitsPerRow * sizeof(CausalUnit);
        _memory = NativeBuffer.Allocate(checked(threadCount * _threadFloats * sizeof(float) + maxRows * rowBytes));
    }

    /// <summary>Native bytes held: with heads 256 wide 353 KiB per thread, and per row 40 bytes and 8 per query head.</summary>
    public long Bytes => _memory.Bytes;

    internal AttentionShape Shape { get; }

    internal int MaxRows { get; }

    internal int ThreadCount { get; }

    // y·dy, [maxRows, Heads].
    internal double* Dots => (double*)(Thread(0) + ThreadCount * _threadFloats);

    // Samples that have rows, the longest first; [maxRows].
    internal ulong* Order => (ulong*)(Dots + (long)MaxRows * Shape.Heads);

    // What the threads take from; [UnitsPerRow · maxRows].
    internal CausalUnit* Units => (CausalUnit*)(Order + MaxRows);

    /// <summary>Frees the memory.</summary>
    public void Dispose() => _memory.Dispose();

    internal CausalBuffers Buffers(int threadIndex) => new(Thread(threadIndex), Shape);

    private float* Thread(int threadIndex) => (float*)_memory.Pointer + threadIndex * _threadFloats;
}

/// <summary>
/// One thread's buffers for tiles of R = <see cref="CausalAttention.TileRows"/> rows, all on 64-byte borders. At head size 256
/// they fill a third of a second-level cache of 1 MiB.
/// </summary>
internal readonly unsafe struct CausalBuffers
{
    // The widest panel of any tier.
    private const int PanelColumns = 32;
    private const int Rows = CausalAttention.TileRows;

    /// <summary>Panels of a transposed tile: [HeadDim, R] each.</summary>
    public readonly float* FirstTurned, SecondTurned;

    /// <summary>Panels of a tile's rows: [R, HeadDim rounded up to a panel] each.</summary>
    public readonly float* KeyRows, QueryRows, GradientRows;

    /// <summary>Products of two tiles: [R, R] each.</summary>
    public readonly float* Scores, Slopes;

    /// <summary>Per query of the tile: [R] each.</summary>
    public readonly float* Max, Total, Factor;

    public CausalBuffers(float* memory, in AttentionShape shape)
    {
        FirstTurned = memory;
        SecondTurned = FirstTurned + Rows * shape.HeadDim;
        KeyRows = SecondTurned + Rows * shape.HeadDim;
        QueryRows = KeyRows + Rows * Padded(shape);
        GradientRows = QueryRows + Rows * Padded(shape);
        Scores = GradientRows + Rows * Padded(shape);
        Slopes = Scores + Rows * Rows;
        Max = Slopes + Rows * Rows;
        Total = Max + Rows;
        Factor = Total + Rows;
    }

    public static long Floats(in AttentionShape shape) => Rows * (2L * shape.HeadDim + 3L * Padded(shape) + 2L * Rows + 3);

    private static int Padded(in AttentionShape shape) => (shape.HeadDim + PanelColumns - 1) / PanelColumns * PanelColumns;
}
