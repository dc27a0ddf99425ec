using System.Runtime.CompilerServices;

namespace Qian.Kernels;

/// <summary>
/// Reads pieces of rows of a weight matrix without managed references, so that thread chunks can carry it: the piece
/// [first, first + count) of a row as floats, or as signed bytes with a scale and an offset for every 16 values.
/// Knows both storages; speed is not its aim.
/// </summary>
internal readonly unsafe struct WeightRows
{
    // One block of the packed layout, and a multiple of every format's block.
    public const int BlockColumns = PanelLayout.BlockColumns;

    public readonly WeightType Type;
    public readonly bool IsPacked;
    public readonly int RowCount;
    public readonly int ColumnCount;
    public readonly byte* Data;
    public readonly long RowBytes;
    public readonly PanelLayout Layout;
    public readonly float Factor;

    public WeightRows(WeightMatrix matrix)
    {
        Type = matrix.Type;
        IsPacked = matrix.IsPacked;
        RowCount = matrix.RowCount;
        ColumnCount = matrix.ColumnCount;
        Data = matrix.Data;
        RowBytes = matrix.RowBytes;
        Layout = matrix.Layout;
        Factor = matrix.Factor;
    }

    public DotKind DotKind => IsPacked ? Layout.Kind : DotKind.U8By16;

    // first is a multiple of BlockColumns; so is count, unless the piece ends the row.
    [SkipLocalsInit]
    public void Decode(int row, int first, int count, float* values)
    {
        if (!IsPacked)
        {
            WeightFormat.Decode(Type, Source(row, first, count), new Span<float>(values, count));
            for (int i = 0; Factor != 1 && i < count; i++)
                values[i] *= Factor;
            return;
        }

        sbyte* quants = stackalloc sbyte[BlockColumns];
        float* scales = stackalloc float[BlockColumns / 16];
        float* offsets = stackalloc float[BlockColumns / 16];
        for (int done = 0; done < count; done += BlockColumns, values += BlockColumns)
        {
            int part = Math.Min(BlockColumns, count - done);
            Unpack(row, first + done, part, quants, scales, offsets);
            for (int i = 0; i < part; i++)
                values[i] = (quants[i] * scales[i / 16] + offsets[i / 16]) * Factor;
        }
    }

    // At most one block: value[i] = Factor * (quants[i] * scales[i / 16] + offsets[i / 16]). Quantised types only.
    public void Unpack(int row, int first, int count, sbyte* quants, float* scales, float* offsets)
    {
        int sixteens = count / 16;
        if (IsPacked)
            PanelRow.Unpack(Layout, Data, row, first / BlockColumns, count, quants, scales, offsets);
        else
            WeightFormat.UnpackInt8(Type, Source(row, first, count), new Span<sbyte>(quants, count), new Span<float>(scales, sixteens), new Span<float>(offsets, sixteens));
    }

    private ReadOnlySpan<byte> Source(int row, int first, int count) =>
        new(Data + row * RowBytes + WeightFormat.RowBytes(Type, first), (int)WeightFormat.RowBytes(Type, count));
}
