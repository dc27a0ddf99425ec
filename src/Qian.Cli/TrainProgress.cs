using System.Diagnostics;
using System.Globalization;
using Qian.Training.Run;
using Spectre.Console;

namespace Qian.Cli;

// How a run looks while it goes: a live line on a terminal, with a bar where there is room; elsewhere a line at the first step, at every evaluation, and every
// few seconds.
internal static class TrainProgress
{
    public static TrainingSummary Show(Func<IProgress<TrainingProgress>, TrainingSummary> run)
    {
        if (Console.IsErrorRedirected)
            return run(new Lines());
        var text = new TaskDescriptionColumn { Alignment = Justify.Left };
        return Terminal.Error.Progress()
            .AutoClear(false)
            .Columns(IsWide ? [new ProgressBarColumn { Width = 16 }, new PercentageColumn(), text] : [new PercentageColumn(), text])
            .Start(context => run(new Bar(context.AddTask("first step", maxValue: 1))));
    }

    // A line that does not fit would break over several, and the bar with it.
    private static bool IsWide => Terminal.Error.Profile.Width >= 130;

    private static string ShortText(TrainingProgress at)
    {
        string heldOut = Measured(at);
        return at.Loss is { } loss
            ? string.Create(CultureInfo.InvariantCulture, $"step {at.Position.StepCount}, loss {loss:0.000}{heldOut}, {at.TokensPerSecond:0} tokens/s, {Left(at.SecondsLeft)}")
            : $"step 0{heldOut}";
    }

    private static string Text(TrainingProgress at)
    {
        string mtp = at.MtpLoss is { } value ? string.Create(CultureInfo.InvariantCulture, $", mtp {value:0.000}") : "";
        string heldOut = Measured(at);
        if (at.Loss is not { } loss)
            return $"step 0{heldOut}";
        return string.Create(CultureInfo.InvariantCulture,
            $"step {at.Position.StepCount}, loss {loss:0.000}{mtp}{heldOut}, rate {at.Rate:0.00e-0}, {at.TokensPerSecond:0} tokens/s, {100 * at.PeakShare:0} % of float32 peak, {Left(at.SecondsLeft)}");
    }

    private static string Measured(TrainingProgress at)
    {
        string heldOut = at.HeldOutLoss is { } loss ? string.Create(CultureInfo.InvariantCulture, $", held-out {loss:0.000}") : "";
        return at.WatchedLoss is { } watched ? string.Create(CultureInfo.InvariantCulture, $"{heldOut}, watched {watched:0.000}") : heldOut;
    }

    private static string Left(double? seconds)
    {
        if (seconds is not { } left || !(left < 1e7))
            return "time left unknown";
        TimeSpan time = TimeSpan.FromSeconds(left);
        return time.TotalHours >= 1 ? $"{(int)time.TotalHours} h {time.Minutes:00} min left" : $"{time.Minutes} min {time.Seconds:00} s left";
    }

    private sealed class Bar(ProgressTask task) : IProgress<TrainingProgress>
    {
        public void Report(TrainingProgress value)
        {
            task.Value = value.Share;
            task.Description = Markup.Escape(IsWide ? Text(value) : ShortText(value));
        }
    }

    private sealed class Lines : IProgress<TrainingProgress>
    {
        private const double SecondsBetween = 10;

        private long _last;

        public void Report(TrainingProgress value)
        {
            if (!value.IsEvaluated && _last != 0 && Stopwatch.GetElapsedTime(_last).TotalSeconds < SecondsBetween)
                return;
            _last = Stopwatch.GetTimestamp();
            Terminal.Note($"{Math.Floor(100 * value.Share),3:0} %  {Text(value)}");
        }
    }
}
