namespace Qian.Kernels;

/// <summary>Working memory of <see cref="CausalAttention"/>, allocated once. One call uses it at a time.</summary>
public sealed unsafe class CausalAttentionScratch : IDisposable
{
    private readonly NativeBuffer _memory;

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
        _memory = NativeBuffer.Allocate(checked((long)maxRows * shape.Heads * sizeof(double)));
    }

    /// <summary>Native bytes held.</summary>
    public long Bytes => _memory.Bytes;

    internal AttentionShape Shape { get; }

    internal int MaxRows { get; }

    internal int ThreadCount { get; }

    // y·dy, [maxRows, Heads].
    internal double* Dots => (double*)_memory.Pointer;

    /// <summary>Frees the memory.</summary>
    public void Dispose() => _memory.Dispose();
}
