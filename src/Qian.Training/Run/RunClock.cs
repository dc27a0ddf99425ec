using System.Diagnostics;

namespace Qian.Training.Run;

// The times of one session of a run: how long the run has worked in all, how fast it is, how long it will take yet.
internal sealed class RunClock(RunPosition first, TrainerOptions options)
{
    private readonly long _start = Stopwatch.GetTimestamp();
    private long _saved = Stopwatch.GetTimestamp();
    private long _rowCount;
    private double _stepSeconds;

    // Of the whole run, earlier sessions included.
    public double Seconds => first.Seconds + Stopwatch.GetElapsedTime(_start).TotalSeconds;

    public double SecondsSinceSave => Stopwatch.GetElapsedTime(_saved).TotalSeconds;

    // Over the steps of this session.
    public double TokensPerSecond => _stepSeconds > 0 ? _rowCount / _stepSeconds : 0;

    public void Worked(int rowCount, double seconds)
    {
        _rowCount += rowCount;
        _stepSeconds += seconds;
    }

    public void Saved() => _saved = Stopwatch.GetTimestamp();

    public double PeakShare(double tokensPerSecond) => options.PeakMacsPerSecond > 0 ? tokensPerSecond * options.MacsPerRow / options.PeakMacsPerSecond : 0;

    public TrainingProgress Progress(RunPosition position, double epochs, LogEntry entry, Measurement measured)
    {
        double share = options.Limit.Progress(position), before = options.Limit.Progress(first);
        return new TrainingProgress
        {
            Position = position,
            Share = share,
            Epochs = epochs,
            Loss = entry.Loss,
            MtpLoss = entry.MtpLoss,
            HeldOutLoss = measured.HeldOutLoss,
            WatchedLoss = measured.WatchedLoss,
            IsEvaluated = entry.HeldOutLoss is not null,
            Rate = entry.Rate,
            GradientNorm = entry.GradientNorm,
            TokensPerSecond = entry.TokensPerSecond,
            PeakShare = PeakShare(entry.TokensPerSecond),
            SecondsLeft = share > before ? (Seconds - first.Seconds) * (1 - share) / (share - before) : null,
        };
    }
}

// The losses of the last evaluation; null where there is no such text, or before the first.
internal readonly record struct Measurement(double? HeldOutLoss, double? WatchedLoss);

