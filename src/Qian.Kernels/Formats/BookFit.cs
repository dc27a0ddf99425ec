using System.Numerics;
using System.Runtime.CompilerServices;

namespace Qian.Kernels;

/// <summary>
/// The search for a block of a code-book type: 256 values as rows of the book under signs, sub-blocks with a multiplier each, one half-float scale.
/// Value = scale * unit * (2 * multiplier + 1) * row value. Each sub-block first finds a factor of its own: trial factors choose rows, rows allow a factor by
/// least squares, the best is refitted. Then block scales are tried on the parabolas that the chosen rows left (no new rows), the sub-blocks choose among
/// neighbouring multipliers with rows chosen anew, and the block scale is fitted to all of them.
/// Not known here: where bits stand.
/// </summary>
internal readonly unsafe ref struct BookFit
{
    public const int Values = 256;
    public const int HighestMultiplier = 15;

    private const int MostSubBlocks = 16;

    // Trial factors put the peak of a sub-block at the highest level times these 32nds: below 1 all else is small, above it the peak is cut off.
    private const int FirstTrial = 22, LastTrial = 50, TrialStep = 4;
    private const int RefitCount = 2;

    // Block scales that are tried, in 64ths of the one that gives the largest factor the highest multiplier.
    private const int FirstScale = 52, LastScale = 84;

    private readonly BookSearch _book;
    private readonly float* _values;
    private readonly float* _weights;
    private readonly int _subValues;
    private readonly float _unit;

    private BookFit(BookSearch book, float* values, float* weights, int subValues, float unit)
    {
        _book = book;
        _values = values;
        _weights = weights;
        _subValues = subValues;
        _unit = unit;
    }

    // Rows (of 4 or 8 values), signs (a byte for 8 values) and multipliers go to the spans, whose lengths are the block's counts. Returns the block scale,
    // rounded to half; 0 for a block that is best left zero.
    [SkipLocalsInit]
    public static float Fit(
        BookSearch book, ReadOnlySpan<float> values, ReadOnlySpan<float> weights, bool hasEvenSigns, float unit, Span<ushort> rows, Span<byte> signs, Span<byte> multipliers)
    {
        float* own = stackalloc float[2 * Values];
        values.CopyTo(new Span<float>(own, Values));
        weights.CopyTo(new Span<float>(own + Values, Values));
        ChooseSigns(own, own + Values, hasEvenSigns, signs);
        var fit = new BookFit(book, own, own + Values, Values / multipliers.Length, unit);
        return fit.Search(rows, multipliers);
    }

    private float Search(Span<ushort> rows, Span<byte> multipliers)
    {
        int runCount = _subValues / _book.RowValues;
        Span<Parabola> parabolas = stackalloc Parabola[MostSubBlocks];
        parabolas = parabolas[..multipliers.Length];
        float largest = 0;
        for (int sub = 0; sub < parabolas.Length; sub++)
        {
            parabolas[sub] = Ideal(sub, rows.Slice(sub * runCount, runCount));
            largest = MathF.Max(largest, parabolas[sub].Best);
        }

        if (largest == 0)
            return 0;
        float scale = BestScale(parabolas, largest);
        for (int sub = 0; sub < parabolas.Length; sub++)
            parabolas[sub] = Choose(sub, scale, parabolas[sub].Best, out multipliers[sub], rows.Slice(sub * runCount, runCount));
        scale = Refit(parabolas, multipliers, scale);

        double gain = 0;
        for (int sub = 0; sub < parabolas.Length; sub++)
        {
            float factor = Factor(scale, multipliers[sub]);
            gain += Rows(sub, factor, rows.Slice(sub * runCount, runCount)).Gain(factor);
        }

        // No level is 0: where the least scale is too large for the values, zeros are nearer.
        return gain > 0 ? scale : 0;
    }

    // Replaces values by their size under the stored sign: negative where an even number of signs forced the least costly one to flip.
    private static void ChooseSigns(float* values, float* weights, bool hasEvenSigns, Span<byte> signs)
    {
        for (int run = 0; run < Values / 8; run++, values += 8, weights += 8)
        {
            int negative = 0, cheapest = 0;
            for (int i = 0; i < 8; i++)
            {
                negative |= values[i] < 0 ? 1 << i : 0;
                values[i] = MathF.Abs(values[i]);
                if (weights[i] * values[i] * values[i] < weights[cheapest] * values[cheapest] * values[cheapest])
                    cheapest = i;
            }

            if (hasEvenSigns && (BitOperations.PopCount((uint)negative) & 1) != 0)
            {
                values[cheapest] = -values[cheapest];
                negative ^= 1 << cheapest;
            }

            signs[run] = (byte)negative;
        }
    }

    // The best factor of a sub-block on its own.
    private Parabola Ideal(int sub, Span<ushort> rows)
    {
        float peak = 0;
        for (int i = 0; i < _subValues; i++)
            peak = MathF.Max(peak, MathF.Abs(_values[sub * _subValues + i]));
        var best = new Parabola(0, 0);
        float unitPeak = peak / _book.Highest;
        if (!float.IsFinite(1 / unitPeak))
            return best;
        for (int trial = FirstTrial; trial <= LastTrial; trial += TrialStep)
        {
            Parabola found = Rows(sub, unitPeak * (32f / trial), rows);
            if (found.BestGain > best.BestGain)
                best = found;
        }

        for (int refit = 0; refit < RefitCount && best.Best > 0; refit++)
        {
            Parabola found = Rows(sub, best.Best, rows);
            if (!(found.BestGain > best.BestGain))
                break;
            best = found;
        }

        return best;
    }

    // The nearest rows of a sub-block at a factor, and what they gain at any other.
    private Parabola Rows(int sub, float factor, Span<ushort> rows)
    {
        float inverse = ScaleSearch.Inverse(factor);
        float* x = _values + sub * _subValues;
        float* w = _weights + sub * _subValues;
        float cross = 0, square = 0;
        int width = _book.RowValues;
        for (int run = 0; run < rows.Length; run++, x += width, w += width)
        {
            int row = _book.Nearest(x, w, inverse);
            rows[run] = (ushort)row;
            float* levels = _book.Row(row);
            for (int i = 0; i < width; i++)
            {
                float weighted = w[i] * levels[i];
                cross += weighted * x[i];
                square += weighted * levels[i];
            }
        }

        return new Parabola(cross, square);
    }

    private float BestScale(ReadOnlySpan<Parabola> parabolas, float largest)
    {
        float best = 0;
        double bestGain = double.NegativeInfinity;
        for (int trial = FirstScale; trial <= LastScale; trial++)
        {
            float scale = BlockPieces.RoundScaleToHalf(largest / _unit / (2 * HighestMultiplier + 1) * (trial / 64f));
            double gain = 0;
            foreach (Parabola parabola in parabolas)
                gain += parabola.Gain(Factor(scale, Multiplier(parabola.Best, scale)));
            if (gain > bestGain)
                (bestGain, best) = (gain, scale);
        }

        return best;
    }

    // The best of three multipliers, each with rows of its own.
    private Parabola Choose(int sub, float scale, float wanted, out byte multiplier, Span<ushort> rows)
    {
        int centre = Multiplier(wanted, scale);
        multiplier = 0;
        var best = new Parabola(0, 0);
        float bestGain = float.NegativeInfinity;
        for (int trial = Math.Max(centre - 1, 0); trial <= Math.Min(centre + 1, HighestMultiplier); trial++)
        {
            float factor = Factor(scale, trial);
            Parabola found = Rows(sub, factor, rows);
            if (found.Gain(factor) > bestGain)
                (bestGain, best, multiplier) = (found.Gain(factor), found, (byte)trial);
        }

        return best;
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

    private int Multiplier(float factor, float scale) => (int)MathF.Round(Math.Clamp((factor / (scale * _unit) - 1) * 0.5f, 0, HighestMultiplier));

    // What sum(w x²) loses when rows are used with a factor: 2 factor * cross - factor² * square.
    private readonly record struct Parabola(float Cross, float Square)
    {
        public float Best => Square > 0 && Cross > 0 ? Cross / Square : 0;

        public float BestGain => Cross > 0 ? Cross * Best : 0;

        public float Gain(float factor) => factor * (2 * Cross - factor * Square);
    }
}
