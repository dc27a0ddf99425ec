using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace Qian.Kernels;

// Finds the scale of a group whose values are stored as scale * level, with the least weighted squared error.
// The error is not convex in the scale: each scale decides which levels the values round to, and for given levels the
// best scale is a least-squares fit. So a row of trial scales is rounded, each judged by the fit that its levels allow,
// and the best one is refitted until its levels stay. Sums are plain products and additions in a fixed order: every
// machine finds the same scale. Lengths are multiples of 8. Not known here: how a scale is stored.
internal static unsafe class ScaleSearch
{
    // Trials per end of the levels: where on the level scale the peak lands, in 32nds of that end. Inwards down to 5/8 of it,
    // which also finds data that has been through the type before; beyond it, where the largest values are cut off in
    // favour of the many or the important, in growing steps up to half as far again.
    private const int TrialsWithin = 12;
    private const int TrialsBeyond = 8;
    private const float BeyondGrowth = 1 / 8f;
    private const int RefitCount = 4;

    // Trials go side by side, two vectors of them at a time: sums over values then need no sums across a vector.
    private const int TrialLanes = 16;
    private const int MostTrials = (2 * (TrialsWithin + 1 + TrialsBeyond) + TrialLanes - 1) / TrialLanes * TrialLanes;

    // The best scale found, 0 for a group of zeros. May be negative where the levels reach further down than up. Fast: the peak's, fitted once.
    public static float Fit<TLevels>(ReadOnlySpan<float> values, ReadOnlySpan<float> weights, bool fast)
        where TLevels : struct, ILevels
    {
        float peak = Peak(values);
        if (peak == 0)
            return 0;
        float bestGain = 0;
        float best = peak / TLevels.Lowest;
        if (fast)
        {
            Try<TLevels>(values, weights, TLevels.Lowest / peak, ref best, ref bestGain);
            return best;
        }

        Span<float> inverses = stackalloc float[MostTrials];
        int count = 0;
        float step = TLevels.Lowest / -32;
        for (int trial = -TrialsBeyond; trial <= TrialsWithin; trial++)
        {
            float inwards = step * (trial < 0 ? trial - trial * trial * BeyondGrowth : trial);
            inverses[count++] = (TLevels.Lowest + inwards) / peak;
            if (TLevels.Highest != -TLevels.Lowest)
                inverses[count++] = (TLevels.Highest - inwards) / peak;
        }

        int rounded = (count + TrialLanes - 1) / TrialLanes * TrialLanes;
        inverses[count..rounded].Fill(inverses[0]);
        TryAll<TLevels>(values, weights, inverses[..rounded], ref best, ref bestGain);
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

    // For each of 8 scales, the sum of weight * (value - scale * nearest level)².
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Vector256<float> Errors<TLevels>(ReadOnlySpan<float> values, ReadOnlySpan<float> weights, Vector256<float> scales)
        where TLevels : struct, ILevels
    {
        Vector256<float> even = Vector256<float>.Zero, odd = Vector256<float>.Zero, inverse = Inverse(scales);
        fixed (float* x = values, w = weights)
        {
            for (int i = 0; i < values.Length; i += 2)
            {
                Vector256<float> first = Vector256.Create(x[i]), second = Vector256.Create(x[i + 1]);
                first -= TLevels.Nearest(first * inverse) * scales;
                second -= TLevels.Nearest(second * inverse) * scales;
                even += Vector256.Create(w[i]) * first * first;
                odd += Vector256.Create(w[i + 1]) * second * second;
            }
        }

        return even + odd;
    }

    // The least entry and the first place where it stands.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Least(Vector256<float> errors, out int lane)
    {
        Vector128<float> half = Vector128.Min(errors.GetLower(), errors.GetUpper());
        half = Vector128.Min(half, Vector128.Shuffle(half, Vector128.Create(2, 3, 0, 1)));
        half = Vector128.Min(half, Vector128.Shuffle(half, Vector128.Create(1, 0, 3, 2)));
        uint matches = Vector256.Equals(errors, Vector256.Create(half, half)).ExtractMostSignificantBits();
        lane = matches == 0 ? 0 : (int)uint.TrailingZeroCount(matches);
        return half.ToScalar();
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

    // As Try, for many trials at once.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void TryAll<TLevels>(ReadOnlySpan<float> values, ReadOnlySpan<float> weights, ReadOnlySpan<float> inverses, ref float best, ref float bestGain)
        where TLevels : struct, ILevels
    {
        Vector256<float> gains = Vector256.Create(bestGain), scales = Vector256.Create(best);
        fixed (float* x = values, w = weights, trial = inverses)
        {
            for (int at = 0; at < inverses.Length; at += TrialLanes)
            {
                Vector256<float> first = Vector256.Load(trial + at), second = Vector256.Load(trial + at + 8);
                Vector256<float> firstCross = Vector256<float>.Zero, firstSquare = Vector256<float>.Zero;
                Vector256<float> secondCross = Vector256<float>.Zero, secondSquare = Vector256<float>.Zero;
                for (int i = 0; i < values.Length; i++)
                {
                    Vector256<float> value = Vector256.Create(x[i]), weight = Vector256.Create(w[i]);
                    Vector256<float> level = TLevels.Nearest(value * first);
                    Vector256<float> weighted = weight * level;
                    firstCross += weighted * value;
                    firstSquare += weighted * level;
                    level = TLevels.Nearest(value * second);
                    weighted = weight * level;
                    secondCross += weighted * value;
                    secondSquare += weighted * level;
                }

                Keep(firstCross, firstSquare, ref gains, ref scales);
                Keep(secondCross, secondSquare, ref gains, ref scales);
            }
        }

        for (int lane = 0; lane < 8; lane++)
        {
            if (gains[lane] > bestGain)
                (bestGain, best) = (gains[lane], scales[lane]);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Keep(Vector256<float> cross, Vector256<float> square, ref Vector256<float> gains, ref Vector256<float> scales)
    {
        Vector256<float> scale = cross / square;
        Vector256<float> gain = cross * scale;
        Vector256<float> isBetter = Vector256.GreaterThan(gain, gains); // false for the NaN of a trial without a scale
        gains = Vector256.ConditionalSelect(isBetter, gain, gains);
        scales = Vector256.ConditionalSelect(isBetter, scale, scales);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<float> Inverse(Vector256<float> scales)
    {
        Vector256<float> inverse = Vector256<float>.One / scales;
        return Vector256.ConditionalSelect(Vector256.LessThan(Vector256.Abs(inverse), Vector256.Create(float.PositiveInfinity)), inverse, Vector256<float>.Zero);
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
