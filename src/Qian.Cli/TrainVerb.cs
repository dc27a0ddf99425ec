using System.CommandLine;
using Qian.Inference.Measurement;
using Qian.Training.Run;

namespace Qian.Cli;

// qian train: all weights of a model, or an adapter for it, from data of the user's own.
internal static class TrainVerb
{
    public static Command Create()
    {
        var command = new Command("train", "Train a model, or an adapter for one, on your own data");
        var flags = new TrainFlags(command);
        command.SetAction((parsed, cancellation) => Task.FromResult(Run(flags.Request(parsed), flags.IsDryRun(parsed), flags.IsJson(parsed), cancellation)));
        return command;
    }

    private static int Run(TrainRequest request, bool isDryRun, bool isJson, CancellationToken cancellation)
    {
        using TrainingSession session = TrainingSession.Prepare(request, Terminal.Note, cancellation);
        if (isDryRun)
        {
            TrainReport.PrintPlan(session.Plan, isJson, Console.Out);
            session.Plan.RequireMemory();
            return Program.Done;
        }

        TrainReport.PrintPlan(session.Plan, isJson: false, Console.Error);
        session.Plan.RequireMemory();
        // Never beside a measurement: each would spoil the other.
        using BenchLock only = BenchLock.Take(Path.GetTempPath());
        TrainingSummary summary = TrainProgress.Show(progress => session.Run(progress, cancellation));
        if (isJson)
            TrainReport.PrintJson(summary);
        else
            TrainReport.Print(summary);
        switch (summary.Outcome)
        {
            case TrainingOutcome.Finished:
                return Program.Done;
            case TrainingOutcome.Interrupted:
                Terminal.Note($"qian: interrupted after step {summary.Position.StepCount}; the same command with --resume continues");
                return Program.Interrupted;
            default:
                Terminal.Note($"qian: stopped at {summary.Failure}");
                return Program.Failed;
        }
    }
}
