using Qian.Inference;

namespace Qian.Training.Run;

// What a run will do and take, before it takes it: for the user to read, and to refuse what would not fit.
internal sealed record TrainingPlan
{
    public required string ModelPath { get; init; }

    public required bool IsFull { get; init; }

    public required long ParameterCount { get; init; }

    public required long TrainedCount { get; init; }

    public required SampleStatistics Samples { get; init; }

    // Rows that the length limit left out.
    public required long DroppedRowCount { get; init; }

    public required TrainerOptions Options { get; init; }

    public required PackingOptions Packing { get; init; }

    // Steps and passes over the data, as far as they are known beforehand.
    public required long? ExpectedSteps { get; init; }

    public required double? ExpectedEpochs { get; init; }

    public required int ThreadCount { get; init; }

    // Weights that stay as they are (of an adapter's base), trained values with their gradients, moments, and what a pass keeps.
    public required long FrozenBytes { get; init; }

    public required long TrainedBytes { get; init; }

    public required long OptimizerBytes { get; init; }

    public required long PassBytes { get; init; }

    public required long AvailableBytes { get; init; }

    public bool Recomputes { get; init; }

    public long TotalBytes => FrozenBytes + TrainedBytes + OptimizerBytes + PassBytes;

    // Throws BadRequestException that says what to try.
    public void RequireMemory()
    {
        if (TotalBytes <= AvailableBytes)
            return;
        var advice = new List<string>();
        if (TotalBytes - PassBytes < AvailableBytes)
        {
            if (!Recomputes)
                advice.Add("--recompute keeps only each layer's input");
            advice.Add($"--micro-batch-tokens below {Packing.MaxRows} makes a pass smaller");
        }

        if (IsFull)
            advice.Add("an adapter (without --full) needs no gradients and moments of all weights");
        else
            advice.Add("a base of a smaller weight type (a Q4_K_M file) takes less");
        throw new BadRequestException(
            $"The training would not fit: {MemoryPlan.Format(TotalBytes)} needed (frozen weights {MemoryPlan.Format(FrozenBytes)}, trained values and gradients {MemoryPlan.Format(TrainedBytes)}, " +
            $"optimiser {MemoryPlan.Format(OptimizerBytes)}, a pass of {Packing.MaxRows} tokens {MemoryPlan.Format(PassBytes)}), {MemoryPlan.Format(AvailableBytes)} available. Try: {string.Join("; ", advice)}.");
    }
}
