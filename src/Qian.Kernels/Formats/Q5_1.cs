namespace Qian.Kernels;

// 32 values: half d, half m, 32 fifth bits and 16 bytes of low bits as in Q5_0; value = d * code + m.
internal sealed class Q5_1() : QuantFormat(WeightType.Q5_1, "Q5_1", Values, CodesAt + Values / 2)
{
    private const int Values = 32;
    private const int MinimumAt = 2;
    private const int HighBitsAt = 4;
    private const int CodesAt = 8;
    private const int Highest = 31;

    public override bool HasOffsets => true;

    public override float LargestMagnitude => BlockPieces.LargestHalf;

    protected override void UnpackBlock(ReadOnlySpan<byte> block, Span<sbyte> quants, Span<float> scales, Span<float> offsets)
    {
        scales[..2].Fill(BlockPieces.ReadHalf(block, 0));
        offsets[..2].Fill(BlockPieces.ReadHalf(block, MinimumAt));
        FiveBits.Unpack(block[HighBitsAt..], block[CodesAt..], zero: 0, quants);
    }

    protected override void EncodeBlock(ReadOnlySpan<float> values, ReadOnlySpan<float> weights, bool fast, Span<byte> block)
    {
        (float scale, float minimum) = OffsetSearch.Fit(values, weights, Highest, mayBePositive: true, fast);
        scale = BlockPieces.RoundScaleToHalf(scale);
        minimum = BlockPieces.RoundToHalf(minimum);
        Span<sbyte> codes = stackalloc sbyte[Values];
        OffsetSearch.Quantize(values, scale, minimum, Highest, codes);
        BlockPieces.WriteHalf(block, 0, scale);
        BlockPieces.WriteHalf(block, MinimumAt, minimum);
        FiveBits.Pack(codes, block[HighBitsAt..], block[CodesAt..]);
    }
}
