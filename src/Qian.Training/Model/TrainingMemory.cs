using Qian.Inference;
using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Training.Model;

// What training takes in memory, before anything is allocated. All in bytes. The buffers of a pass are counted by the code that
// takes them.
internal sealed record TrainingMemory
{
    // Trained values.
    public required long ParameterBytes { get; init; }

    public required long GradientBytes { get; init; }

    // Two moments per trained value.
    public required long OptimizerBytes { get; init; }

    // Frozen weights under an adapter.
    public required long FrozenBytes { get; init; }

    // What passes write.
    public required long PassBytes { get; init; }

    public long TotalBytes => ParameterBytes + GradientBytes + OptimizerBytes + FrozenBytes + PassBytes;

    // Full training of a model of this shape.
    public static TrainingMemory Estimate(ModelConfig config, TrainingModelOptions options, int threadCount)
    {
        bool mtp = config.MtpLayerCount > 0 && options.MtpLossWeight > 0;
        return Of(config, options, mtp, null, CountWeights(config, mtp), 0, threadCount);
    }

    // An adapter over a frozen checkpoint.
    public static TrainingMemory Estimate(Checkpoint checkpoint, LoraOptions lora, TrainingModelOptions options, int threadCount) =>
        Of(checkpoint.Config, options, false, AdapterSizes.Of(checkpoint.Config, lora), LowRankWeights.CountFloats(checkpoint.Config, lora), LowRankWeights.FrozenBytes(checkpoint), threadCount);

    // Why a run does not fit and what to do about it, or null when it fits.
    public string? Refusal(long availableBytes, TrainingModelOptions options)
    {
        if (TotalBytes <= availableBytes)
            return null;
        string advice = PassBytes > TotalBytes / 2
            ? options.Recompute ? "Use fewer rows per pass." : "Recompute layers on the way back, or use fewer rows per pass."
            : "Train an adapter (LoRA) instead of all weights, or use a machine with more memory.";
        return $"Training would not fit: {MemoryPlan.Format(TotalBytes)} needed (weights {MemoryPlan.Format(ParameterBytes + FrozenBytes)}, gradients {MemoryPlan.Format(GradientBytes)}, " +
            $"optimiser {MemoryPlan.Format(OptimizerBytes)}, {options.MaxRows} rows of a pass {MemoryPlan.Format(PassBytes)}), {MemoryPlan.Format(availableBytes)} available. {advice}";
    }

    private static TrainingMemory Of(ModelConfig config, TrainingModelOptions options, bool mtp, AdapterSizes? adapter, long trainedFloats, long frozenBytes, int threadCount)
    {
        FloatArena pass = FloatArena.Counting();
        _ = new TrainingBuffers(pass, config, options, mtp, adapter);
        long bytes = trainedFloats * sizeof(float);
        return new TrainingMemory
        {
            ParameterBytes = bytes,
            GradientBytes = bytes,
            OptimizerBytes = 2 * bytes,
            FrozenBytes = frozenBytes,
            PassBytes = pass.FloatCount * sizeof(float) + KernelBytes(config, options, threadCount),
        };
    }

    private static long CountWeights(ModelConfig config, bool mtp)
    {
        long count = 0;
        foreach (TensorRole role in Enum.GetValues<TensorRole>())
        {
            if (role == TensorRole.Output && config.TiedEmbeddings)
                continue;
            (int rows, int columns) = TensorShapes.Of(config, role);
            for (int layer = -1; layer < config.LayerCount + (mtp ? 1 : 0); layer++)
                count += TensorShapes.Occurs(config, role, layer) ? (TensorShapes.IsExpert(role) ? config.ExpertCount : 1) * (long)rows * columns : 0;
        }

        return count;
    }

    // Working memory that kernels hold themselves: it depends on shape, rows and threads alone, and is small enough to ask.
    private static long KernelBytes(ModelConfig config, TrainingModelOptions options, int threadCount)
    {
        using var matmul = new MatmulScratch(threadCount);
        using var attention = new CausalAttentionScratch(new AttentionShape(config.AttentionHeads, config.KvHeads, config.HeadDim), options.MaxRows, threadCount);
        using var delta = new DeltaTrainingScratch(
            new DeltaShape(config.LinearKeyHeads, config.LinearValueHeads, config.LinearKeyDim, config.LinearValueDim, config.ValueHeadsInterleaved), threadCount);
        return matmul.Bytes + attention.Bytes + delta.Bytes;
    }
}
