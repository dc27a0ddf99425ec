using System.Runtime.Intrinsics;

namespace Qian.Kernels;

// Combines partitions: (max, total, y) so far with one partition's, always in the order of the partitions, then divides.
// Elementwise, so the vector width does not show in the bits. Knows neither heads nor threads.
internal static unsafe class AttentionFold
{
    // y[headDim] holds the weighted sum so far, relative to exp(max). headDim is a multiple of 8.
    public static void Fold(bool isFirst, ref float max, ref float total, float* y, float partMax, float partTotal, float* partSum, int headDim)
    {
        if (isFirst)
        {
            max = partMax;
            total = partTotal;
            // + 0 turns -0 into +0: a tile may add the +0 of a masked key to a sum that underflowed to -0.
            for (int d = 0; d < headDim; d += Vector256<float>.Count)
                (Vector256.Load(partSum + d) + Vector256<float>.Zero).Store(y + d);
            return;
        }

        float newMax = MathF.Max(max, partMax);
        float oldWeight = MathF.Exp(max - newMax), partWeight = MathF.Exp(partMax - newMax);
        max = newMax;
        total = total * oldWeight + partTotal * partWeight;
        for (int d = 0; d < headDim; d += Vector256<float>.Count)
        {
            Vector256<float> part = Vector256.Load(partSum + d) + Vector256<float>.Zero;
            (Vector256.Load(y + d) * oldWeight + part * partWeight).Store(y + d);
        }
    }

    public static void Finish(float total, float* y, int headDim)
    {
        float inverse = 1f / total;
        for (int d = 0; d < headDim; d += Vector256<float>.Count)
            (Vector256.Load(y + d) * inverse).Store(y + d);
    }
}
