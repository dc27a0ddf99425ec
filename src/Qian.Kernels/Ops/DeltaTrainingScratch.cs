namespace Qian.Kernels;

/// <summary>Working memory of the training forms of <see cref="DeltaRule"/>, forward and backward, one slot per thread. One call uses it at a time.</summary>
public sealed unsafe class DeltaTrainingScratch : IDisposable
{
    private readonly NativeBuffer _buffer;

    /// <summary>Scratch for layers of one shape and up to <paramref name="threadCount"/> threads.</summary>
    /// <exception cref="ArgumentException">An impossible shape or thread count, or heads beyond all measure.</exception>
    public DeltaTrainingScratch(in DeltaShape shape, int threadCount)
    {
        shape.Check();
        Expect.AtLeast(threadCount, 1);
        Shape = shape;
        SlotCount = threadCount;
        long floats = Math.Max(DeltaBackwardBuffers.Floats(shape), Math.Max(ChunkBuffers.Floats(shape), ScalarBackwardBuffers.Floats(shape)));
        if (floats > int.MaxValue - 16)
            throw new ArgumentException($"{shape}: a slot of {floats} floats is too large", nameof(shape));
        SlotFloats = (floats + 15) / 16 * 16;
        _buffer = NativeBuffer.AllocateFloats(checked(SlotFloats * threadCount));
    }

    /// <summary>The shape it was made for.</summary>
    public DeltaShape Shape { get; }

    /// <summary>Native bytes held: 1.05 MiB per thread with keys and values 128 wide and three value heads to a key head.</summary>
    public long Bytes => _buffer.Bytes;

    internal int SlotCount { get; }

    internal long SlotFloats { get; }

    internal float* Pointer => (float*)_buffer.Pointer;

    /// <summary>Frees the memory.</summary>
    public void Dispose() => _buffer.Dispose();
}

/// <summary>One slot cut into the doubles of the scalar backward; C = <see cref="DeltaRule.ChunkRows"/>.</summary>
internal readonly unsafe struct ScalarBackwardBuffers
{
    private const int Rows = DeltaRule.ChunkRows;

    /// <summary>One column of the state before each row and after the last: [C + 1, KeyDim].</summary>
    public readonly double* Columns;

    /// <summary>The gradient of the state, a row per value column: [ValueDim, KeyDim].</summary>
    public readonly double* StateGradient;

    /// <summary>Gradients of the chunk's queries and keys: [C, KeyDim] each.</summary>
    public readonly double* QueryGradient, KeyGradient;

    /// <summary>Per row: v − kᵀS of the column in work, and the gradients of g and beta.</summary>
    public readonly double* Error, GateGradient, BetaGradient;

    public ScalarBackwardBuffers(float* slot, in DeltaShape shape)
    {
        Columns = (double*)slot;
        StateGradient = Columns + (Rows + 1L) * shape.KeyDim;
        QueryGradient = StateGradient + (long)shape.KeyDim * shape.ValueDim;
        KeyGradient = QueryGradient + (long)Rows * shape.KeyDim;
        Error = KeyGradient + (long)Rows * shape.KeyDim;
        GateGradient = Error + Rows;
        BetaGradient = GateGradient + Rows;
    }

    public static long Floats(in DeltaShape shape) => 2 * ((3L * Rows + 1) * shape.KeyDim + (long)shape.KeyDim * shape.ValueDim + 3L * Rows);
}
