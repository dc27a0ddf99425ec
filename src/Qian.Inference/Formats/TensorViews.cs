using System.Runtime.InteropServices;
using Qian.Kernels;

namespace Qian.Inference.Formats;

// Rows as they lie in the file, in a type that kernels read.
internal sealed class StoredTensor : TensorSource
{
    private readonly WeightType _type;

    public StoredTensor(WeightType type, ByteView data)
    {
        _type = type;
        Data = data;
    }

    public override WeightType? Type => _type;

    public override ByteView Data { get; }

    public override void DecodeRows(int firstRow, int count, Span<float> destination)
    {
        long rowBytes = WeightFormat.RowBytes(_type, ColumnCount);
        for (int i = 0; i < count; i++)
            WeightFormat.Decode(_type, Data.Span((firstRow + i) * rowBytes, (int)rowBytes), destination.Slice(i * ColumnCount, ColumnCount));
    }
}

// Rows of another tensor, changed value by value: a norm's 1 + w, a decay's -exp.
internal sealed class MappedTensor : TensorSource
{
    private readonly TensorSource _source;
    private readonly Func<float, float> _map;

    public MappedTensor(TensorSource source, Func<float, float> map)
    {
        _source = source;
        _map = map;
    }

    public override WeightType? Type => null;

    public override ByteView Data => throw new InvalidOperationException($"{Name} is computed; it has no stored bytes");

    public override void DecodeRows(int firstRow, int count, Span<float> destination)
    {
        _source.DecodeRows(firstRow, count, destination);
        foreach (ref float value in destination[..(count * ColumnCount)])
            value = _map(value);
    }
}

// NVFP4 rows of a GGUF file, whose format keeps one more factor per matrix in a tensor beside the weight.
internal sealed class ScaledTensor : TensorSource
{
    private readonly StoredTensor _source;

    public ScaledTensor(StoredTensor source, float factor)
    {
        _source = source;
        Factor = factor;
    }

    public override WeightType? Type => null;

    public override ByteView Data => throw new InvalidOperationException($"{Name} is scaled; it has no stored bytes of its own");

    public override WeightType? BlockType => _source.Type;

    public override float Factor { get; }

    public override void DecodeRows(int firstRow, int count, Span<float> destination)
    {
        _source.DecodeRows(firstRow, count, destination);
        foreach (ref float value in destination[..(count * ColumnCount)])
            value *= Factor;
    }

    public override void WriteBlocks(int row, Span<byte> blocks) => _source.Data.Span((long)row * blocks.Length, blocks.Length).CopyTo(blocks);
}

// Rows firstRow … of a larger tensor: one expert, or the gate or up half of a fused one.
internal sealed class RowSlice : TensorSource
{
    private readonly TensorSource _source;
    private readonly int _firstRow;

    public RowSlice(TensorSource source, int firstRow)
    {
        _source = source;
        _firstRow = firstRow;
    }

    public override WeightType? Type => _source.Type;

    public override ByteView Data
    {
        get
        {
            long rowBytes = WeightFormat.RowBytes(_source.Type!.Value, ColumnCount);
            return _source.Data.Slice(_firstRow * rowBytes, RowCount * rowBytes);
        }
    }

    public override string? Encoding => _source.Encoding;

    public override WeightType? BlockType => _source.BlockType;

    public override float Factor => _source.Factor;

    public override void DecodeRows(int firstRow, int count, Span<float> destination) => _source.DecodeRows(_firstRow + firstRow, count, destination);

    public override void WriteBlocks(int row, Span<byte> blocks) => _source.WriteBlocks(_firstRow + row, blocks);
}

// FP8 E4M3 with one multiplier per block of rows and columns (named weight_scale_inv, but multiplied): value = fp8 * scale.
internal sealed class Fp8Tensor : TensorSource
{
    private static readonly float[] s_values = MakeValues();

    private readonly ByteView _bytes;   // [rows, columns]
    private readonly float[] _scales;   // [ceil(rows / block rows), ceil(columns / block columns)]
    private readonly Fp8Blocks _blocks;

    public Fp8Tensor(ByteView bytes, float[] scales, Fp8Blocks blocks)
    {
        _bytes = bytes;
        _scales = scales;
        _blocks = blocks;
    }

    // Of every E4M3 code.
    public static ReadOnlySpan<float> Values => s_values;

    public override WeightType? Type => null;

    public override ByteView Data => throw new InvalidOperationException($"{Name} is FP8; its rows have to be decoded");

    public override void DecodeRows(int firstRow, int count, Span<float> destination)
    {
        int scaleColumns = (ColumnCount + _blocks.Columns - 1) / _blocks.Columns;
        for (int i = 0; i < count; i++)
        {
            int row = firstRow + i;
            ReadOnlySpan<byte> stored = _bytes.Span((long)row * ColumnCount, ColumnCount);
            ReadOnlySpan<float> scales = _scales.AsSpan(row / _blocks.Rows * scaleColumns, scaleColumns);
            Span<float> values = destination.Slice(i * ColumnCount, ColumnCount);
            for (int c = 0; c < values.Length; c++)
                values[c] = s_values[stored[c]] * scales[c / _blocks.Columns];
        }
    }

    // 1 sign, 4 exponent (bias 7), 3 mantissa; no infinities, 0x7F and 0xFF are NaN.
    private static float[] MakeValues()
    {
        var values = new float[256];
        for (int code = 0; code < 256; code++)
        {
            int exponent = (code >> 3) & 15, mantissa = code & 7;
            float magnitude = exponent == 0 ? mantissa / 512f : (1 + mantissa / 8f) * MathF.Pow(2, exponent - 7);
            if ((code & 0x7F) == 0x7F)
                magnitude = float.NaN;
            values[code] = (code & 0x80) != 0 ? -magnitude : magnitude;
        }

        return values;
    }
}
