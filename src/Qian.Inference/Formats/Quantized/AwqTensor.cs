namespace Qian.Inference.Formats;

// AWQ's "gemm" layout, input features first: qweight int32 [in, out / 8], qzeros int32 [in / group, out / 8], scales [in / group, out].
// A word holds eight neighbouring outputs, the even ones in its low half: nibble i is output 0, 2, 4, 6, 1, 3, 5, 7 of the eight.
internal sealed class AwqTensor : Int4Tensor
{
    private readonly PackedWords _codes;
    private readonly PackedWords _zeros;
    private readonly ScaleTable _scales;

    public AwqTensor(PackedWords codes, PackedWords zeros, ScaleTable scales, Int4Groups groups, string path)
        : base("AWQ int4", groups, path)
    {
        (_codes, _zeros, _scales) = (codes, zeros, scales);
    }

    private static ReadOnlySpan<byte> Nibbles => [0, 4, 1, 5, 2, 6, 3, 7];

    protected override void ReadRow(int row, Span<byte> codes, Span<float> scales, Span<byte> zeros)
    {
        int word = row / 8, nibble = Nibbles[row % 8];
        _codes.ReadColumn(word, nibble, codes);
        _zeros.ReadColumn(word, nibble, zeros);
        _scales.ReadColumn(row, scales);
    }
}
