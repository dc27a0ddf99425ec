using Qian.Kernels;
using Qian.Training.Model;
using Qian.Training.Optimization;

namespace Qian.Training.Run;

// A run as it is asked for. What is null has a default that depends on the model, the data or the kind of training.
internal sealed record TrainRequest
{
    public required string ModelPath { get; init; }

    public required string OutFolder { get; init; }

    public required DataOptions Data { get; init; }

    // The adapter to train; null for all weights.
    public LoraOptions? Lora { get; init; }

    public bool IsFull => Lora is null;

    // At most one of the four; without any, one pass over the data.
    public double? Epochs { get; init; }

    public long? Steps { get; init; }

    public long? Tokens { get; init; }

    public double? Hours { get; init; }

    public int BatchTokens { get; init; } = 4096;

    public int? MicroBatchTokens { get; init; }

    public int Sequence { get; init; } = 512;

    public LongSamples LongSamples { get; init; } = LongSamples.Cut;

    public double? LearningRate { get; init; }

    // Text that is measured beside the held-out data, to see what the model forgets: files or folders, as for the data.
    public IReadOnlyList<string> WatchedPaths { get; init; } = [];

    public ScheduleKind? Schedule { get; init; }

    public int? WarmupSteps { get; init; }

    public double DecayShare { get; init; } = 0.2;

    public double? WeightDecay { get; init; }

    public bool DecayAll { get; init; }

    public double Clip { get; init; } = 1;

    public OptimizerKind Optimizer { get; init; }

    public MatmulPrecision Precision { get; init; } = MatmulPrecision.BFloat16;

    public bool Recompute { get; init; }

    public double? MtpWeight { get; init; }

    public ulong Seed { get; init; } = 1;

    public int? ThreadCount { get; init; }

    public int? EvaluateEvery { get; init; }

    public int? SaveEvery { get; init; }

    public bool SaveModelWithState { get; init; }

    public bool Resume { get; init; }

    // What the run may take; null for what is free.
    public long? MemoryLimitBytes { get; init; }
}
