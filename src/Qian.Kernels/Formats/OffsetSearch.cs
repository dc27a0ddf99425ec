using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace Qian.Kernels;

// The search for scale and minimum of a group stored as scale * level + minimum, levels 0 … highest.
// As in ScaleSearch: trial ranges decide the levels, levels decide scale and minimum by least squares with two unknowns.
// Values are taken relative to the lower end of the range, so that the sums do not cancel when the group lies far from 0.
internal static unsafe class OffsetSearch
{
    // Each end of the trial range moves by quarters of a level: one outwards to three inwards.
    private const int TrialsOutwards = 1;
    private const int TrialsInwards = 3;
    private const float TrialStep = 0.25f;
    private const int RefitCount = 4;

    private const int TrialsPerEnd = TrialsOutwards + 1 + TrialsInwards;

    // Trials go side by side, a vector of them at a time.
    private const int MostTrials = (TrialsPerEnd * TrialsPerEnd + 7) / 8 * 8;

    // Below this share the two unknowns cannot be told apart in float arithmetic: all weight lies on one level.
    private const float LeastDeterminant = 1e-5f;

    // `mayBePositive` is false for the types that store the minimum as something to subtract.
    public static (float Scale, float Minimum) Fit(ReadOnlySpan<float> values, ReadOnlySpan<float> weights, int highest, bool mayBePositive, bool fast)
    {
        float low = float.PositiveInfinity;
        float high = float.NegativeInfinity;
        foreach (float value in values)
        {
            low = MathF.Min(low, value);
            high = MathF.Max(high, value);
        }

        if (!mayBePositive)
            low = MathF.Min(low, 0);
        float largestMinimum = mayBePositive ? float.PositiveInfinity : -low;
        float step = (high - low) / highest;
        if (!float.IsFinite(1 / step))
            return (0, low + 0f); // + 0 turns −0 into 0

        var best = new Solution(step, 0, 0);
        if (fast)
        {
            Solution solution = Solve(values, weights, low, step, 0, highest, largestMinimum);
            return solution.Gain > 0 ? (solution.Scale, solution.Minimum + low) : (step, low);
        }

        Span<float> starts = stackalloc float[MostTrials], trials = stackalloc float[MostTrials];
        int count = 0;
        for (int lower = -TrialsOutwards; lower <= TrialsInwards; lower++)
        {
            for (int upper = -TrialsOutwards; upper <= TrialsInwards; upper++)
            {
                starts[count] = lower * TrialStep * step;
                trials[count++] = ScaleSearch.Inverse(step * (highest - (lower + upper) * TrialStep) / highest);
            }
        }

        foreach ((float lower, float upper) in (ReadOnlySpan<(float, float)>)[(0.5f, 0.5f), (1.5f, 1.5f), (0.5f, 1.5f), (1.5f, 0.5f), (4, 1), (1, 4), (2.5f, 2.5f)])
        {
            starts[count] = lower * TrialStep * step;
            trials[count++] = ScaleSearch.Inverse(step * (highest - (lower + upper) * TrialStep) / highest);
        }
        SolveAll(values, weights, low, trials, starts, highest, largestMinimum, ref best);
        for (int refit = 0; refit < RefitCount; refit++)
        {
            Solution solution = Solve(values, weights, low, best.Scale, best.Minimum, highest, largestMinimum);
            if (!(solution.Gain > best.Gain))
                break;
            best = solution;
        }

        return (best.Scale, best.Minimum + low);
    }

    // Sum of weight * (value - scale * nearest level - minimum)².
    public static float Error(ReadOnlySpan<float> values, ReadOnlySpan<float> weights, float scale, float minimum, int highest)
    {
        ReadOnlySpan<Vector256<float>> x = MemoryMarshal.Cast<float, Vector256<float>>(values);
        ReadOnlySpan<Vector256<float>> w = MemoryMarshal.Cast<float, Vector256<float>>(weights);
        float inverse = ScaleSearch.Inverse(scale);
        Vector256<float> start = Vector256.Create(minimum);
        Vector256<float> sum = Vector256<float>.Zero;
        for (int index = 0; index < x.Length && index < w.Length; index++)
        {
            Vector256<float> above = x[index] - start;
            Vector256<float> error = above - Whole.Nearest(above * inverse, 0, highest) * scale;
            sum += w[index] * error * error;
        }

        return Vector256.Sum(sum);
    }

    // The levels, for a scale and a minimum that have been rounded to what the block stores.
    public static void Quantize(ReadOnlySpan<float> values, float scale, float minimum, int highest, Span<sbyte> quants)
    {
        ReadOnlySpan<Vector256<float>> x = MemoryMarshal.Cast<float, Vector256<float>>(values);
        float inverse = ScaleSearch.Inverse(scale);
        for (int index = 0; index < x.Length; index++)
        {
            Vector256<float> levels = Whole.Nearest((x[index] - Vector256.Create(minimum)) * inverse, 0, highest);
            Vector256<int> whole = Vector256.ConvertToInt32(levels);
            Vector128<short> narrow = Vector128.Narrow(whole.GetLower(), whole.GetUpper());
            Vector128.Narrow(narrow, narrow).GetLower().CopyTo(quants.Slice(index * 8, 8));
        }
    }

    // Sums of weight * level, weight * level², weight * value and weight * value * level for the nearest levels.
    public static Sums Moments(ReadOnlySpan<float> values, ReadOnlySpan<float> weights, float origin, float inverse, float start, int highest)
    {
        ReadOnlySpan<Vector256<float>> x = MemoryMarshal.Cast<float, Vector256<float>>(values);
        ReadOnlySpan<Vector256<float>> w = MemoryMarshal.Cast<float, Vector256<float>>(weights);
        Vector256<float> zero = Vector256.Create(origin);
        Vector256<float> first = Vector256.Create(start);
        Vector256<float> weight = Vector256<float>.Zero;
        Vector256<float> level = Vector256<float>.Zero;
        Vector256<float> square = Vector256<float>.Zero;
        Vector256<float> value = Vector256<float>.Zero;
        Vector256<float> cross = Vector256<float>.Zero;
        for (int index = 0; index < x.Length && index < w.Length; index++)
        {
            Vector256<float> above = x[index] - zero;
            Vector256<float> nearest = Whole.Nearest((above - first) * inverse, 0, highest);
            Vector256<float> weighted = w[index] * nearest;
            weight += w[index];
            level += weighted;
            square += weighted * nearest;
            value += w[index] * above;
            cross += weighted * above;
        }

        return new Sums(Vector256.Sum(weight), Vector256.Sum(level), Vector256.Sum(square), Vector256.Sum(value), Vector256.Sum(cross));
    }

    // For each of 8 pairs of scale and minimum, the sum of weight * (value - scale * nearest level - minimum)².
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Vector256<float> Errors(ReadOnlySpan<float> values, ReadOnlySpan<float> weights, Vector256<float> scales, Vector256<float> minima, int highest)
    {
        Vector256<float> top = Vector256.Create((float)highest), even = Vector256<float>.Zero, odd = Vector256<float>.Zero;
        Vector256<float> inverse = ScaleSearch.Inverse(scales);
        fixed (float* x = values, w = weights)
        {
            for (int i = 0; i < values.Length; i += 2)
            {
                Vector256<float> first = Vector256.Create(x[i]) - minima, second = Vector256.Create(x[i + 1]) - minima;
                first -= Vector256.Min(Vector256.Max(Vector256.Round(first * inverse), Vector256<float>.Zero), top) * scales;
                second -= Vector256.Min(Vector256.Max(Vector256.Round(second * inverse), Vector256<float>.Zero), top) * scales;
                even += Vector256.Create(w[i]) * first * first;
                odd += Vector256.Create(w[i + 1]) * second * second;
            }
        }

        return even + odd;
    }

    // As Solve, for many trials at once; keeps the best.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void SolveAll(
        ReadOnlySpan<float> values, ReadOnlySpan<float> weights, float origin, ReadOnlySpan<float> inverses, ReadOnlySpan<float> starts, int highest, float largestMinimum, ref Solution best)
    {
        float allWeight = 0, allValue = 0;
        for (int i = 0; i < values.Length; i++)
        {
            allWeight += weights[i];
            allValue += weights[i] * (values[i] - origin);
        }

        Vector256<float> top = Vector256.Create((float)highest), most = Vector256.Create(largestMinimum), zero = Vector256<float>.Zero;
        Vector256<float> weight = Vector256.Create(allWeight), value = Vector256.Create(allValue);
        Vector256<float> gains = zero, scales = zero, minima = zero;
        fixed (float* x = values, w = weights, inverseAt = inverses, startAt = starts)
        {
            for (int at = 0; at < inverses.Length; at += 8)
            {
                Vector256<float> inverse = Vector256.Load(inverseAt + at), start = Vector256.Load(startAt + at);
                Vector256<float> level = zero, square = zero, cross = zero;
                for (int i = 0; i < values.Length; i++)
                {
                    Vector256<float> above = Vector256.Create(x[i] - origin);
                    Vector256<float> nearest = Vector256.Min(Vector256.Max(Vector256.Round((above - start) * inverse), zero), top);
                    Vector256<float> weighted = Vector256.Create(w[i]) * nearest;
                    level += weighted;
                    square += weighted * nearest;
                    cross += weighted * above;
                }

                Vector256<float> determinant = weight * square - level * level;
                Vector256<float> scale = (weight * cross - level * value) / determinant;
                Vector256<float> minimum = (value - scale * level) / weight;
                Vector256<float> isHeld = Vector256.GreaterThan(minimum, most);
                minimum = Vector256.ConditionalSelect(isHeld, most, minimum);
                scale = Vector256.ConditionalSelect(isHeld, (cross - minimum * level) / square, scale);
                Vector256<float> gain = (scale * cross + minimum * value) * 2 - (scale * scale * square + scale * minimum * level * 2 + minimum * minimum * weight);
                Vector256<float> isBetter = Vector256.GreaterThan(gain, gains)
                    & Vector256.GreaterThan(determinant, weight * square * LeastDeterminant) & Vector256.GreaterThan(scale, zero);
                gains = Vector256.ConditionalSelect(isBetter, gain, gains);
                scales = Vector256.ConditionalSelect(isBetter, scale, scales);
                minima = Vector256.ConditionalSelect(isBetter, minimum, minima);
            }
        }

        for (int lane = 0; lane < 8; lane++)
        {
            if (gains[lane] > best.Gain)
                best = new Solution(scales[lane], minima[lane], gains[lane]);
        }
    }

    // Least squares for the levels that a trial (scale, start) gives, both relative to `origin`.
    private static Solution Solve(
        ReadOnlySpan<float> values, ReadOnlySpan<float> weights, float origin, float trial, float start, int highest, float largestMinimum)
    {
        Sums sums = Moments(values, weights, origin, ScaleSearch.Inverse(trial), start, highest);
        float determinant = sums.Weight * sums.Square - sums.Level * sums.Level;
        if (!(determinant > LeastDeterminant * sums.Weight * sums.Square))
            return default;
        float scale = (sums.Weight * sums.Cross - sums.Level * sums.Value) / determinant;
        float minimum = (sums.Value - scale * sums.Level) / sums.Weight;
        if (minimum > largestMinimum)
        {
            minimum = largestMinimum;
            scale = (sums.Cross - minimum * sums.Level) / sums.Square;
        }

        // What sum(w x²) loses by this fit; the last terms vanish unless the minimum was held at its bound.
        float gain = 2 * (scale * sums.Cross + minimum * sums.Value)
            - (scale * scale * sums.Square + 2 * scale * minimum * sums.Level + minimum * minimum * sums.Weight);
        return scale > 0 ? new Solution(scale, minimum, gain) : default;
    }

    // Sums over a group, see Moments.
    public readonly record struct Sums(float Weight, float Level, float Square, float Value, float Cross);

    private readonly record struct Solution(float Scale, float Minimum, float Gain);
}
