using System.Diagnostics;
using Qian.Inference;
using Qian.Inference.Formats;
using Qian.Inference.Measurement;
using Qian.Inference.Model;
using Qian.Kernels;

namespace Qian.Training.Run;

// What a row costs in multiply-accumulates with weights, and what the machine can do: the two sides of the share of the peak.
// Attention, the delta rule and what recomputation does twice are left out, so the share is what the whole step makes of the
// multipliers.
internal static class TrainingCost
{
    private const double MeasuredSeconds = 0.1;

    // A trained matrix is multiplied three times (forward, gradient of its input, gradient of itself), a frozen one twice.
    public static double MacsPerRow(Checkpoint checkpoint, bool isFull, bool mtp, long adapterFloatCount)
    {
        PassCost cost = PassCost.Of(checkpoint, new EngineOptions(), kvBytesPerToken: 0);
        double macs = cost.MacsPerRow + cost.HeadMacs;
        if (mtp)
            macs += cost.HeadMacs + MtpMacs(checkpoint);
        return isFull ? 3 * macs : 2 * macs + 3 * adapterFloatCount;
    }

    // Float32 multiply-accumulates per second of all threads, in the fastest form: best of three.
    public static double MeasurePeak(ThreadTeam team)
    {
        double best = 0;
        foreach (ProductCeiling form in ProductCeiling.Float32)
        {
            int rounds = 2000;
            double seconds;
            while ((seconds = Seconds(form, rounds, team, out _)) < MeasuredSeconds / 2 && rounds < 1 << 28)
                rounds *= 2;
            for (int i = 0; i < 3; i++)
            {
                seconds = Seconds(form, rounds, team, out long macs);
                best = Math.Max(best, macs / seconds);
            }
        }

        return best;
    }

    private static double MtpMacs(Checkpoint checkpoint)
    {
        var none = new LayerRange(0, 0, Embedding: false, Head: false);
        double macs = 0;
        foreach ((TensorSource source, bool isLookup) in MatrixRoles.Of(checkpoint, none, mtp: true))
            macs += isLookup ? 0 : (double)source.RowCount * source.ColumnCount;
        return macs;
    }

    private static double Seconds(ProductCeiling form, int rounds, ThreadTeam team, out long macs)
    {
        long start = Stopwatch.GetTimestamp();
        macs = form.Run(rounds, team);
        return Stopwatch.GetElapsedTime(start).TotalSeconds;
    }
}
