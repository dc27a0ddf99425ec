namespace Qian.Kernels;

/// <summary>Moves whole rows: pick, put back, set side by side. Plain copies, the same in every tier.</summary>
public static unsafe class Rows
{
    /// <summary>destination[i] = source[rowIndices[i]], rows of <paramref name="width"/> floats.</summary>
    /// <exception cref="ArgumentException">A row index lies outside <paramref name="source"/>, or <paramref name="destination"/> is too short.</exception>
    public static void Gather(FloatView source, int width, ReadOnlySpan<int> rowIndices, FloatView destination)
    {
        Expect.AtLeast(width, 1);
        Expect.Floats(destination, (long)rowIndices.Length * width);
        CheckIndices(rowIndices, source.Length / width);
        for (int i = 0; i < rowIndices.Length; i++)
            Copy(source.Pointer + (long)rowIndices[i] * width, destination.Pointer + (long)i * width, width);
    }

    /// <summary>destination[rowIndices[i]] = source[i], rows of <paramref name="width"/> floats.</summary>
    /// <exception cref="ArgumentException">A row index lies outside <paramref name="destination"/>, or <paramref name="source"/> is too short.</exception>
    public static void Scatter(FloatView source, int width, ReadOnlySpan<int> rowIndices, FloatView destination)
    {
        Expect.AtLeast(width, 1);
        Expect.Floats(source, (long)rowIndices.Length * width);
        CheckIndices(rowIndices, destination.Length / width);
        for (int i = 0; i < rowIndices.Length; i++)
            Copy(source.Pointer + (long)i * width, destination.Pointer + (long)rowIndices[i] * width, width);
    }

    /// <summary>destination [rowCount, 2·width]: row t is [left_t | right_t].</summary>
    /// <exception cref="ArgumentException">A view is too short.</exception>
    public static void Concatenate(FloatView left, FloatView right, FloatView destination, int rowCount, int width)
    {
        Expect.AtLeast(rowCount, 0);
        Expect.AtLeast(width, 1);
        Expect.Floats(left, (long)rowCount * width);
        Expect.Floats(right, (long)rowCount * width);
        Expect.Floats(destination, (long)rowCount * width * 2);
        for (long row = 0; row < rowCount; row++)
        {
            float* to = destination.Pointer + row * width * 2;
            Copy(left.Pointer + row * width, to, width);
            Copy(right.Pointer + row * width, to + width, width);
        }
    }

    private static void Copy(float* from, float* to, int width) =>
        new ReadOnlySpan<float>(from, width).CopyTo(new Span<float>(to, width));

    private static void CheckIndices(ReadOnlySpan<int> rowIndices, long rowLimit)
    {
        for (int i = 0; i < rowIndices.Length; i++)
        {
            if (rowIndices[i] < 0 || rowIndices[i] >= rowLimit)
                throw new ArgumentException($"row index {rowIndices[i]} at {i}: expected 0 to {rowLimit - 1}", nameof(rowIndices));
        }
    }
}
