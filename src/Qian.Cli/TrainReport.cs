using System.Globalization;
using System.Text.Json;
using Qian.Inference;
using Qian.Kernels;
using Qian.Training;
using Qian.Training.Optimization;
using Qian.Training.Run;

namespace Qian.Cli;

// What `qian train` prints: the plan before a run and the result after it.
internal static class TrainReport
{
    public static void PrintPlan(TrainingPlan plan, bool isJson, TextWriter output)
    {
        if (isJson)
        {
            output.WriteLine(PlanJson(plan));
            return;
        }

        SampleStatistics samples = plan.Samples;
        TrainerOptions options = plan.Options;
        Line(output, $"model      {plan.ModelPath}: {Millions(plan.ParameterCount)} parameters, {Millions(plan.TrainedCount)} trained ({(plan.IsFull ? "all weights" : "adapter")})");
        Line(output, $"data       {samples.TrainingCount} samples, {samples.TrainingTokenCount} tokens, {samples.TrainingTargetCount} of them learned; held out {samples.HeldOutCount} samples, {samples.HeldOutTokenCount} tokens");
        if (samples.DuplicateCount + samples.NearDuplicateCount + samples.EmptyCount + samples.SkippedCount > 0 || plan.DroppedRowCount > 0)
            Line(output, $"left out   {samples.DuplicateCount} duplicates, {samples.NearDuplicateCount} near duplicates, {samples.EmptyCount} without anything to learn, {samples.SkippedCount} unreadable, {plan.DroppedRowCount} tokens beyond the length limit");
        foreach (string reason in samples.SkippedReasons)
            Line(output, $"           {reason}");
        string steps = plan.ExpectedSteps is { } count ? $"about {count} steps" : "steps as the time allows";
        string epochs = plan.ExpectedEpochs is { } passes ? string.Create(CultureInfo.InvariantCulture, $", {passes:0.##} passes over the data") : "";
        Line(output, $"run        {options.Limit}: {steps} of {plan.Packing.MicroBatchCount} x {plan.Packing.MaxRows} tokens{epochs}; samples of at most {plan.Packing.MaxSampleRows} tokens; seed {plan.Packing.Seed}, {plan.ThreadCount} threads");
        string schedule = Schedule.Names.First(known => known.Kind == options.Schedule.Kind).Name;
        Line(output, $"optimiser  {options.Optimizer.Kind}, rate {options.Schedule.PeakRate:0.###e-0} ({schedule}, warm-up {options.Schedule.WarmupSteps} steps), weight decay {options.Optimizer.WeightDecay:0.###}, clip {options.ClipNorm:0.###}, products in {(options.Precision == MatmulPrecision.BFloat16 ? "bf16" : "f32")}");
        Line(output, $"memory     {MemoryPlan.Format(plan.TotalBytes)} of {MemoryPlan.Format(plan.AvailableBytes)} available: frozen weights {MemoryPlan.Format(plan.FrozenBytes)}, trained values and gradients {MemoryPlan.Format(plan.TrainedBytes)}, optimiser {MemoryPlan.Format(plan.OptimizerBytes)}, a pass {MemoryPlan.Format(plan.PassBytes)}");
    }

    public static void Print(TrainingSummary summary)
    {
        string loss = summary.Loss is { } last ? string.Create(CultureInfo.InvariantCulture, $", loss {last:0.0000}") : "";
        Line(Console.Out, $"{Outcome(summary)}: {summary.Position.StepCount} steps, {summary.Position.TokenCount} tokens, {summary.Epochs:0.##} passes over the data, {summary.Position.Seconds:0} s{loss}");
        if (summary is { FirstHeldOutLoss: { } first, HeldOutLoss: { } now })
            Line(Console.Out, $"held-out loss {first:0.0000} at first, {now:0.0000} now (perplexity {Math.Exp(first):0.00} and {Math.Exp(now):0.00})");
        if (summary is { FirstWatchedLoss: { } watchedFirst, WatchedLoss: { } watchedNow })
            Line(Console.Out, $"watched loss {watchedFirst:0.0000} at first, {watchedNow:0.0000} now ({100 * (watchedNow / watchedFirst - 1):+0.0;-0.0} %)");
        Line(Console.Out, $"{summary.TokensPerSecond:0} tokens/s, {100 * summary.PeakShare:0.0} % of the float32 peak");
        if (summary.ModelFolder is { } folder)
            Console.WriteLine($"model in {folder}");
    }

    public static void PrintJson(TrainingSummary summary) => Console.WriteLine(JsonSerializer.Serialize(new
    {
        outcome = Outcome(summary),
        steps = summary.Position.StepCount,
        tokens = summary.Position.TokenCount,
        epochs = summary.Epochs,
        seconds = summary.Position.Seconds,
        loss = summary.Loss,
        first_held_out_loss = summary.FirstHeldOutLoss,
        held_out_loss = summary.HeldOutLoss,
        first_watched_loss = summary.FirstWatchedLoss,
        watched_loss = summary.WatchedLoss,
        tokens_per_s = summary.TokensPerSecond,
        float32_peak_share = summary.PeakShare,
        state = summary.StatePath,
        model = summary.ModelFolder,
        failure = summary.Failure,
    }));

    private static string PlanJson(TrainingPlan plan) => JsonSerializer.Serialize(new
    {
        model = plan.ModelPath,
        full = plan.IsFull,
        parameters = plan.ParameterCount,
        trained = plan.TrainedCount,
        samples = plan.Samples.TrainingCount,
        tokens = plan.Samples.TrainingTokenCount,
        targets = plan.Samples.TrainingTargetCount,
        held_out_samples = plan.Samples.HeldOutCount,
        held_out_tokens = plan.Samples.HeldOutTokenCount,
        duplicates = plan.Samples.DuplicateCount,
        skipped = plan.Samples.SkippedCount,
        expected_steps = plan.ExpectedSteps,
        expected_epochs = plan.ExpectedEpochs,
        micro_batches = plan.Packing.MicroBatchCount,
        micro_batch_tokens = plan.Packing.MaxRows,
        sequence = plan.Packing.MaxSampleRows,
        learning_rate = plan.Options.Schedule.PeakRate,
        warmup_steps = plan.Options.Schedule.WarmupSteps,
        threads = plan.ThreadCount,
        memory = new { total_bytes = plan.TotalBytes, frozen_bytes = plan.FrozenBytes, trained_bytes = plan.TrainedBytes, optimizer_bytes = plan.OptimizerBytes, pass_bytes = plan.PassBytes, available_bytes = plan.AvailableBytes },
    });

    private static string Outcome(TrainingSummary summary) => summary.Outcome switch
    {
        TrainingOutcome.Finished => "finished",
        TrainingOutcome.Interrupted => "interrupted",
        _ => "stopped",
    };

    private static string Millions(long count) => count >= 1_000_000
        ? string.Create(CultureInfo.InvariantCulture, $"{count / 1e6:0.0} M")
        : string.Create(CultureInfo.InvariantCulture, $"{count}");

    private static void Line(TextWriter output, FormattableString line) => output.WriteLine(line.ToString(CultureInfo.InvariantCulture));
}
