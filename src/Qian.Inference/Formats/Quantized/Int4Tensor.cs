using System.Buffers;
using System.Buffers.Binary;
using Qian.Kernels;

namespace Qian.Inference.Formats;

// A matrix of 4-bit codes in groups of columns, each group of a row with a scale and a zero point: the one definition of AWQ, GPTQ
// and compressed-tensors, value = (code - zero) * scale in float32. How a row's codes, scales and zero points are stored is the
// derived classes' business. Where groups are whole blocks of 32 columns, blocks hold the same values: Q4_0 where every zero point
// is 8, else Q8_0, whose signed bytes hold code - zero. Only the scale can differ there: it becomes a half float, which it mostly is.
internal abstract class Int4Tensor : TensorSource
{
    // What no zero point means: codes 0 … 15 stand for -8 … 7.
    protected const byte MiddleCode = 8;

    private const int BlockColumns = 32;

    private readonly Int4Groups _groups;
    private readonly string _path;

    protected Int4Tensor(string encoding, Int4Groups groups, string path)
    {
        Encoding = encoding;
        _groups = groups;
        _path = path;
    }

    public sealed override string Encoding { get; }

    public sealed override WeightType? Type => null;

    public sealed override ByteView Data => throw new InvalidOperationException($"{Name} is {Encoding}; its rows have to be decoded");

    public sealed override WeightType? BlockType => !_groups.AreBlocks(BlockColumns, ColumnCount) ? null : _groups.IsSymmetric ? WeightType.Q4_0 : WeightType.Q8_0;

    public sealed override void DecodeRows(int firstRow, int count, Span<float> destination)
    {
        using var row = new Row(ColumnCount, _groups.Count);
        for (int i = 0; i < count; i++)
        {
            Read(firstRow + i, row);
            Span<float> values = destination.Slice(i * ColumnCount, ColumnCount);
            for (int c = 0; c < values.Length; c++)
            {
                int group = _groups.Of(c);
                values[c] = (row.Codes[c] - row.Zeros[group]) * row.Scales[group];
            }
        }
    }

    public sealed override void WriteBlocks(int rowIndex, Span<byte> blocks)
    {
        using var row = new Row(ColumnCount, _groups.Count);
        Read(rowIndex, row);
        for (int c = 0; c < ColumnCount; c += BlockColumns)
        {
            int group = _groups.Of(c);
            var scale = (Half)row.Scales[group];
            if (!Half.IsFinite(scale))
                throw Bad(rowIndex, $"a scale of {row.Scales[group]:g4}, which no model has");
            BinaryPrimitives.WriteHalfLittleEndian(blocks, scale);
            Span<byte> codes = row.Codes.AsSpan(c, BlockColumns);
            if (_groups.IsSymmetric)
            {
                for (int i = 0; i < BlockColumns / 2; i++)
                    blocks[2 + i] = (byte)(codes[i] | codes[BlockColumns / 2 + i] << 4);
                blocks = blocks[(2 + BlockColumns / 2)..];
            }
            else
            {
                for (int i = 0; i < BlockColumns; i++)
                    blocks[2 + i] = unchecked((byte)(codes[i] - row.Zeros[group]));
                blocks = blocks[(2 + BlockColumns)..];
            }
        }
    }

    // Fills codes[ColumnCount] with 0 … 15, and scale and zero point of every group of the row.
    protected abstract void ReadRow(int row, Span<byte> codes, Span<float> scales, Span<byte> zeros);

    private void Read(int rowIndex, Row row)
    {
        ReadRow(rowIndex, row.Codes.AsSpan(0, ColumnCount), row.Scales.AsSpan(0, _groups.Count), row.Zeros.AsSpan(0, _groups.Count));
        if (_groups.IsSymmetric && row.Zeros.AsSpan(0, _groups.Count).ContainsAnyExcept(MiddleCode))
            throw Bad(rowIndex, "a zero point other than 8, although quantization_config says that codes are symmetric");
    }

    private BadModelFileException Bad(int row, string what) =>
        new($"{_path}: tensor {FileText.Quote(Name)}, row {row}: {what}; the file is damaged, or not of this configuration.");

    // Rented, since rows are read by the million.
    private readonly struct Row(int columnCount, int groupCount) : IDisposable
    {
        public byte[] Codes { get; } = ArrayPool<byte>.Shared.Rent(columnCount);

        public float[] Scales { get; } = ArrayPool<float>.Shared.Rent(groupCount);

        public byte[] Zeros { get; } = ArrayPool<byte>.Shared.Rent(groupCount);

        public void Dispose()
        {
            ArrayPool<byte>.Shared.Return(Codes);
            ArrayPool<float>.Shared.Return(Scales);
            ArrayPool<byte>.Shared.Return(Zeros);
        }
    }
}

// Which columns share a scale: runs of `Size`, or, when columns were quantised in the order of their activations, as `Order` says.
internal sealed class Int4Groups
{
    private readonly int _size;
    private readonly int[]? _order;

    // `order`: the group of every column, each below `count`; null for runs.
    public Int4Groups(int count, int size, bool isSymmetric, int[]? order = null)
    {
        (Count, _size, IsSymmetric) = (count, size, isSymmetric);
        _order = order is not null && IsRuns(order, size) ? null : order;
    }

    public int Count { get; }

    public bool IsSymmetric { get; }

    public int Of(int column) => _order is null ? column / _size : _order[column];

    // Are all columns of every block of one group?
    public bool AreBlocks(int blockColumns, int columnCount)
    {
        if (columnCount % blockColumns != 0)
            return false;
        if (_order is null)
            return _size % blockColumns == 0 || Count == 1;
        for (int c = 0; c < columnCount; c++)
        {
            if (_order[c] != _order[c / blockColumns * blockColumns])
                return false;
        }

        return true;
    }

    private static bool IsRuns(int[] order, int size)
    {
        for (int c = 0; c < order.Length; c++)
        {
            if (order[c] != c / size)
                return false;
        }

        return true;
    }
}
