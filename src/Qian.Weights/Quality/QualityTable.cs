using System.Globalization;

namespace Qian.Weights;

// The figures as rows of name, value and 95 % interval, for the terminal and the HTML report alike.
internal static class QualityTable
{
    public static IEnumerable<(string Name, string Value, string Range)> Rows(QualityReport report)
    {
        yield return Row("perplexity of the reference", report.ReferencePerplexity, "0.0000");
        yield return Row("perplexity of the candidate", report.CandidatePerplexity, "0.0000");
        yield return Row("perplexity ratio (paired)", report.PerplexityRatio, "0.00000");
        yield return Row("log-likelihood difference (paired)", report.LogLikelihoodDifference, "0.00000");
        yield return Row("KL divergence, mean", report.Divergence, "0.000000");
        foreach ((double percent, double value) in report.DivergencePercentiles)
        {
            string name = percent switch
            {
                50 => "median",
                100 => "maximum",
                _ => FormattableString.Invariant($"{percent} %"),
            };
            yield return ($"KL divergence, {name}", Number(value, "0.000000"), "");
        }

        yield return Row("same favourite", report.TopAgreement, "0.0000");
        yield return Row("five favourites shared", report.TopFiveAgreement, "0.0000");
        yield return ("probability difference, rms", Number(report.ProbabilityRms, "0.00000"), "");
        if (report.RestMass > 0)
            yield return ("mass that the saved reference lumps", Number(report.RestMass, "0.0e+0"), "");
    }

    private static (string Name, string Value, string Range) Row(string name, Interval interval, string format) =>
        (name, Number(interval.Mean, format), $"{Number(interval.Low, format)} to {Number(interval.High, format)}");

    // No zero with a sign.
    private static string Number(double value, string format)
    {
        string text = value.ToString(format, CultureInfo.InvariantCulture);
        return text.StartsWith('-') && text.AsSpan(1).IndexOfAnyExcept('0', '.') < 0 ? text[1..] : text;
    }
}
