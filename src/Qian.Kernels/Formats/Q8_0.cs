using System.Runtime.Intrinsics;

namespace Qian.Kernels;

// 32 signed bytes under a half scale: value = d * q.
// Readers accept the −128 that this writer never makes.
internal sealed class Q8_0() : QuantFormat(WeightType.Q8_0, "Q8_0", Values, QuantsAt + Values)
{
    private const int Values = 32;
    private const int QuantsAt = 2;

    // Trial scales put the peak on each of these levels. A block that came from this format is found again exactly when
    // its largest level is among them.
    private const int HighestPeakLevel = 127;
    private const int LowestPeakLevel = 64;

    public override float LargestMagnitude => BlockPieces.LargestHalf * HighestPeakLevel;

    protected override void UnpackBlock(ReadOnlySpan<byte> block, Span<sbyte> quants, Span<float> scales, Span<float> offsets)
    {
        scales[..2].Fill(BlockPieces.ReadHalf(block, 0));
        BlockPieces.Store(BlockPieces.Load(block, QuantsAt), quants, 0);
        BlockPieces.Store(BlockPieces.Load(block, QuantsAt + 16), quants, 16);
    }

    protected override void EncodeBlock(ReadOnlySpan<float> values, ReadOnlySpan<float> weights, bool fast, Span<byte> block)
    {
        float peak = MathF.Abs(ScaleSearch.Peak(values));
        if (peak == 0)
            return;
        float best = BlockPieces.RoundScaleToHalf(peak / HighestPeakLevel);
        float bestError = float.PositiveInfinity;
        Span<float> scales = stackalloc float[Vector256<float>.Count];
        for (int level = HighestPeakLevel; level > LowestPeakLevel && bestError > 0 && !fast; level -= scales.Length)
        {
            for (int index = 0; index < scales.Length; index++)
                scales[index] = BlockPieces.RoundScaleToHalf(peak / (level - index));
            float error = ScaleSearch.Least(ScaleSearch.Errors<Signed8>(values, weights, Vector256.Create<float>(scales)), out int nearest);
            if (error < bestError)
                (bestError, best) = (error, scales[nearest]);
        }

        Span<sbyte> quants = stackalloc sbyte[Values];
        ScaleSearch.Quantize<Signed8>(values, best, quants);
        BlockPieces.WriteHalf(block, 0, best);
        for (int index = 0; index < Values; index++)
            block[QuantsAt + index] = unchecked((byte)quants[index]);
    }
}
