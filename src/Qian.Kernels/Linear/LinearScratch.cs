namespace Qian.Kernels;

/// <summary>Sees the rows that a call of <see cref="Linear.Project"/> multiplies: row t of <paramref name="x"/> starts at t * <paramref name="xStride"/>.</summary>
public delegate void ProjectionObserver(FloatView x, int xStride, int rowCount, ReadOnlySpan<Projection> projections);

/// <summary>
/// The memory that <see cref="Linear.Project"/> needs beside its arguments: the activations rounded to 8 bits, for one call at
/// a time. Allocated once and reused, so that a pass allocates nothing.
/// </summary>
public sealed class LinearScratch : IDisposable
{
    /// <summary>Scratch for calls of at most <paramref name="maxRows"/> rows of <paramref name="maxColumns"/> values.</summary>
    public LinearScratch(int maxRows, int maxColumns, int threadCount)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(maxRows, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(maxColumns, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(threadCount, 1);
        MaxRows = maxRows;
        MaxColumns = maxColumns;
        Activations = NativeBuffer.Allocate(ActivationTiles.Bytes(maxRows, maxColumns), hugePages: true);
    }

    /// <summary>Rows that fit.</summary>
    public int MaxRows { get; }

    /// <summary>Columns that fit.</summary>
    public int MaxColumns { get; }

    /// <summary>Native bytes held.</summary>
    public long Bytes => Activations.Bytes;

    /// <summary>Sees the inputs of every call with this scratch while set: for statistics over activations.</summary>
    public ProjectionObserver? Observer { get; set; }

    internal NativeBuffer Activations { get; }

    /// <summary>Frees the memory.</summary>
    public void Dispose() => Activations.Dispose();
}
