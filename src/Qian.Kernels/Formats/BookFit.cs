using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Qian.Kernels;

/// <summary>
/// The search for a block of a code-book type: 256 values as rows of the book under signs, sub-blocks with a multiplier each, one half-float scale.
/// Value = scale * unit * (2 * multiplier + 1) * row value. Each sub-block first finds a factor of its own: trial factors choose rows, rows allow a factor by
/// least squares, the best is refitted. Then block scales are tried on the parabolas that the chosen rows left (no new rows), the sub-blocks choose between
/// two multipliers with rows chosen anew, and the block scale is fitted to all of them.
/// A pass over the block chooses all rows at once, each sub-block's at a factor of its own.
/// Not known here: where bits stand.
/// </summary>
internal readonly unsafe ref struct BookFit
{
    public const int Values = 256;
    public const int HighestMultiplier = 15;

    private const int MostRuns = Values / 4;

    // Trial factors put the peak of a sub-block at the highest level times these 32nds: below 32 all else is small, above it the peak is cut off. Rows of 3 levels
    // change little from one to the next and gain by cutting far where few values matter; rows of 8 levels want closer steps.
    private static ReadOnlySpan<byte> TrialsOf3 => [23, 29, 36, 45, 57];

    private static ReadOnlySpan<byte> TrialsOf8 => [21, 24, 27, 31, 36, 42, 50];

    // Block scales that are tried, in 64ths of the one that gives the largest factor the highest multiplier; a whole number of vectors.
    private const int FirstScale = 50, ScaleCount = 40;

    private readonly BookSearch _book;

    // [value][run], a run being what a row stands for.
    private readonly float* _values;
    private readonly float* _weights;
    private readonly int _subCount;
    private readonly float _unit;

    private BookFit(BookSearch book, float* values, float* weights, int subCount, float unit)
    {
        _book = book;
        _values = values;
        _weights = weights;
        _subCount = subCount;
        _unit = unit;
    }

    private int RunCount => Values / _book.RowValues;

    // Rows (of 4 or 8 values), signs (a byte for 8 values) and multipliers go to the spans, whose lengths are the block's counts. Returns the block scale,
    // rounded to half; 0 for a block that is best left zero.
    [SkipLocalsInit]
    public static float Fit(
        BookSearch book, ReadOnlySpan<float> values, ReadOnlySpan<float> weights, bool hasEvenSigns, float unit, Span<ushort> rows, Span<byte> signs, Span<byte> multipliers)
    {
        float* own = stackalloc float[2 * Values + BookSearch.Lanes];
        own = (float*)((nint)own + 63 & -64);
        Arrange(values, weights, hasEvenSigns, book.RowValues, own, own + Values, signs);
        var fit = new BookFit(book, own, own + Values, multipliers.Length, unit);
        fixed (ushort* to = rows)
            return fit.Search(to, multipliers);
    }

    private float Search(ushort* rows, Span<byte> multipliers)
    {
        Span<Parabola> parabolas = stackalloc Parabola[_subCount];
        float largest = Ideal(parabolas, rows);
        if (largest == 0)
            return 0;
        float scale = BestScale(parabolas, largest);
        Choose(scale, parabolas, multipliers, rows);
        scale = Refit(parabolas, multipliers, scale);
        Span<float> factors = stackalloc float[_subCount];
        for (int sub = 0; sub < factors.Length; sub++)
            factors[sub] = Factor(scale, multipliers[sub]);
        Pass(factors, parabolas, rows);
        double gain = 0;
        for (int sub = 0; sub < factors.Length; sub++)
            gain += parabolas[sub].Gain(factors[sub]);

        // No level is 0: where the least scale is too large for the values, zeros are nearer.
        return gain > 0 ? scale : 0;
    }

    // Lays values and weights out by run, values by their size under the stored sign: negative where an even number of signs forced the least costly one to flip.
    private static void Arrange(
        ReadOnlySpan<float> values, ReadOnlySpan<float> weights, bool hasEvenSigns, int width, float* arranged, float* arrangedWeights, Span<byte> signs)
    {
        float* eight = stackalloc float[8];
        int runCount = Values / width, shift = BitOperations.Log2((uint)width);
        for (int at = 0; at < Values; at += 8)
        {
            Vector256<float> value = Vector256.Create(values.Slice(at, 8)), weight = Vector256.Create(weights.Slice(at, 8));
            uint negative = Vector256.LessThan(value, Vector256<float>.Zero).ExtractMostSignificantBits();
            Vector256.Abs(value).Store(eight);
            if (hasEvenSigns && (BitOperations.PopCount(negative) & 1) != 0)
            {
                ScaleSearch.Least(weight * value * value, out int cheapest);
                eight[cheapest] = -eight[cheapest];
                negative ^= 1u << cheapest;
            }

            signs[at / 8] = (byte)negative;
            for (int i = 0; i < 8; i++)
            {
                int to = (i & width - 1) * runCount + (at + i >> shift);
                arranged[to] = eight[i];
                arrangedWeights[to] = weights[at + i];
            }
        }
    }

    // The best factor of each sub-block on its own; returns the largest.
    private float Ideal(Span<Parabola> best, ushort* rows)
    {
        Span<float> peakFactors = stackalloc float[_subCount], factors = stackalloc float[_subCount];
        Span<float> gains = stackalloc float[_subCount];
        Span<Parabola> found = stackalloc Parabola[_subCount];
        FindPeakFactors(peakFactors);
        best.Clear();
        gains.Clear();
        foreach (byte trial in _book.RowValues == 8 ? TrialsOf3 : TrialsOf8)
        {
            for (int sub = 0; sub < factors.Length; sub++)
                factors[sub] = peakFactors[sub] * (32f / trial);
            Pass(factors, found, rows);
            Keep(factors, found, best, gains);
        }

        for (int sub = 0; sub < factors.Length; sub++)
            factors[sub] = best[sub].Best;
        Pass(factors, found, rows);
        Keep(factors, found, best, gains);

        float largest = 0;
        foreach (Parabola parabola in best)
            largest = MathF.Max(largest, parabola.Best);
        return largest;
    }

    // The factors that put peaks at the highest level; 0 for a peak that is too small to have one.
    private void FindPeakFactors(Span<float> factors)
    {
        float* peaks = stackalloc float[MostRuns];
        for (int run = 0; run < RunCount; run += 8)
        {
            Vector256<float> peak = Vector256<float>.Zero;
            for (int at = run; at < Values; at += RunCount)
                peak = Vector256.Max(peak, Vector256.Abs(Vector256.Load(_values + at)));
            peak.Store(peaks + run);
        }

        int subRuns = RunCount / _subCount;
        for (int sub = 0; sub < factors.Length; sub++)
        {
            float peak = 0;
            for (int run = 0; run < subRuns; run++)
                peak = MathF.Max(peak, peaks[sub * subRuns + run]);
            float factor = peak / _book.Highest;
            factors[sub] = float.IsFinite(1 / factor) ? factor : 0;
        }
    }

    // Takes over what gains more than the best.
    private static void Keep(ReadOnlySpan<float> factors, ReadOnlySpan<Parabola> found, Span<Parabola> best, Span<float> gains)
    {
        for (int sub = 0; sub < best.Length; sub++)
        {
            float gain = found[sub].BestGain;
            if (factors[sub] > 0 && gain > gains[sub])
                (best[sub], gains[sub]) = (found[sub], gain);
        }
    }

    // The nearest rows of the whole block, each sub-block's at its factor, and what they gain at any other.
    [SkipLocalsInit]
    private void Pass(ReadOnlySpan<float> factors, Span<Parabola> found, ushort* rows)
    {
        float* inverses = stackalloc float[3 * MostRuns];
        float* crosses = inverses + MostRuns, squares = crosses + MostRuns;
        int runCount = RunCount, subRuns = runCount / factors.Length;
        for (int sub = 0; sub < factors.Length; sub++)
            new Span<float>(inverses + sub * subRuns, subRuns).Fill(ScaleSearch.Inverse(factors[sub]));
        for (int run = 0; run < runCount; run += BookSearch.Lanes)
        {
            _book.Nearest(new BookRuns
            {
                Values = _values + run,
                Weights = _weights + run,
                Stride = runCount,
                Inverses = inverses + run,
                Rows = rows + run,
                Crosses = crosses + run,
                Squares = squares + run,
            });
        }

        for (int sub = 0; sub < found.Length; sub++)
        {
            float cross = 0, square = 0;
            for (int run = sub * subRuns; run < (sub + 1) * subRuns; run++)
            {
                cross += crosses[run];
                square += squares[run];
            }

            found[sub] = new Parabola(cross, square);
        }
    }

    // Trial scales stand side by side; of equal gains the first counts.
    private float BestScale(ReadOnlySpan<Parabola> parabolas, float largest)
    {
        Span<float> scales = stackalloc float[ScaleCount];
        for (int trial = 0; trial < ScaleCount; trial++)
            scales[trial] = BlockPieces.RoundScaleToHalf(largest / _unit / (2 * HighestMultiplier + 1) * ((FirstScale + trial) / 64f));
        float best = 0, bestGain = float.NegativeInfinity;
        for (int at = 0; at < ScaleCount; at += 8)
        {
            Vector256<float> unit = Vector256.Create<float>(scales.Slice(at, 8)) * _unit, gain = Vector256<float>.Zero;
            Vector256<float> inverse = Vector256<float>.One / unit;
            foreach (Parabola parabola in parabolas)
            {
                Vector256<float> multiplier = (parabola.Best * inverse - Vector256<float>.One) * 0.5f;
                multiplier = Vector256.Round(Vector256.Min(Vector256.Max(multiplier, Vector256<float>.Zero), Vector256.Create((float)HighestMultiplier)));
                Vector256<float> factor = unit * (multiplier + multiplier + Vector256<float>.One);
                gain += factor * (Vector256.Create(2 * parabola.Cross) - factor * parabola.Square);
            }

            for (int lane = 0; lane < 8; lane++)
            {
                if (gain[lane] > bestGain)
                    (bestGain, best) = (gain[lane], scales[at + lane]);
            }
        }

        return best;
    }

    // For each sub-block the better of the multipliers below and above its factor, each with rows of its own.
    private void Choose(float scale, Span<Parabola> parabolas, Span<byte> multipliers, ushort* rows)
    {
        Span<float> wanted = stackalloc float[_subCount], factors = stackalloc float[_subCount], gains = stackalloc float[_subCount];
        Span<Parabola> found = stackalloc Parabola[_subCount];
        gains.Fill(float.NegativeInfinity);
        multipliers.Clear();
        for (int sub = 0; sub < wanted.Length; sub++)
            wanted[sub] = parabolas[sub].Best;
        for (int step = 0; step <= 1; step++)
        {
            for (int sub = 0; sub < factors.Length; sub++)
                factors[sub] = Factor(scale, Neighbour(wanted[sub], scale, step));
            Pass(factors, found, rows);
            for (int sub = 0; sub < factors.Length; sub++)
            {
                float gain = found[sub].Gain(factors[sub]);
                if (gain > gains[sub])
                    (gains[sub], parabolas[sub], multipliers[sub]) = (gain, found[sub], (byte)Neighbour(wanted[sub], scale, step));
            }
        }
    }

    private float Refit(ReadOnlySpan<Parabola> parabolas, ReadOnlySpan<byte> multipliers, float scale)
    {
        double cross = 0, square = 0;
        for (int sub = 0; sub < parabolas.Length; sub++)
        {
            double factor = Factor(1, multipliers[sub]);
            cross += factor * parabolas[sub].Cross;
            square += factor * factor * parabolas[sub].Square;
        }

        return square > 0 && cross > 0 ? BlockPieces.RoundScaleToHalf((float)(cross / square)) : scale;
    }

    private float Factor(float scale, int multiplier) => scale * _unit * (2 * multiplier + 1);

    // The multiplier below a factor, or steps above that.
    private int Neighbour(float factor, float scale, int step) =>
        Math.Min((int)Math.Clamp((factor / (scale * _unit) - 1) * 0.5f, 0, HighestMultiplier) + step, HighestMultiplier);

    // What sum(w x²) loses when rows are used with a factor: 2 factor * cross - factor² * square.
    private readonly record struct Parabola(float Cross, float Square)
    {
        public float Best => Square > 0 && Cross > 0 ? Cross / Square : 0;

        public float BestGain => Cross > 0 ? Cross * Best : 0;

        public float Gain(float factor) => factor * (2 * Cross - factor * Square);
    }
}
