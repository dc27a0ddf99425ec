namespace Qian.Inference.Formats;

// What must hold between the numbers of a configuration, whichever file they came from, and the range of each. The limits are
// some ten times the largest model of the family: they keep every product of shapes far inside 63 bits (most inside 31).
internal static class ModelConfigChecks
{
    public const int MostLayers = 4096;
    public const int MostWidth = 1 << 20;
    public const int MostHeads = 4096;
    public const int MostHeadDim = 4096;
    public const int MostVocabulary = 1 << 24;
    public const int MostExperts = 65536;
    public const int MostPositions = 1 << 30;

    // Every layer whose 1-based number is not a multiple of the interval is a DeltaNet layer.
    public static bool[] LayersByInterval(int layerCount, int interval)
    {
        bool[] full = new bool[layerCount];
        for (int i = 0; i < layerCount; i++)
            full[i] = (i + 1) % interval == 0;
        return full;
    }

    public static void Check(ModelConfig config, string path)
    {
        Multiple(path, "attention heads", config.AttentionHeads, "key/value heads", config.KvHeads);
        Multiple(path, "DeltaNet value heads", config.LinearValueHeads, "DeltaNet key heads", config.LinearKeyHeads);
        Multiple(path, "attention head width", config.HeadDim, "8", 8);
        Multiple(path, "DeltaNet key head width", config.LinearKeyDim, "8", 8);
        Multiple(path, "DeltaNet value head width", config.LinearValueDim, "8", 8);
        if (config.RotaryDim < 2 || config.RotaryDim % 2 != 0 || config.RotaryDim > config.HeadDim)
            throw new BadModelFileException($"{path}: expected an even number of rotated dimensions from 2 to the head width {config.HeadDim}, found {config.RotaryDim}");
        int sectionSum = 0;
        foreach (int section in config.RopeSections)
            sectionSum += section;
        if (config.RopeSections.Count != 3 || sectionSum != config.RotaryDim / 2)
            throw new BadModelFileException($"{path}: expected three rotary sections that add up to {config.RotaryDim / 2} (half of the {config.RotaryDim} rotated dimensions), found [{string.Join(", ", config.RopeSections)}]");
        if (config.FullAttentionLayers.Count != config.LayerCount)
            throw new BadModelFileException($"{path}: expected a layer type for each of the {config.LayerCount} layers, found {config.FullAttentionLayers.Count}");
        long rowsOfExperts = (long)config.ExpertCount * Math.Max(2L * config.ExpertIntermediateSize, config.HiddenSize);
        if (rowsOfExperts > int.MaxValue)
            throw new BadModelFileException($"{path}: {config.ExpertCount} experts of width {config.ExpertIntermediateSize} have {rowsOfExperts} rows in one tensor; at most {int.MaxValue} are supported");
        if (config.IsMoe && config.ExpertsPerToken > config.ExpertCount)
            throw new BadModelFileException($"{path}: expected at most {config.ExpertCount} experts per token (there are no more), found {config.ExpertsPerToken}");
    }

    private static void Multiple(string path, string what, int value, string ofWhat, int of)
    {
        if (value % of != 0)
            throw new BadModelFileException($"{path}: expected the {what} to be a multiple of {ofWhat}{(ofWhat == "8" ? "" : $" ({of})")}, found {value}");
    }
}
