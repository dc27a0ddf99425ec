using System.Runtime.Intrinsics;

namespace Qian.Kernels;

// 32 values: half d, 16 bytes with code j in the low and code 16 + j in the high half; value = d * (code − 8).
internal sealed class Q4_0() : QuantFormat(WeightType.Q4_0, "Q4_0", Values, CodesAt + Values / 2)
{
    private const int Values = 32;
    private const int CodesAt = 2;
    private const sbyte Zero = 8;

    public override float LargestMagnitude => BlockPieces.LargestHalf * Zero;

    protected override void UnpackBlock(ReadOnlySpan<byte> block, Span<sbyte> quants, Span<float> scales, Span<float> offsets)
    {
        scales[..2].Fill(BlockPieces.ReadHalf(block, 0));
        Vector128<byte> bytes = BlockPieces.Load(block, CodesAt);
        Vector128<byte> zero = Vector128.Create((byte)Zero);
        BlockPieces.Store(BlockPieces.LowNibbles(bytes) - zero, quants, 0);
        BlockPieces.Store(BlockPieces.HighNibbles(bytes) - zero, quants, 16);
    }

    protected override void EncodeBlock(ReadOnlySpan<float> values, ReadOnlySpan<float> weights, bool fast, Span<byte> block)
    {
        float scale = BlockPieces.RoundScaleToHalf(ScaleSearch.Fit<Signed4>(values, weights, fast));
        if (scale == 0)
            return;
        Span<sbyte> codes = stackalloc sbyte[Values];
        ScaleSearch.Quantize<Signed4>(values, scale, codes);
        foreach (ref sbyte code in codes)
            code += Zero;
        BlockPieces.WriteHalf(block, 0, scale);
        BlockPieces.PackNibbles(codes, block[CodesAt..]);
    }
}
