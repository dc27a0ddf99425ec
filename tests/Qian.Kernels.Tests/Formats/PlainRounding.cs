namespace Qian.Kernels.Tests.Formats;

// What a type gives without any search, in double arithmetic: the scale puts the value of largest magnitude on the furthest
// level (or the range on the first and last), multipliers are rounded, each value goes to the nearest level.
// An independent yardstick for the encoders; it returns the rounded values and knows no bytes.
internal static class PlainRounding
{
    private static readonly double[] s_e2m1 = [-12, -8, -6, -4, -3, -2, -1, 0, 1, 2, 3, 4, 6, 8, 12];
    private static readonly double[] s_dense = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

    public static float[] Apply(WeightType type, float[] values)
    {
        var result = new double[values.Length];
        int blockValues = WeightFormat.BlockValues(type);
        for (int start = 0; start < values.Length; start += blockValues)
        {
            double[] x = Array.ConvertAll(values[start..(start + blockValues)], value => (double)value);
            double[] rounded = type switch
            {
                WeightType.Q8_0 => Signed(x, Range(-127, 127), 1, blockValues),
                WeightType.Q4_0 => Signed(x, Range(-8, 7), 1, blockValues),
                WeightType.Q5_0 => Signed(x, Range(-16, 15), 1, blockValues),
                WeightType.IQ4_NL => Signed(x, s_dense, 1, blockValues),
                WeightType.Q3_K => Signed(x, Range(-4, 3), 31, 16),
                WeightType.Q6_K => Signed(x, Range(-32, 31), 127, 16),
                WeightType.IQ4_XS => Signed(x, s_dense, 31, 32),
                WeightType.Q4_1 => Offset(x, 15, 0, blockValues),
                WeightType.Q5_1 => Offset(x, 31, 0, blockValues),
                WeightType.Q2_K => Offset(x, 3, 15, 16),
                WeightType.Q4_K => Offset(x, 15, 63, 32),
                WeightType.Q5_K => Offset(x, 31, 63, 32),
                WeightType.MXFP4 => Float(x, 32, scale => Math.Pow(2, Math.Floor(Math.Log2(scale * 12)) - 3)),
                WeightType.NVFP4 => Float(x, 16, NearestE4M3),
                WeightType.IQ2_XXS => Book(x, CodeBooks.Iq2Xxs, 8, 32, hasEvenSigns: true),
                WeightType.IQ2_XS => Book(x, CodeBooks.Iq2Xs, 8, 16, hasEvenSigns: true),
                WeightType.IQ2_S => Book(x, CodeBooks.Iq2S, 8, 16, hasEvenSigns: false),
                WeightType.IQ3_XXS => Book(x, Array.ConvertAll(CodeBooks.Iq3Xxs, row => (ulong)row), 4, 32, hasEvenSigns: true),
                WeightType.IQ3_S => Book(x, Array.ConvertAll(CodeBooks.Iq3S, row => (ulong)row), 4, 32, hasEvenSigns: false),
                _ => throw new ArgumentOutOfRangeException(nameof(type)),
            };
            rounded.CopyTo(result, start);
        }

        return Array.ConvertAll(result, value => (float)value);
    }

    // Sub-blocks under multipliers of one block scale; with a highest multiplier of 1 the block is its own sub-block.
    private static double[] Signed(double[] x, double[] levels, int highestMultiplier, int size)
    {
        double[] scales = Groups(x, size, part => part.MaxBy(Math.Abs) / levels[0]);
        double block = scales.MaxBy(Math.Abs) / highestMultiplier;
        return Rounded(x, size, group => Math.Round(scales[group] / block) * block, _ => 0, levels);
    }

    private static double[] Offset(double[] x, int highest, int highestMultiplier, int size)
    {
        bool isFree = highestMultiplier == 0;
        double[] lows = Groups(x, size, part => isFree ? part.Min() : Math.Min(part.Min(), 0));
        double[] scales = Groups(x, size, part => part.Max()).Zip(lows, (high, low) => (high - low) / highest).ToArray();
        if (isFree)
            return Rounded(x, size, group => scales[group], group => lows[group], Range(0, highest));
        double block = scales.Max() / highestMultiplier;
        double lowBlock = lows.Min() / highestMultiplier;
        return Rounded(
            x, size, group => Math.Round(scales[group] / block) * block, group => Math.Round(lows[group] / lowBlock) * lowBlock, Range(0, highest));
    }

    private static double[] Float(double[] x, int size, Func<double, double> store)
    {
        double[] scales = Groups(x, size, part => store(part.Max(Math.Abs) / 12));
        return Rounded(x, size, group => scales[group], _ => 0, s_e2m1);
    }

    // Rows of a book under multipliers 1, 3 … 31; where eight signs must be even, the smallest value takes the wrong one.
    private static double[] Book(double[] x, ulong[] book, int width, int size, bool hasEvenSigns)
    {
        double[][] rows = Array.ConvertAll(book, row => Enumerable.Range(0, width).Select(value => (double)(row >> 8 * value & 255)).ToArray());
        double[] scales = Groups(x, size, part => part.Max(Math.Abs) / rows.Max(row => row.Max()));
        double block = scales.Max() / 31;
        var result = new double[x.Length];
        for (int start = 0; start < x.Length; start += 8)
        {
            double[] signs = Array.ConvertAll(x[start..(start + 8)], value => value < 0 ? -1.0 : 1.0);
            if (hasEvenSigns && signs.Count(sign => sign < 0) % 2 != 0)
                signs[Enumerable.Range(0, 8).MinBy(index => Math.Abs(x[start + index]))] *= -1;
            double scale = (2 * Math.Round(Math.Max(scales[start / size] / block - 1, 0) / 2) + 1) * block;
            for (int run = start; run < start + 8; run += width)
            {
                double[] row = rows[0];
                double least = double.PositiveInfinity;
                foreach (double[] candidate in rows)
                {
                    double error = 0;
                    for (int index = 0; index < width; index++)
                        error += Square(signs[run - start + index] * candidate[index] * scale - x[run + index]);
                    if (error < least)
                        (least, row) = (error, candidate);
                }

                for (int index = 0; index < width; index++)
                    result[run + index] = signs[run - start + index] * row[index] * scale;
            }
        }

        return result;
    }

    private static double Square(double value) => value * value;

    // Half scales of NVFP4: 4 bits of significand, down to 2^-10.
    private static double NearestE4M3(double scale)
    {
        double step = Math.Pow(2, Math.Max(Math.Floor(Math.Log2(scale)) - 3, -10));
        return Math.Round(scale / step) * step;
    }

    private static double[] Rounded(double[] x, int size, Func<int, double> scale, Func<int, double> low, double[] levels)
    {
        var result = new double[x.Length];
        for (int index = 0; index < x.Length; index++)
        {
            double factor = scale(index / size);
            double start = low(index / size);
            result[index] = start + factor * levels.MinBy(level => Math.Abs(start + factor * level - x[index]));
        }

        return result;
    }

    private static double[] Groups(double[] x, int size, Func<double[], double> measure) => x.Chunk(size).Select(measure).ToArray();

    private static double[] Range(int first, int last) => Enumerable.Range(first, last - first + 1).Select(level => (double)level).ToArray();
}
