using System.Text.Json;
using Qian.Kernels;

namespace Qian.Inference.Formats;

// config.json of a Hugging Face folder -> ModelConfig. Takes the multimodal form (sizes under text_config) and the flat one of
// text-only exports, rope_parameters and the older rope_theta + rope_scaling. Where a field may be absent, the default is that
// of the transformers configuration class. A switch that would change the network (another activation, biases, no output
// gate, …) is refused rather than ignored.
internal static class HuggingFaceConfig
{
    private const long LongestFile = 16 << 20;
    private static readonly string[] s_modelTypes = ["qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text"];

    // `name` is what to call the model when the file does not say.
    public static HuggingFaceModel Read(string path, string name)
    {
        using JsonDocument document = JsonSection.Load(path, LongestFile);
        JsonSection root = JsonSection.Root(document, path);
        JsonSection text = root.OptionalSection("text_config") ?? root;
        string modelType = text.OptionalText("model_type") ?? root.OptionalText("model_type") ?? throw root.Missing("model_type");
        if (Array.IndexOf(s_modelTypes, modelType) < 0)
            throw new BadModelFileException($"{path}: 'model_type' {FileText.Quote(modelType)} is not supported; this program runs {string.Join(", ", s_modelTypes)} (Qwen3.5, 3.6 and relatives) and nothing else");
        CheckSwitches(text);
        bool moe = modelType.Contains("_moe", StringComparison.Ordinal);
        int layerCount = text.Integer("num_hidden_layers", 1, ModelConfigChecks.MostLayers);
        int headDim = text.OptionalInteger("head_dim", 8, ModelConfigChecks.MostHeadDim) ?? 256;
        int contextLength = text.Integer("max_position_embeddings", 1, ModelConfigChecks.MostPositions);
        JsonSection rope = text.OptionalSection("rope_parameters") ?? text.OptionalSection("rope_scaling") ?? text;
        double rotaryShare = rope.OptionalNumber("partial_rotary_factor", 0, 1) ?? text.OptionalNumber("partial_rotary_factor", 0, 1) ?? 0.25;
        var config = new ModelConfig
        {
            Architecture = moe ? "qwen35moe" : "qwen35",
            Name = name,
            HiddenSize = text.Integer("hidden_size", 1, ModelConfigChecks.MostWidth),
            LayerCount = layerCount,
            IntermediateSize = moe ? 0 : text.Integer("intermediate_size", 1, ModelConfigChecks.MostWidth),
            VocabularySize = text.Integer("vocab_size", 1, ModelConfigChecks.MostVocabulary),
            TiedEmbeddings = text.OptionalBool("tie_word_embeddings") ?? root.OptionalBool("tie_word_embeddings") ?? false,
            FullAttentionLayers = LayerTypes(text, layerCount),
            AttentionHeads = text.Integer("num_attention_heads", 1, ModelConfigChecks.MostHeads),
            KvHeads = text.Integer("num_key_value_heads", 1, ModelConfigChecks.MostHeads),
            HeadDim = headDim,
            RotaryDim = (int)(headDim * rotaryShare),
            RopeTheta = rope.OptionalNumber("rope_theta", 1, 1e12) ?? text.OptionalNumber("rope_theta", 1, 1e12) ?? throw rope.Missing("rope_theta"),
            RopeSections = rope.OptionalIntegers("mrope_section", 0, ModelConfigChecks.MostHeadDim, 4) ?? [11, 11, 10],
            Yarn = Yarn(rope, contextLength),
            ContextLength = contextLength,
            NormEpsilon = (float)(text.OptionalNumber("rms_norm_eps", 1e-12, 1) ?? 1e-6),
            LinearKeyHeads = text.Integer("linear_num_key_heads", 1, ModelConfigChecks.MostHeads),
            LinearValueHeads = text.Integer("linear_num_value_heads", 1, ModelConfigChecks.MostHeads),
            LinearKeyDim = text.Integer("linear_key_head_dim", 1, ModelConfigChecks.MostHeadDim),
            LinearValueDim = text.Integer("linear_value_head_dim", 1, ModelConfigChecks.MostHeadDim),
            ConvKernel = text.Integer("linear_conv_kernel_dim", 2, 16),
            ValueHeadsInterleaved = false,
            MtpLayerCount = text.OptionalInteger("mtp_num_hidden_layers", 0, 1) ?? 0,
            ExpertCount = moe ? text.Integer("num_experts", 1, ModelConfigChecks.MostExperts) : 0,
            ExpertsPerToken = moe ? text.Integer("num_experts_per_tok", 1, ModelConfigChecks.MostExperts) : 0,
            ExpertIntermediateSize = moe ? text.Integer("moe_intermediate_size", 1, ModelConfigChecks.MostWidth) : 0,
            SharedExpertIntermediateSize = moe ? text.Integer("shared_expert_intermediate_size", 1, ModelConfigChecks.MostWidth) : 0,
        };
        ModelConfigChecks.Check(config, path);
        return new HuggingFaceModel(config, QuantizationConfig.Read(root, text), Ids(text, "eos_token_id") ?? Ids(root, "eos_token_id") ?? []);
    }

    // A token id or a list of them; null when absent.
    public static int[]? Ids(JsonSection section, string name)
    {
        if (section.Raw(name) is not JsonElement value)
            return null;
        return value.ValueKind == JsonValueKind.Array
            ? section.OptionalIntegers(name, 0, ModelConfigChecks.MostVocabulary, 64)
            : [section.Integer(name, 0, ModelConfigChecks.MostVocabulary)];
    }

    private static void CheckSwitches(JsonSection text)
    {
        Only(text, "hidden_act", text.OptionalText("hidden_act"), "silu");
        Only(text, "attention_bias", text.OptionalBool("attention_bias"), false);
        Only(text, "attn_output_gate", text.OptionalBool("attn_output_gate"), true);
        Only(text, "mtp_use_dedicated_embeddings", text.OptionalBool("mtp_use_dedicated_embeddings"), false);
        if (text.OptionalText("output_gate_type") is string gate && gate is not ("swish" or "silu"))
            throw text.Wrong("output_gate_type", "'swish'", FileText.Quote(gate));
    }

    private static void Only(JsonSection text, string name, bool? value, bool expected)
    {
        if (value != null && value != expected)
            throw text.Wrong(name, expected ? "true (no model of this family differs)" : "false (no model of this family differs)", value.Value ? "true" : "false");
    }

    private static void Only(JsonSection text, string name, string? value, string expected)
    {
        if (value != null && value != expected)
            throw text.Wrong(name, $"'{expected}' (no model of this family differs)", FileText.Quote(value));
    }

    private static bool[] LayerTypes(JsonSection text, int layerCount)
    {
        int interval = text.OptionalInteger("full_attention_interval", 1, ModelConfigChecks.MostLayers) ?? 4;
        if (text.OptionalTexts("layer_types", ModelConfigChecks.MostLayers) is not string[] types)
            return ModelConfigChecks.LayersByInterval(layerCount, interval);
        bool[] full = new bool[types.Length];
        for (int i = 0; i < types.Length; i++)
        {
            full[i] = types[i] == "full_attention";
            if (!full[i] && types[i] != "linear_attention")
                throw text.Wrong("layer_types", $"'full_attention' or 'linear_attention' for layer {i}", FileText.Quote(types[i]));
        }
        return full.Length == layerCount ? full : throw text.Wrong("layer_types", $"{layerCount} entries, one per layer", $"{full.Length}");
    }

    private static YarnScaling? Yarn(JsonSection rope, int contextLength)
    {
        if (rope.OptionalBool("mrope_interleaved") == false)
            throw rope.Wrong("mrope_interleaved", "true (no model of this family differs)", "false");
        string type = rope.OptionalText("rope_type") ?? rope.OptionalText("type") ?? "default";
        if (type is "default" or "mrope")
            return null;
        if (type != "yarn")
            throw rope.Wrong("rope_type", "'default' or 'yarn'", FileText.Quote(type));
        return new YarnScaling(
            rope.OptionalNumber("factor", 1, 4096) ?? throw rope.Missing("factor"),
            rope.OptionalInteger("original_max_position_embeddings", 1, ModelConfigChecks.MostPositions) ?? contextLength,
            rope.OptionalNumber("beta_fast", 1e-6, 1e6) ?? 32,
            rope.OptionalNumber("beta_slow", 1e-6, 1e6) ?? 1,
            rope.OptionalNumber("attention_factor", 1e-6, 1e6));
    }
}

// What config.json says beside the shapes: how weights are quantised, and the ids that end a text.
internal sealed record HuggingFaceModel(ModelConfig Config, QuantizationScheme Quantization, IReadOnlyList<int> EosTokenIds);
