namespace Qian.Inference.Formats;

// compressed-tensors' "pack-quantized" layout, output features first: weight_packed int32 [out, in / 8] from the low nibble up,
// weight_scale [out, groups], and, unless codes are symmetric, weight_zero_point int32 [out / 8, groups], packed along outputs.
// Codes and zero points are signed there and stored with 8 added, which cancels out.
internal sealed class PackQuantizedTensor : Int4Tensor
{
    private readonly PackedWords _codes;
    private readonly PackedWords? _zeros;
    private readonly ScaleTable _scales;

    public PackQuantizedTensor(PackedWords codes, PackedWords? zeros, ScaleTable scales, Int4Groups groups, string path)
        : base("compressed-tensors int4", groups, path)
    {
        (_codes, _zeros, _scales) = (codes, zeros, scales);
    }

    protected override void ReadRow(int row, Span<byte> codes, Span<float> scales, Span<byte> zeros)
    {
        for (int c = 0; c < codes.Length; c++)
            codes[c] = (byte)(_codes.At(row, c / 8) >> 4 * (c % 8) & 15);
        for (int g = 0; g < zeros.Length; g++)
            zeros[g] = _zeros is null ? MiddleCode : (byte)(_zeros.At(row / 8, g) >> 4 * (row % 8) & 15);
        _scales.ReadRow(row, scales);
    }
}
