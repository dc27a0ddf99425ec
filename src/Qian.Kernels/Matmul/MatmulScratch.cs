namespace Qian.Kernels;

/// <summary>
/// The packed blocks of one <see cref="Matmul.Multiply(in MatrixView, in MatrixView, in MatrixView, bool, MatmulPrecision, MatmulScratch, ThreadTeam)"/>
/// at a time: one block of b for all threads (it should stay in the last cache) and one of a for each (it should stay in the second).
/// The sizes do not depend on the matrices; larger ones are done block by block.
/// </summary>
public sealed unsafe class MatmulScratch : IDisposable
{
    internal const int SharedValues = 1 << 20;
    internal const int ValuesPerThread = 96 << 10;

    private readonly NativeBuffer _buffer;

    /// <summary>Scratch for teams of up to <paramref name="threadCount"/> threads; a larger team leaves its further threads idle.</summary>
    public MatmulScratch(int threadCount)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(threadCount, 1);
        ThreadCount = threadCount;
        _buffer = NativeBuffer.Allocate(sizeof(float) * (SharedValues + (long)threadCount * ValuesPerThread), hugePages: true);
    }

    /// <summary>Threads that can work at once.</summary>
    public int ThreadCount { get; }

    /// <summary>Native bytes held.</summary>
    public long Bytes => _buffer.Bytes;

    internal uint* Shared => (uint*)_buffer.Pointer;

    internal uint* OfThread(int slot) => Shared + SharedValues + (long)slot * ValuesPerThread;

    /// <summary>Frees the memory.</summary>
    public void Dispose() => _buffer.Dispose();
}
