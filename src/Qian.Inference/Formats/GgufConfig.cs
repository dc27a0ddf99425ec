using Qian.Kernels;

namespace Qian.Inference.Formats;

// GGUF metadata -> ModelConfig, for the architectures qwen35 and qwen35moe. Trunk layers are block_count less
// nextn_predict_layers; the vocabulary is what token_embd has rows for.
internal static class GgufConfig
{
    public static ModelConfig Read(GgufFile file)
    {
        string architecture = file.Text("general.architecture");
        if (architecture is not ("qwen35" or "qwen35moe"))
            throw new BadModelFileException(Refusal(file.Path, architecture));
        string p = architecture + ".";
        bool moe = architecture == "qwen35moe";
        int blockCount = Integer(file, p + "block_count", 1, ModelConfigChecks.MostLayers);
        int mtpCount = (int)(file.OptionalInteger(p + "nextn_predict_layers", 0, 1) ?? 0);
        int layerCount = blockCount - mtpCount;
        if (layerCount < 1)
            throw new BadModelFileException($"{file.Path}: key '{p}block_count': expected at least one layer beside the {mtpCount} of '{p}nextn_predict_layers', found {blockCount}");
        int headDim = Integer(file, p + "attention.key_length", 8, ModelConfigChecks.MostHeadDim);
        if (file.OptionalInteger(p + "attention.value_length", 1, ModelConfigChecks.MostHeadDim) is long valueLength && valueLength != headDim)
            throw new BadModelFileException($"{file.Path}: key '{p}attention.value_length': expected {headDim} as in '{p}attention.key_length', found {valueLength}");
        int valueHeads = Integer(file, p + "ssm.time_step_rank", 1, ModelConfigChecks.MostHeads);
        long innerSize = file.Integer(p + "ssm.inner_size", 1, 1 << 26);
        if (innerSize % valueHeads != 0)
            throw new BadModelFileException($"{file.Path}: key '{p}ssm.inner_size': expected a multiple of the {valueHeads} value heads ('{p}ssm.time_step_rank'), found {innerSize}");
        int contextLength = Integer(file, p + "context_length", 1, ModelConfigChecks.MostPositions);
        GgufTensor embedding = file.Find("token_embd.weight")
            ?? throw new BadModelFileException($"{file.Path}: tensor 'token_embd.weight' is missing; this is not the main file of a text model");
        var config = new ModelConfig
        {
            Architecture = architecture,
            Name = file.OptionalText("general.name") ?? "",
            HiddenSize = Integer(file, p + "embedding_length", 1, ModelConfigChecks.MostWidth),
            LayerCount = layerCount,
            IntermediateSize = moe ? 0 : Uniform(file, p + "feed_forward_length", ModelConfigChecks.MostWidth),
            VocabularySize = embedding.RowCount <= ModelConfigChecks.MostVocabulary
                ? embedding.RowCount
                : throw new BadModelFileException($"{file.Path}: tensor 'token_embd.weight': expected at most {ModelConfigChecks.MostVocabulary} rows, found {embedding.RowCount}"),
            TiedEmbeddings = file.Find("output.weight") == null,
            FullAttentionLayers = LayerTypes(file, p, layerCount),
            AttentionHeads = Uniform(file, p + "attention.head_count", ModelConfigChecks.MostHeads),
            KvHeads = Uniform(file, p + "attention.head_count_kv", ModelConfigChecks.MostHeads),
            HeadDim = headDim,
            RotaryDim = Integer(file, p + "rope.dimension_count", 2, ModelConfigChecks.MostHeadDim),
            RopeTheta = file.Number(p + "rope.freq_base", 1, 1e12),
            RopeSections = Sections(file, p + "rope.dimension_sections"),
            Yarn = Yarn(file, p, contextLength),
            ContextLength = contextLength,
            NormEpsilon = (float)file.Number(p + "attention.layer_norm_rms_epsilon", 1e-12, 1),
            LinearKeyHeads = Integer(file, p + "ssm.group_count", 1, ModelConfigChecks.MostHeads),
            LinearValueHeads = valueHeads,
            LinearKeyDim = Integer(file, p + "ssm.state_size", 1, ModelConfigChecks.MostHeadDim),
            LinearValueDim = innerSize / valueHeads <= ModelConfigChecks.MostHeadDim
                ? (int)(innerSize / valueHeads)
                : throw new BadModelFileException($"{file.Path}: key '{p}ssm.inner_size': expected at most {ModelConfigChecks.MostHeadDim} per value head, found {innerSize / valueHeads}"),
            ConvKernel = Integer(file, p + "ssm.conv_kernel", 2, 16),
            ValueHeadsInterleaved = true,
            MtpLayerCount = mtpCount,
            ExpertCount = moe ? Integer(file, p + "expert_count", 1, ModelConfigChecks.MostExperts) : 0,
            ExpertsPerToken = moe ? Integer(file, p + "expert_used_count", 1, ModelConfigChecks.MostExperts) : 0,
            ExpertIntermediateSize = moe ? Integer(file, p + "expert_feed_forward_length", 1, ModelConfigChecks.MostWidth) : 0,
            SharedExpertIntermediateSize = moe ? Integer(file, p + "expert_shared_feed_forward_length", 1, ModelConfigChecks.MostWidth) : 0,
        };
        ModelConfigChecks.Check(config, file.Path);
        return config;
    }

    private static string Refusal(string path, string architecture) => architecture == "clip"
        ? $"{path}: this is a vision file (architecture 'clip'); open the text model and give this one as its projector"
        : $"{path}: architecture {FileText.Quote(architecture)} is not supported; this program runs qwen35 and qwen35moe (Qwen3.5, 3.6 and relatives) and nothing else";

    private static int Integer(GgufFile file, string key, int least, int most) => (int)file.Integer(key, least, most);

    // Hybrid models may give a value per layer, 0 where the layer has no such part; what is not 0 must be one number.
    private static int Uniform(GgufFile file, string key, int most)
    {
        if (!file.Metadata.TryGetValue(key, out GgufValue? value) || !value.IsArray)
            return Integer(file, key, 1, most);
        long found = 0;
        foreach (long number in file.OptionalIntegers(key, ModelConfigChecks.MostLayers)!)
        {
            if (number < 0 || number > most || (number != 0 && found != 0 && number != found))
                throw file.Wrong(key, $"one number up to {most} for all layers (or 0)", value);
            found = number != 0 ? number : found;
        }
        return found > 0 ? (int)found : throw file.Wrong(key, $"a number from 1 to {most}", value);
    }

    private static int[] Sections(GgufFile file, string key)
    {
        long[] stored = file.OptionalIntegers(key, 4) ?? throw file.Missing(key);
        int[] sections = new int[3];
        for (int i = 0; i < stored.Length; i++)
        {
            if (stored[i] < 0 || stored[i] > ModelConfigChecks.MostHeadDim || (i == 3 && stored[i] != 0))
                throw file.Wrong(key, $"three counts up to {ModelConfigChecks.MostHeadDim} and a 0", file.Metadata[key]);
            if (i < 3)
                sections[i] = (int)stored[i];
        }
        return sections;
    }

    private static bool[] LayerTypes(GgufFile file, string p, int layerCount)
    {
        string key = p + "attention.recurrent_layers";
        if (file.OptionalBools(key, ModelConfigChecks.MostLayers) is bool[] recurrent)
        {
            if (recurrent.Length < layerCount)
                throw file.Wrong(key, $"an entry for each of the {layerCount} layers", file.Metadata[key]);
            bool[] full = new bool[layerCount];
            for (int i = 0; i < layerCount; i++)
                full[i] = !recurrent[i];
            return full;
        }
        return ModelConfigChecks.LayersByInterval(layerCount, (int)(file.OptionalInteger(p + "full_attention_interval", 1, ModelConfigChecks.MostLayers) ?? 4));
    }

    private static YarnScaling? Yarn(GgufFile file, string p, int contextLength)
    {
        string key = p + "rope.scaling.type";
        string? type = file.OptionalText(key);
        if (type is null or "none")
            return null;
        if (type != "yarn")
            throw file.Wrong(key, "'none' or 'yarn'", file.Metadata[key]);
        double factor = file.Number(p + "rope.scaling.factor", 1, 4096);
        // This format stores what multiplies the usual 0.1 ln(factor) + 1, not the product.
        double? share = file.OptionalNumber(p + "rope.scaling.attn_factor", 1e-6, 1e6);
        return new YarnScaling(
            factor,
            (int)(file.OptionalInteger(p + "rope.scaling.original_context_length", 1, ModelConfigChecks.MostPositions) ?? contextLength),
            file.OptionalNumber(p + "rope.scaling.yarn_beta_fast", 1e-6, 1e6) ?? 32,
            file.OptionalNumber(p + "rope.scaling.yarn_beta_slow", 1e-6, 1e6) ?? 1,
            share * (0.1 * Math.Log(factor) + 1));
    }
}
