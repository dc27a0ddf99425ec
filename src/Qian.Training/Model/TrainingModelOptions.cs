using Qian.Kernels;

namespace Qian.Training.Model;

// How a model is held for training.
internal sealed record TrainingModelOptions
{
    // Most rows of one pass.
    public required int MaxRows { get; init; }

    // Most samples in one pass; 0 for one per 32 rows, at least 8. The delta rule saves a state for each sample and each 64 rows.
    public int MaxSampleCount { get; init; }

    public MatmulPrecision Precision { get; init; } = MatmulPrecision.Float32;

    // Save only every layer's input and run the layer again on the way back: a third more time, a small part of the memory.
    public bool Recompute { get; init; }

    // Factor on the loss of the MTP head. 0 leaves the head alone: it is neither run nor changed.
    public float MtpLossWeight { get; init; }

    public int SampleLimit => MaxSampleCount > 0 ? MaxSampleCount : Math.Max(8, MaxRows / 32);

    // Chunks of the delta rule that a pass can have: each sample may end in a part of one.
    public int ChunkLimit => MaxRows / DeltaChunk + SampleLimit;

    // Rows between two saved states of the delta rule, as DeltaRule.ChunkCount counts them.
    private const int DeltaChunk = 64;
}

// What a pass found: sums of the loss over the rows that have a label, in natural logarithms.
internal readonly record struct BatchLoss(double LossSum, int TargetCount, double MtpLossSum, int MtpTargetCount)
{
    public double Mean => TargetCount == 0 ? 0 : LossSum / TargetCount;

    public double MtpMean => MtpTargetCount == 0 ? 0 : MtpLossSum / MtpTargetCount;

    public static BatchLoss operator +(BatchLoss a, BatchLoss b) =>
        new(a.LossSum + b.LossSum, a.TargetCount + b.TargetCount, a.MtpLossSum + b.MtpLossSum, a.MtpTargetCount + b.MtpTargetCount);
}
