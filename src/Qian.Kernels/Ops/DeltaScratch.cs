namespace Qian.Kernels;

/// <summary>Working memory of <see cref="DeltaRule.Chunk"/>, one slot per thread. One call uses it at a time.</summary>
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
        SlotFloats = ChunkBuffers.Floats(shape);
        _buffer = NativeBuffer.AllocateFloats(checked(SlotFloats * threadCount));
    }

    /// <summary>The shape it was made for.</summary>
    public DeltaShape Shape { get; }

    /// <summary>Native bytes held.</summary>
    public long Bytes => _buffer.Bytes;

    internal int SlotCount { get; }

    internal long SlotFloats { get; }

    internal float* Pointer => _buffer.AllFloats.Pointer;

    /// <summary>Frees the memory.</summary>
    public void Dispose() => _buffer.Dispose();
}

/// <summary>
/// One slot cut into the buffers of a chunk (C = <see cref="DeltaRule.ChunkRows"/> rows). Every buffer starts on a 64-byte border;
/// value columns are rounded up to whole panels of the widest tier.
/// </summary>
internal readonly unsafe struct ChunkBuffers
{
    private const int Rows = DeltaRule.ChunkRows;
    private const int Granule = 64;

    /// <summary>G_i, the running sums of g: [C] doubles.</summary>
    public readonly double* LogDecay;

    /// <summary>[2C, padded ValueDim]: V' over the output.</summary>
    public readonly float* Products;

    public ChunkBuffers(float* slot, in DeltaShape shape)
    {
        LogDecay = (double*)slot;
        Products = slot + 2 * Rows;
    }

    public static long Floats(in DeltaShape shape)
    {
        long columns = RoundUp(shape.ValueDim);
        return 2 * Rows + 2 * Rows * columns;
    }

    private static long RoundUp(int count) => ((long)count + Granule - 1) / Granule * Granule;
}
