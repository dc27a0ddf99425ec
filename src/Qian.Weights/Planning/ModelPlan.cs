using Qian.Inference;
using Qian.Inference.Formats;
using Qian.Inference.Measurement;
using Qian.Inference.Model;
using Qian.Kernels;

namespace Qian.Weights;

// How a model is to be run.
internal sealed record PlanRequest
{
    public required int ContextLength { get; init; }

    // Sequences at once, each with a whole context.
    public int ParallelCount { get; init; } = 1;

    public KvType Kv { get; init; } = KvType.F16;

    // Copies of the recurrent state kept per sequence, to go back to.
    public int CheckpointCount { get; init; }

    public bool WithMtp { get; init; }

    // LoRA adapters in memory.
    public IReadOnlyList<AdapterWeights> Adapters { get; init; } = [];
}

// What a model takes and how fast it will run, by the engine's own accounting (MemoryEstimate, PassCost), class by class.
internal sealed record ModelPlan
{
    private const double SmallBatchProductShare = 0.55;   // of few columns, where weights are unpacked for little use

    private readonly PassCost _cost;
    private readonly PlanRequest _request;

    private ModelPlan(PassCost cost, PlanRequest request) => (_cost, _request) = (cost, request);

    public required MemoryPlan Memory { get; init; }

    // Of the trunk, embedding lookups left out: they stay in the file.
    public required long WeightBytes { get; init; }

    // The head that predicts a token ahead: its weights and buffers; its keys and values count with the others.
    public required long MtpBytes { get; init; }

    public required long KvBytes { get; init; }

    public required long StateBytes { get; init; }

    public required long CheckpointBytes { get; init; }

    public required long AdapterBytes { get; init; }

    public required long ScratchBytes { get; init; }

    public long TotalBytes => WeightBytes + MtpBytes + KvBytes + StateBytes + CheckpointBytes + AdapterBytes + ScratchBytes;

    public static ModelPlan Of(Checkpoint checkpoint, PlanRequest request)
    {
        ModelConfig config = checkpoint.Config;
        var options = new EngineOptions { KvType = request.Kv, LoadMtp = false };
        MemoryPlan trunk = MemoryEstimate.For(checkpoint, options, LayerRange.All(config));
        MemoryPlan memory = request.WithMtp ? MemoryEstimate.For(checkpoint, options with { LoadMtp = true }, LayerRange.All(config)) : trunk;
        return new ModelPlan(PassCost.Of(checkpoint, options, memory.KvBytesPerToken), request)
        {
            Memory = memory,
            WeightBytes = trunk.OwnedWeightBytes + trunk.MappedWeightBytes,
            MtpBytes = memory.FixedBytes(0) - trunk.FixedBytes(0),
            KvBytes = (long)request.ParallelCount * request.ContextLength * memory.KvBytesPerToken,
            StateBytes = request.ParallelCount * memory.SequenceStateBytes,
            CheckpointBytes = (long)request.ParallelCount * request.CheckpointCount * memory.SequenceStateBytes,
            AdapterBytes = request.Adapters.Sum(adapter => LowRankAdapter.BytesOf(adapter, options.MaxBatchRows)),
            ScratchBytes = trunk.ScratchBytes,
        };
    }

    public bool Fits(Machine machine) => TotalBytes <= machine.UsableBytes;

    // The longest context that fits with everything else as asked for, in whole blocks; 0 when nothing does.
    public int LargestContext(Machine machine)
    {
        long room = machine.UsableBytes - (TotalBytes - KvBytes);
        long perToken = _request.ParallelCount * Math.Max(1, Memory.KvBytesPerToken);
        return (int)Math.Min(int.MaxValue / 2, Math.Max(0, room) / perToken / Network.BlockTokens * Network.BlockTokens);
    }

    // Tokens per second of all sequences together, each with `depth` tokens before.
    public double DecodeRate(Machine machine, int depth)
    {
        int sequences = _request.ParallelCount;
        double reading = _cost.DecodeBytes(sequences, depth) / (machine.ReadGigabytesPerSecond * machine.ReadShare * 1e9);
        double multiplying = machine.ProductGmacsPerSecond is { } gmacs ? _cost.DecodeMacs(sequences) / (gmacs * Math.Min(machine.ProductShare, SmallBatchProductShare) * 1e9) : 0;
        return sequences / Together(reading, multiplying);
    }

    // Tokens per second of a prompt; null where the machine's products are unknown.
    public double? PrefillRate(Machine machine, int tokenCount)
    {
        if (machine.ProductGmacsPerSecond is not { } gmacs)
            return null;
        double reading = _cost.PrefillBytes(tokenCount, new EngineOptions().MaxBatchRows) / (machine.ReadGigabytesPerSecond * machine.ReadShare * 1e9);
        double multiplying = _cost.PrefillMacs(tokenCount) / (gmacs * machine.ProductShare * 1e9);
        return tokenCount / Together(reading, multiplying);
    }

    // Reading and multiplying overlap, but not wholly: what the small batches of SPEED.md show lies between sum and maximum.
    private static double Together(double reading, double multiplying) => Math.Sqrt(reading * reading + multiplying * multiplying);
}
