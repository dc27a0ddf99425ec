using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace Qian.Kernels;

// The search for scale and minimum of a group stored as scale * level + minimum, levels 0 … highest.
// As in ScaleSearch: trial ranges decide the levels, levels decide scale and minimum by least squares with two unknowns.
// Values are taken relative to the lower end of the range, so that the sums do not cancel when the group lies far from 0.
internal static class OffsetSearch
{
    // Each end of the trial range moves by quarters of a level: one outwards to three inwards.
    private const int TrialsOutwards = 1;
    private const int TrialsInwards = 3;
    private const float TrialStep = 0.25f;
    private const int RefitCount = 4;

    // Below this share the two unknowns cannot be told apart in float arithmetic: all weight lies on one level.
    private const float LeastDeterminant = 1e-5f;

    // `mayBePositive` is false for the types that store the minimum as something to subtract.
    public static (float Scale, float Minimum) Fit(ReadOnlySpan<float> values, ReadOnlySpan<float> weights, int highest, bool mayBePositive)
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
        for (int lower = -TrialsOutwards; lower <= TrialsInwards; lower++)
        {
            for (int upper = -TrialsOutwards; upper <= TrialsInwards; upper++)
            {
                float start = lower * TrialStep * step;
                float trial = step * (highest - (lower + upper) * TrialStep) / highest;
                Solution solution = Solve(values, weights, low, trial, start, highest, largestMinimum);
                if (solution.Gain > best.Gain)
                    best = solution;
            }
        }

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
