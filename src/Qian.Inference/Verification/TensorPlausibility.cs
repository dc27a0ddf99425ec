using Qian.Inference.Formats;

namespace Qian.Inference.Verification;

// Judges what the statistics say. Every bound is far outside of what training leaves behind (and of random start weights), and
// well inside of what a broken download or a wrong converter leaves: these are tests of plausibility, and a file may pass them
// and still be wrong.
internal static class TensorPlausibility
{
    private const double LeastRms = 1e-6, MostRms = 1000;
    private const double MostRmsRatio = 32;     // to the middle one of its kind in other layers
    private const double MostRowSpread = 1000;
    private const double MostZeroShare = 0.01;
    private const double MostNegativeNorms = 0.25;
    private const double MostDecay = 1e4, MostDtBias = 1e3;
    private const int FewestOfAKind = 4;

    public static void Judge(IReadOnlyList<TensorStatistics> tensors, Action<string, IEnumerable<string>> report)
    {
        report("tensors with values that are not finite", tensors.Where(t => t.NotFinite > 0).Select(t => $"{t.Name} ({t.NotFinite})"));
        List<TensorStatistics> matrices = [.. tensors.Where(t => t.RowCount > 1 && t.Role is not (TensorRole.TokenEmbedding or TensorRole.Output or TensorRole.LinearConv))];
        report("matrices with holes (rows of zeros)", matrices.Where(t => t.ZeroRows > Math.Max(1, MostZeroShare * t.RowsRead)).Select(t => $"{t.Name} ({t.ZeroRows} of {t.RowsRead} rows)"));
        report("matrices with repeated rows", matrices.Where(t => t.RepeatedRows > 0).Select(t => $"{t.Name} ({t.RepeatedRows})"));
        report("matrices with rows far larger than the others", matrices.Where(t => t.RowSpread > MostRowSpread).Select(t => FormattableString.Invariant($"{t.Name} ({t.RowSpread:0} times the middle row)")));
        report("tensors whose size is not that of their kind", tensors.Where(t => !(t.Rms is >= LeastRms and <= MostRms)).Concat(Outliers(tensors)).Select(t => FormattableString.Invariant($"{t.Name} (rms {t.Rms:0.0e+0})")).Distinct());
        report("norms that are not around one (stored as w, not 1 + w?)", tensors.Where(t => TensorShapes.IsZeroCentredNorm(t.Role) && t.NegativeShare > MostNegativeNorms).Select(t => FormattableString.Invariant($"{t.Name} ({t.NegativeShare:0%} negative)")));
        report("decays that do not decay (stored as A_log, not -exp(A_log)?)", tensors.Where(t => t.Role == TensorRole.LinearDecay && !(t.Largest < 0 && t.Smallest > -MostDecay)).Select(t => FormattableString.Invariant($"{t.Name} ({t.Smallest:0.0e+0} to {t.Largest:0.0e+0})")));
        report("biases of the decay out of range", tensors.Where(t => t.Role == TensorRole.LinearDtBias && !(Math.Max(-t.Smallest, t.Largest) < MostDtBias)).Select(t => FormattableString.Invariant($"{t.Name} ({t.Smallest:0.0e+0} to {t.Largest:0.0e+0})")));
    }

    // The same kind of tensor in other layers: where there are enough of them to know what is usual.
    private static IEnumerable<TensorStatistics> Outliers(IReadOnlyList<TensorStatistics> tensors)
    {
        foreach (IGrouping<TensorRole, TensorStatistics> kind in tensors.GroupBy(t => t.Role))
        {
            double[] sizes = [.. kind.Select(t => t.Rms).Where(double.IsFinite).Order()];
            if (sizes.Length < FewestOfAKind)
                continue;
            double middle = sizes[sizes.Length / 2];
            foreach (TensorStatistics tensor in kind)
            {
                if (tensor.Rms > MostRmsRatio * middle || tensor.Rms < middle / MostRmsRatio)
                    yield return tensor;
            }
        }
    }
}
