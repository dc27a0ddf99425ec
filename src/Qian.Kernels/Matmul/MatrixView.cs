namespace Qian.Kernels;

/// <summary>
/// A matrix within a view of floats: element (i, j) is float i · rowStride + j · columnStride. Checked when it is made, so that whoever
/// holds one may read every element. A transposed matrix is the same floats with the strides swapped, and costs nothing.
/// </summary>
public readonly unsafe struct MatrixView
{
    /// <summary>A matrix of any non-negative strides, counted in floats.</summary>
    /// <exception cref="ArgumentException">A size or stride is negative, or an element lies outside <paramref name="data"/>.</exception>
    public MatrixView(FloatView data, int rowCount, int columnCount, long rowStride, long columnStride)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(rowCount);
        ArgumentOutOfRangeException.ThrowIfNegative(columnCount);
        ArgumentOutOfRangeException.ThrowIfNegative(rowStride);
        ArgumentOutOfRangeException.ThrowIfNegative(columnStride);
        if (rowCount > 0 && columnCount > 0)
        {
            Int128 last = (Int128)(rowCount - 1) * rowStride + (Int128)(columnCount - 1) * columnStride;
            if (last >= data.Length)
                throw new ArgumentException(
                    $"A matrix of {rowCount} x {columnCount} at strides {rowStride} and {columnStride} does not fit a view of {data.Length} floats.", nameof(data));
        }

        Data = data;
        RowCount = rowCount;
        ColumnCount = columnCount;
        RowStride = rowStride;
        ColumnStride = columnStride;
    }

    /// <summary>Rows.</summary>
    public int RowCount { get; }

    /// <summary>Columns.</summary>
    public int ColumnCount { get; }

    /// <summary>Floats from a row to the next.</summary>
    public long RowStride { get; }

    /// <summary>Floats from a column to the next.</summary>
    public long ColumnStride { get; }

    /// <summary>The same floats with rows and columns exchanged.</summary>
    public MatrixView Transposed => new(Data, ColumnCount, RowCount, ColumnStride, RowStride);

    internal FloatView Data { get; }

    internal float* Pointer => Data.Pointer;

    /// <summary>Rows one after the other.</summary>
    /// <exception cref="ArgumentException">A size is negative or the matrix does not fit.</exception>
    public static MatrixView Rows(FloatView data, int rows, int columns) => new(data, rows, columns, columns, 1);

    /// <summary>Rows of <paramref name="columns"/> floats, <paramref name="rowStride"/> floats apart (part of a wider matrix).</summary>
    /// <exception cref="ArgumentException">A size is negative or the matrix does not fit.</exception>
    public static MatrixView Rows(FloatView data, int rows, int columns, int rowStride) => new(data, rows, columns, rowStride, 1);
}
