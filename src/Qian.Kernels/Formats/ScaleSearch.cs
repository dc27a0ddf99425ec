using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace Qian.Kernels;

// Finds the scale of a group whose values are stored as scale * level, with the least weighted squared error.
// The error is not convex in the scale: each scale decides which levels the values round to, and for given levels the
// best scale is a least-squares fit. So a row of trial scales is rounded, each judged by the fit that its levels allow,
// and the best one is refitted until its levels stay. Sums are plain products and additions in a fixed order: every
// machine finds the same scale. Lengths are multiples of 8. Not known here: how a scale is stored.
internal static class ScaleSearch
{
    // Trials per end of the levels: where on the level scale the peak lands, in 32nds of that end. Inwards down to 5/8 of it,
    // which also finds data that has been through the type before; beyond it, where the largest values are cut off in
    // favour of the many or the important, in growing steps up to half as far again.
    private const int TrialsWithin = 12;
    private const int TrialsBeyond = 8;
    private const float BeyondGrowth = 1 / 8f;
    private const int RefitCount = 4;

    // The best scale found, 0 for a group of zeros. May be negative where the levels reach further down than up.
    public static float Fit<TLevels>(ReadOnlySpan<float> values, ReadOnlySpan<float> weights)
        where TLevels : struct, ILevels
    {
        float peak = Peak(values);
        if (peak == 0)
            return 0;
        float bestGain = 0;
        float best = peak / TLevels.Lowest;
        float step = TLevels.Lowest / -32;
        for (int trial = -TrialsBeyond; trial <= TrialsWithin; trial++)
        {
            float inwards = step * (trial < 0 ? trial - trial * trial * BeyondGrowth : trial);
            Try<TLevels>(values, weights, (TLevels.Lowest + inwards) / peak, ref best, ref bestGain);
            if (TLevels.Highest != -TLevels.Lowest)
                Try<TLevels>(values, weights, (TLevels.Highest - inwards) / peak, ref best, ref bestGain);
        }

        for (int refit = 0; refit < RefitCount; refit++)
        {
            if (!Try<TLevels>(values, weights, 1 / best, ref best, ref bestGain))
                break;
        }

        return best;
    }

    // Sum of weight * value * level and of weight * level², for the levels nearest to value * inverse.
    public static (float Cross, float Square) Moments<TLevels>(ReadOnlySpan<float> values, ReadOnlySpan<float> weights, float inverse)
        where TLevels : struct, ILevels
    {
        ReadOnlySpan<Vector256<float>> x = MemoryMarshal.Cast<float, Vector256<float>>(values);
        ReadOnlySpan<Vector256<float>> w = MemoryMarshal.Cast<float, Vector256<float>>(weights);
        Vector256<float> cross = Vector256<float>.Zero;
        Vector256<float> square = Vector256<float>.Zero;
        for (int index = 0; index < x.Length && index < w.Length; index++)
        {
            Vector256<float> level = TLevels.Nearest(x[index] * inverse);
            Vector256<float> weighted = w[index] * level;
            cross += weighted * x[index];
            square += weighted * level;
        }

        return (Vector256.Sum(cross), Vector256.Sum(square));
    }

    // Sum of weight * (value - scale * nearest level)².
    public static float Error<TLevels>(ReadOnlySpan<float> values, ReadOnlySpan<float> weights, float scale)
        where TLevels : struct, ILevels
    {
        ReadOnlySpan<Vector256<float>> x = MemoryMarshal.Cast<float, Vector256<float>>(values);
        ReadOnlySpan<Vector256<float>> w = MemoryMarshal.Cast<float, Vector256<float>>(weights);
        float inverse = Inverse(scale);
        Vector256<float> sum = Vector256<float>.Zero;
        for (int index = 0; index < x.Length && index < w.Length; index++)
        {
            Vector256<float> error = x[index] - TLevels.Nearest(x[index] * inverse) * scale;
            sum += w[index] * error * error;
        }

        return Vector256.Sum(sum);
    }

    // The levels themselves, for a scale that has been rounded to what the block stores.
    public static void Quantize<TLevels>(ReadOnlySpan<float> values, float scale, Span<sbyte> quants)
        where TLevels : struct, ILevels
    {
        ReadOnlySpan<Vector256<float>> x = MemoryMarshal.Cast<float, Vector256<float>>(values);
        float inverse = Inverse(scale);
        for (int index = 0; index < x.Length; index++)
        {
            Vector256<int> levels = Vector256.ConvertToInt32(TLevels.Nearest(x[index] * inverse));
            Vector128<short> narrow = Vector128.Narrow(levels.GetLower(), levels.GetUpper());
            Vector128.Narrow(narrow, narrow).GetLower().CopyTo(quants.Slice(index * 8, 8));
        }
    }

    // The value of largest magnitude, with its sign.
    public static float Peak(ReadOnlySpan<float> values)
    {
        float peak = 0;
        foreach (float value in values)
        {
            if (MathF.Abs(value) > MathF.Abs(peak))
                peak = value;
        }

        return peak;
    }

    // 1 / scale, and 0 for a scale without one, so that all values take the level nearest to 0.
    public static float Inverse(float scale)
    {
        float inverse = 1 / scale;
        return float.IsFinite(inverse) ? inverse : 0;
    }

    // Keeps the scale that fits the levels of a trial best, if it explains more than the best so far.
    private static bool Try<TLevels>(ReadOnlySpan<float> values, ReadOnlySpan<float> weights, float inverse, ref float best, ref float bestGain)
        where TLevels : struct, ILevels
    {
        if (!float.IsFinite(inverse))
            return false;
        (float cross, float square) = Moments<TLevels>(values, weights, inverse);
        // With the fitted scale cross / square, the weighted error falls short of sum(w x²) by this much.
        float gain = cross * (cross / square);
        if (!(gain > bestGain))
            return false;
        bestGain = gain;
        best = cross / square;
        return true;
    }
}
