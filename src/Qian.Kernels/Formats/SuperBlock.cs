using System.Runtime.Intrinsics;

namespace Qian.Kernels;

// The search for blocks of 256 values whose sub-blocks have small integer multipliers under one or two half-float scales.
// First each sub-block finds its own float scale; then trial block scales turn these into multipliers, where each
// sub-block picks among its neighbouring multipliers by true error; then the block scale is fitted to all choices by
// least squares and the sub-blocks choose again, as long as the error falls.
// Not known here: bit layouts, and which sub-block size or level set belongs to which type.
internal static class SuperBlock
{
    private const int MostSubBlocks = 16;
    private const int TrialCount = 4;
    private const int RefitCount = 2;

    // Multipliers that a sub-block tries.
    private const int Neighbours = 3;

    // Scale + Neighbours * minimum, as they stand in a vector.
    private static ReadOnlySpan<byte> Pairs => [0, 1, 3, 4, 5, 6, 7, 8];

    // Multipliers lowest … −lowest − 1. Returns the block scale, rounded to half; 0 for a block of zeros.
    public static float FitSigned<TLevels>(ReadOnlySpan<float> values, ReadOnlySpan<float> weights, int lowest, bool fast, Span<sbyte> multipliers)
        where TLevels : struct, ILevels
    {
        int size = values.Length / multipliers.Length;
        Span<float> ideal = stackalloc float[MostSubBlocks];
        Span<sbyte> trial = stackalloc sbyte[MostSubBlocks];
        ideal = ideal[..multipliers.Length];
        trial = trial[..multipliers.Length];
        for (int index = 0; index < ideal.Length; index++)
            ideal[index] = ScaleSearch.Fit<TLevels>(values.Slice(index * size, size), weights.Slice(index * size, size), fast);
        float peak = ScaleSearch.Peak(ideal);
        multipliers.Clear();
        if (peak == 0)
            return 0;
        if (fast)
        {
            float only = BlockPieces.RoundScaleToHalf(peak / lowest);
            for (int index = 0; index < ideal.Length; index++)
                multipliers[index] = (sbyte)Math.Clamp(MathF.Round(ideal[index] / only), lowest, ~lowest);
            return only;
        }

        float best = 0;
        float bestError = float.PositiveInfinity;
        for (int step = 0; step < TrialCount; step++)
        {
            float scale = peak / (lowest + step * (lowest / -32f));
            for (int refit = 0; refit <= RefitCount; refit++)
            {
                scale = BlockPieces.RoundScaleToHalf(scale);
                float error = ChooseSigned<TLevels>(values, weights, scale, lowest, ideal, trial);
                if (!(error < bestError))
                    break;
                bestError = error;
                best = scale;
                trial.CopyTo(multipliers);
                scale = RefitSigned<TLevels>(values, weights, scale, trial);
            }
        }

        return best;
    }

    // value = scale * multiplier * level − minimumScale * minimumMultiplier, levels 0 … highest, multipliers
    // 0 … highestMultiplier. Returns both block scales, rounded to half.
    public static (float Scale, float MinimumScale) FitOffset(
        ReadOnlySpan<float> values, ReadOnlySpan<float> weights, int highest, int highestMultiplier, bool fast,
        Span<byte> multipliers, Span<byte> minimumMultipliers)
    {
        int size = values.Length / multipliers.Length;
        Span<float> scales = stackalloc float[MostSubBlocks];
        Span<float> minima = stackalloc float[MostSubBlocks];
        Span<byte> trial = stackalloc byte[2 * MostSubBlocks];
        Span<byte> minimumTrial = trial.Slice(MostSubBlocks, multipliers.Length);
        trial = trial[..multipliers.Length];
        float largestScale = 0;
        float largestMinimum = 0;
        for (int index = 0; index < multipliers.Length; index++)
        {
            (float scale, float minimum) = OffsetSearch.Fit(
                values.Slice(index * size, size), weights.Slice(index * size, size), highest, mayBePositive: false, fast);
            scales[index] = scale;
            minima[index] = -minimum;
            largestScale = MathF.Max(largestScale, scale);
            largestMinimum = MathF.Max(largestMinimum, -minimum);
        }

        if (fast)
        {
            var only = new OffsetScales(BlockPieces.RoundScaleToHalf(largestScale / highestMultiplier), BlockPieces.RoundScaleToHalf(largestMinimum / highestMultiplier));
            for (int index = 0; index < multipliers.Length; index++)
            {
                // Never 0: code 0 stays at hand.
                multipliers[index] = (byte)Math.Max(Multiplier(scales[index], only.Scale, highestMultiplier), only.Scale > 0 ? 1 : 0);
                minimumMultipliers[index] = (byte)Multiplier(minima[index], only.Minimum, highestMultiplier);
            }

            return (only.Scale, only.Minimum);
        }

        var best = new OffsetScales(0, 0);
        float bestError = float.PositiveInfinity;
        multipliers.Clear();
        minimumMultipliers.Clear();
        for (int step = 0; step < TrialCount; step++)
        {
            float divisor = highestMultiplier * (1 - step / 32f);
            var block = new OffsetScales(largestScale / divisor, largestMinimum / divisor);
            for (int refit = 0; refit <= RefitCount; refit++)
            {
                block = new OffsetScales(BlockPieces.RoundScaleToHalf(block.Scale), BlockPieces.RoundScaleToHalf(block.Minimum));
                float error = ChooseOffset(values, weights, block, highest, highestMultiplier, scales, minima, trial, minimumTrial);
                if (!(error < bestError))
                    break;
                bestError = error;
                best = block;
                trial.CopyTo(multipliers);
                minimumTrial.CopyTo(minimumMultipliers);
                block = RefitOffset(values, weights, block, highest, trial, minimumTrial);
            }
        }

        return (best.Scale, best.Minimum);
    }

    // Each sub-block takes the best of the three multipliers around its ideal scale; returns the error of all.
    private static float ChooseSigned<TLevels>(
        ReadOnlySpan<float> values, ReadOnlySpan<float> weights, float scale, int lowest, ReadOnlySpan<float> ideal, Span<sbyte> multipliers)
        where TLevels : struct, ILevels
    {
        int size = values.Length / multipliers.Length;
        float sum = 0;
        for (int index = 0; index < multipliers.Length; index++)
        {
            ReadOnlySpan<float> x = values.Slice(index * size, size);
            ReadOnlySpan<float> w = weights.Slice(index * size, size);
            int centre = (int)MathF.Round(Math.Clamp(ideal[index] / scale, lowest, ~lowest));
            int first = Math.Clamp(centre - 1, lowest, ~lowest - (Neighbours - 1));
            float least = float.PositiveInfinity;
            multipliers[index] = (sbyte)first;
            for (int multiplier = first; multiplier < first + Neighbours; multiplier++)
            {
                float error = ScaleSearch.Error<TLevels>(x, w, scale * multiplier);
                if (error < least)
                    (least, multipliers[index]) = (error, (sbyte)multiplier);
            }

            sum += least;
        }

        return sum;
    }

    private static float RefitSigned<TLevels>(ReadOnlySpan<float> values, ReadOnlySpan<float> weights, float scale, ReadOnlySpan<sbyte> multipliers)
        where TLevels : struct, ILevels
    {
        int size = values.Length / multipliers.Length;
        float cross = 0;
        float square = 0;
        for (int index = 0; index < multipliers.Length; index++)
        {
            float multiplier = multipliers[index];
            (float subCross, float subSquare) = ScaleSearch.Moments<TLevels>(
                values.Slice(index * size, size), weights.Slice(index * size, size), ScaleSearch.Inverse(scale * multiplier));
            cross += multiplier * subCross;
            square += multiplier * multiplier * subSquare;
        }

        return square > 0 ? cross / square : scale;
    }

    // Each sub-block takes the best of eight pairs of multipliers around its ideal scale and minimum: of the nine, that with a higher scale and a lower
    // minimum reaches far above all values.
    private static float ChooseOffset(
        ReadOnlySpan<float> values, ReadOnlySpan<float> weights, OffsetScales block, int highest, int highestMultiplier,
        ReadOnlySpan<float> scales, ReadOnlySpan<float> minima, Span<byte> multipliers, Span<byte> minimumMultipliers)
    {
        int size = values.Length / multipliers.Length;
        float sum = 0;
        for (int index = 0; index < multipliers.Length; index++)
        {
            ReadOnlySpan<float> x = values.Slice(index * size, size);
            ReadOnlySpan<float> w = weights.Slice(index * size, size);
            int centre = Multiplier(scales[index], block.Scale, highestMultiplier);
            int minimumCentre = Multiplier(minima[index], block.Minimum, highestMultiplier);
            int first = Math.Clamp(centre - 1, 0, highestMultiplier - (Neighbours - 1)), firstMinimum = Math.Clamp(minimumCentre - 1, 0, highestMultiplier - (Neighbours - 1));
            Vector256<float> trials = (Vector256.Create((float)first) + Vector256.Create(0f, 1, 0, 1, 2, 0, 1, 2)) * block.Scale;
            Vector256<float> starts = (Vector256.Create((float)firstMinimum) + Vector256.Create(0f, 0, 1, 1, 1, 2, 2, 2)) * -block.Minimum;
            float least = ScaleSearch.Least(OffsetSearch.Errors(x, w, trials, starts, highest), out int nearest);
            multipliers[index] = (byte)(first + Pairs[nearest] % Neighbours);
            minimumMultipliers[index] = (byte)(firstMinimum + Pairs[nearest] / Neighbours);
            sum += least;
        }

        return sum;
    }

    // Least squares for both block scales at once, for the levels that the present ones give.
    private static OffsetScales RefitOffset(
        ReadOnlySpan<float> values, ReadOnlySpan<float> weights, OffsetScales block, int highest,
        ReadOnlySpan<byte> multipliers, ReadOnlySpan<byte> minimumMultipliers)
    {
        int size = values.Length / multipliers.Length;
        double square = 0;
        double minimumSquare = 0;
        double product = 0;
        double cross = 0;
        double minimumCross = 0;
        for (int index = 0; index < multipliers.Length; index++)
        {
            double multiplier = multipliers[index];
            double minimum = minimumMultipliers[index];
            OffsetSearch.Sums sums = OffsetSearch.Moments(
                values.Slice(index * size, size), weights.Slice(index * size, size), origin: 0,
                ScaleSearch.Inverse(block.Scale * multipliers[index]), -block.Minimum * minimumMultipliers[index], highest);
            square += multiplier * multiplier * sums.Square;
            minimumSquare += minimum * minimum * sums.Weight;
            product += multiplier * minimum * sums.Level;
            cross += multiplier * sums.Cross;
            minimumCross += minimum * sums.Value;
        }

        double determinant = square * minimumSquare - product * product;
        if (determinant > 1e-9 * square * minimumSquare)
        {
            double scale = (minimumSquare * cross - product * minimumCross) / determinant;
            double minimum = (product * cross - square * minimumCross) / determinant;
            if (scale > 0 && minimum > 0)
                return new OffsetScales((float)scale, (float)minimum);
        }

        return block;
    }

    private static int Multiplier(float value, float scale, int highest) =>
        scale > 0 ? (int)MathF.Round(MathF.Min(value / scale, highest)) : 0;

    private readonly record struct OffsetScales(float Scale, float Minimum);
}
