using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Inference.Model;

// Adds up what a checkpoint will take, from its headers alone, and picks the context that fits.
internal static class MemoryEstimate
{
    public static MemoryPlan For(Checkpoint checkpoint, EngineOptions options, LayerRange range)
    {
        ModelConfig config = checkpoint.Config;
        bool mtp = options.LoadMtp && config.MtpLayerCount > 0;
        var policy = new LoadPolicy(options.ExactArithmetic, options.LoadAs, mtp);
        long owned = 0, mapped = 0;
        foreach ((TensorSource source, bool isLookup) in MatrixRoles.Of(checkpoint, range, mtp))
        {
            long bytes = policy.OwnedBytes(source, isLookup);
            owned += bytes;
            if (bytes == 0 && !isLookup && source.Type is { } stored)
                mapped += WeightFormat.RowBytes(stored, source.ColumnCount) * source.RowCount;
        }

        KvShape kv = CacheShape(config, range, mtp);
        var scratch = new ScratchSizes(config, options.MaxBatchRows, mtp);
        StateShape state = StateShape.Of(config, range, MtpTailRows(options, mtp));
        long passFloats = scratch.TotalFloats + TrialInputs.Floats(config, state.LinearLayerCount, TrialRows(options)) + (long)Network.LogitRows * config.VocabularySize;
        var plan = new MemoryPlan
        {
            OwnedWeightBytes = owned,
            MappedWeightBytes = mapped,
            ScratchBytes = passFloats * sizeof(float),
            SequenceStateBytes = state.FloatCount * sizeof(float),
            KvBytesPerToken = kv.BlockBytes(options.KvType) / kv.BlockTokens,
            AvailableBytes = options.MemoryLimitBytes ?? AvailableMemory(),
        };
        // Half of what is left beside the model, unless somebody knows better: the machine is not ours alone.
        long room = Math.Max(0, plan.AvailableBytes - plan.FixedBytes(1));
        return plan with { PrefixCacheBytes = Math.Min(room, options.PrefixCacheBytes ?? Math.Min(room / 2, MostPrefixBytes)) };
    }

    private const long MostPrefixBytes = 8L << 30;

    // Rows that a pass may try before they are certain: two runs of the longest kind, or eight sequences with three drafts each.
    public static int TrialRows(EngineOptions options) => options.Speculation == Speculation.Off ? 0 : 2 * Network.MaxTrialRun;

    // Hidden rows that a sequence keeps for the MTP layer: a verified run on top of one that has not been taken in yet.
    public static int MtpTailRows(EngineOptions options, bool mtp) => mtp && options.Speculation != Speculation.Off ? 2 * Network.MaxTrialRun : 0;

    // Keys and values of all attention layers of the range, the MTP layer's last.
    public static KvShape CacheShape(ModelConfig config, LayerRange range, bool mtp)
    {
        int layers = mtp ? 1 : 0;
        for (int layer = range.First; layer < range.End; layer++)
            layers += config.FullAttentionLayers[layer] ? 1 : 0;
        // A slice of DeltaNet layers alone keeps blocks of one layer that nobody reads: tokens are counted by them.
        return new KvShape(Math.Max(1, layers), config.KvHeads, config.HeadDim, Network.BlockTokens);
    }

    // The context to run with, or a refusal that says what would fit.
    public static int ChooseContext(MemoryPlan plan, ModelConfig config, EngineOptions options)
    {
        double longest = config.ContextLength * (options.Yarn?.Factor ?? 1);
        int limit = options.ContextLength ?? (int)Math.Min(longest, 1 << 24);
        if (plan.TotalBytes(limit) <= plan.AvailableBytes)
            return limit;
        long fits = plan.LargestContext / Network.BlockTokens * Network.BlockTokens;
        if (options.ContextLength is null && fits >= Math.Min(limit, 4096))
            return (int)Math.Min(limit, fits);
        string advice = fits >= Network.BlockTokens
            ? $"A context of {fits} tokens fits; a smaller KV type (q8_0) may allow more."
            : "Use a smaller weight type (a Q4_K_M or Q3_K_M file), or a machine with more memory.";
        throw new BadRequestException(
            $"The model would not fit: {MemoryPlan.Format(plan.TotalBytes(limit))} needed for {limit} tokens of context " +
            $"(weights {MemoryPlan.Format(plan.OwnedWeightBytes + plan.MappedWeightBytes)}, scratch {MemoryPlan.Format(plan.ScratchBytes)}, " +
            $"state {MemoryPlan.Format(plan.SequenceStateBytes)}, KV {MemoryPlan.Format(limit * plan.KvBytesPerToken)}), " +
            $"{MemoryPlan.Format(plan.AvailableBytes)} available. {advice}");
    }

    // Blocks of keys and values that all sequences together may hold; at least one full context.
    public static int KvBlockBudget(MemoryPlan plan, int contextLength)
    {
        long blockBytes = Math.Max(1, plan.KvBytesPerToken * Network.BlockTokens);
        long oneContext = (contextLength + Network.BlockTokens - 1) / Network.BlockTokens;
        long room = Math.Max(0, plan.AvailableBytes - plan.FixedBytes(1)) / blockBytes;
        return (int)Math.Min(int.MaxValue, Math.Max(room, oneContext));
    }

    // What the machine (or the container's limit) can give: page cache counts as free, since the kernel gives it back.
    private static long AvailableMemory()
    {
        long limit = GC.GetGCMemoryInfo().TotalAvailableMemoryBytes;
        const string meminfo = "/proc/meminfo";
        if (!OperatingSystem.IsLinux() || !File.Exists(meminfo))
            return limit;
        foreach (string line in File.ReadLines(meminfo))
        {
            if (line.StartsWith("MemAvailable:", StringComparison.Ordinal) && long.TryParse(line["MemAvailable:".Length..].Replace("kB", "", StringComparison.Ordinal), out long kibibytes))
                return Math.Min(limit, kibibytes * 1024);
        }

        return limit;
    }
}
