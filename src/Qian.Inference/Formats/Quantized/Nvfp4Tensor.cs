using Qian.Kernels;

namespace Qian.Inference.Formats;

// NVFP4 as ModelOpt and compressed-tensors store it: E2M1 codes [out, in / 2], the even column in the low half of a byte; E4M3 scales
// [out, in / 16]; and one float32 factor. value = (level * scale) * factor in float32, the first product exact. The kernels' NVFP4
// blocks are the same codes and scales in another order, with the factor kept beside the matrix, so nothing is lost.
internal sealed class Nvfp4Tensor : TensorSource
{
    public const int GroupColumns = 16;

    private const int BlockColumns = 64;
    private const byte LargestScale = 0x7E; // what follows is NaN, then the negative ones

    private readonly ByteView _codes;
    private readonly ByteView _scales;
    private readonly float _factor;
    private readonly string _path;

    public Nvfp4Tensor(ByteView codes, ByteView scales, float factor, string path)
    {
        (_codes, _scales, _factor, _path) = (codes, scales, factor, path);
    }

    public override string Encoding => "NVFP4";

    public override WeightType? Type => null;

    public override ByteView Data => throw new InvalidOperationException($"{Name} is NVFP4; its rows have to be decoded");

    public override WeightType? BlockType => ColumnCount % BlockColumns == 0 ? WeightType.NVFP4 : null;

    public override float Factor => _factor;

    private static ReadOnlySpan<float> Levels => [0, 0.5f, 1, 1.5f, 2, 3, 4, 6, -0f, -0.5f, -1, -1.5f, -2, -3, -4, -6];

    public override void DecodeRows(int firstRow, int count, Span<float> destination)
    {
        for (int i = 0; i < count; i++)
        {
            ReadOnlySpan<byte> codes = Codes(firstRow + i), scales = Scales(firstRow + i);
            Span<float> values = destination.Slice(i * ColumnCount, ColumnCount);
            for (int c = 0; c < values.Length; c++)
                values[c] = Levels[codes[c / 2] >> 4 * (c % 2) & 15] * Fp8Tensor.Values[scales[c / GroupColumns]] * _factor;
        }
    }

    // Per 64 columns: the four scales, then per sixteen columns eight bytes, column j in the low and 8 + j in the high half.
    public override void WriteBlocks(int row, Span<byte> blocks)
    {
        ReadOnlySpan<byte> codes = Codes(row), scales = Scales(row);
        for (int c = 0; c < ColumnCount; c += BlockColumns)
        {
            scales.Slice(c / GroupColumns, BlockColumns / GroupColumns).CopyTo(blocks);
            blocks = blocks[(BlockColumns / GroupColumns)..];
            for (int group = c; group < c + BlockColumns; group += GroupColumns, blocks = blocks[8..])
            {
                for (int j = 0; j < 8; j++)
                    blocks[j] = (byte)(codes[(group + j) / 2] >> 4 * (j % 2) & 15 | (codes[(group + j + 8) / 2] >> 4 * (j % 2) & 15) << 4);
            }
        }
    }

    private ReadOnlySpan<byte> Codes(int row) => _codes.Span((long)row * (ColumnCount / 2), ColumnCount / 2);

    private ReadOnlySpan<byte> Scales(int row)
    {
        ReadOnlySpan<byte> scales = _scales.Span((long)row * (ColumnCount / GroupColumns), ColumnCount / GroupColumns);
        return scales.ContainsAnyExceptInRange((byte)0, LargestScale)
            ? throw new BadModelFileException($"{_path}: tensor {FileText.Quote(Name)}, row {row}: a scale that is negative or not a number; the file is damaged.")
            : scales;
    }
}
