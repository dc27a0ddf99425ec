namespace Qian.Weights;

// A mean with its 95 % confidence interval. Tokens of one piece of text resemble each other, so pieces are what is counted as
// independent: the variance is that of the pieces' sums (Student's t with pieces - 1 degrees of freedom). With one piece alone its
// tokens have to stand in for pieces, which makes the interval too narrow.
internal readonly record struct Interval(double Mean, double Low, double High)
{
    // t at 97.5 % for 1 to 30 degrees of freedom.
    private static readonly double[] s_quantiles =
    [
        12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281, 2.2010, 2.1788, 2.1604, 2.1448, 2.1314,
        2.1199, 2.1098, 2.1009, 2.0930, 2.0860, 2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423,
    ];

    // `piece[i]` says which piece of text value i belongs to; pieces are runs.
    public static Interval Of(ReadOnlySpan<double> values, ReadOnlySpan<int> pieces)
    {
        if (values.IsEmpty || values.Length != pieces.Length)
            throw new ArgumentException($"{values.Length} values with {pieces.Length} piece numbers", nameof(values));
        double mean = 0;
        foreach (double value in values)
            mean += value;
        mean /= values.Length;

        double squares = 0, pieceSquares = 0, pieceSum = 0;
        int pieceCount = 0;
        for (int i = 0; i < values.Length; i++)
        {
            double deviation = values[i] - mean;
            squares += deviation * deviation;
            pieceSum += deviation;
            if (i + 1 < values.Length && pieces[i + 1] == pieces[i])
                continue;
            pieceSquares += pieceSum * pieceSum;
            pieceSum = 0;
            pieceCount++;
        }

        double half = 0;
        if (pieceCount > 1)
            half = StudentQuantile(pieceCount - 1) * Math.Sqrt(pieceSquares * pieceCount / (pieceCount - 1)) / values.Length;
        else if (values.Length > 1)
            half = StudentQuantile(values.Length - 1) * Math.Sqrt(squares / (values.Length - 1) / values.Length);
        return new Interval(mean, mean - half, mean + half);
    }

    // The exponential of all three: a perplexity from a mean of negative logarithms.
    public Interval Exp() => new(Math.Exp(Mean), Math.Exp(Low), Math.Exp(High));

    // Of sorted values, between neighbours where it falls between them.
    public static double Percentile(ReadOnlySpan<double> sorted, double percent)
    {
        double place = percent / 100 * (sorted.Length - 1);
        int below = (int)Math.Floor(place);
        int above = Math.Min(below + 1, sorted.Length - 1);
        return sorted[below] + (place - below) * (sorted[above] - sorted[below]);
    }

    // Beyond the table the first terms of the expansion around the normal quantile are exact to 1e-4.
    internal static double StudentQuantile(int freedom) =>
        freedom <= s_quantiles.Length ? s_quantiles[freedom - 1] : 1.959964 + 2.372271 / freedom + 2.822386 / ((double)freedom * freedom);
}
