using System.Runtime.Intrinsics;

namespace Qian.Kernels;

// 32 values: half d, half m, 16 bytes of codes as in Q4_0; value = d * code + m.
internal sealed class Q4_1() : QuantFormat(WeightType.Q4_1, "Q4_1", Values, CodesAt + Values / 2)
{
    private const int Values = 32;
    private const int MinimumAt = 2;
    private const int CodesAt = 4;
    private const int Highest = 15;

    public override bool HasOffsets => true;

    public override float LargestMagnitude => BlockPieces.LargestHalf;

    protected override void UnpackBlock(ReadOnlySpan<byte> block, Span<sbyte> quants, Span<float> scales, Span<float> offsets)
    {
        scales[..2].Fill(BlockPieces.ReadHalf(block, 0));
        offsets[..2].Fill(BlockPieces.ReadHalf(block, MinimumAt));
        Vector128<byte> bytes = BlockPieces.Load(block, CodesAt);
        BlockPieces.Store(BlockPieces.LowNibbles(bytes), quants, 0);
        BlockPieces.Store(BlockPieces.HighNibbles(bytes), quants, 16);
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
        BlockPieces.PackNibbles(codes, block[CodesAt..]);
    }
}
