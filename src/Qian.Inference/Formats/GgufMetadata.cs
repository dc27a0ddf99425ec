namespace Qian.Inference.Formats;

// The keys of a text model in GGUF, as llama.cpp's converter writes them: general.*, the architecture's shape, tokenizer.ggml.*.
internal static class GgufMetadata
{
    public const string SamplingPrefix = "general.sampling.";

    public static void Write(GgufWriter writer, ModelConfig config, int fileType)
    {
        string p = config.Architecture + ".";
        writer.Add("general.architecture", config.Architecture);
        writer.Add("general.type", "model");
        writer.Add("general.name", config.Name);
        writer.Add(p + "block_count", (uint)(config.LayerCount + config.MtpLayerCount));
        writer.Add(p + "context_length", (uint)config.ContextLength);
        writer.Add(p + "embedding_length", (uint)config.HiddenSize);
        if (!config.IsMoe)
            writer.Add(p + "feed_forward_length", (uint)config.IntermediateSize);
        writer.Add(p + "attention.head_count", (uint)config.AttentionHeads);
        writer.Add(p + "attention.head_count_kv", (uint)config.KvHeads);
        writer.Add(p + "rope.dimension_sections", [.. config.RopeSections, 0]);
        writer.Add(p + "rope.freq_base", (float)config.RopeTheta);
        writer.Add(p + "attention.layer_norm_rms_epsilon", config.NormEpsilon);
        if (config.IsMoe)
        {
            writer.Add(p + "expert_count", (uint)config.ExpertCount);
            writer.Add(p + "expert_used_count", (uint)config.ExpertsPerToken);
            writer.Add(p + "expert_feed_forward_length", (uint)config.ExpertIntermediateSize);
            writer.Add(p + "expert_shared_feed_forward_length", (uint)config.SharedExpertIntermediateSize);
        }

        writer.Add(p + "attention.key_length", (uint)config.HeadDim);
        writer.Add(p + "attention.value_length", (uint)config.HeadDim);
        writer.Add("general.file_type", (uint)fileType);
        writer.Add(p + "ssm.conv_kernel", (uint)config.ConvKernel);
        writer.Add(p + "ssm.state_size", (uint)config.LinearKeyDim);
        writer.Add(p + "ssm.group_count", (uint)config.LinearKeyHeads);
        writer.Add(p + "ssm.time_step_rank", (uint)config.LinearValueHeads);
        writer.Add(p + "ssm.inner_size", (uint)(config.LinearValueHeads * config.LinearValueDim));
        WriteLayerTypes(writer, config, p);
        writer.Add(p + "rope.dimension_count", (uint)config.RotaryDim);
        if (config.MtpLayerCount > 0)
            writer.Add(p + "nextn_predict_layers", (uint)config.MtpLayerCount);
        if (config.Yarn is { } yarn)
        {
            writer.Add(p + "rope.scaling.type", "yarn");
            writer.Add(p + "rope.scaling.factor", (float)yarn.Factor);
            writer.Add(p + "rope.scaling.original_context_length", (uint)yarn.OriginalContext);
            writer.Add(p + "rope.scaling.yarn_beta_fast", (float)yarn.BetaFast);
            writer.Add(p + "rope.scaling.yarn_beta_slow", (float)yarn.BetaSlow);
            // The format's factor multiplies the usual 0.1 ln(factor) + 1; ours stands for the product.
            if (yarn.AttentionFactor is { } attentionFactor)
                writer.Add(p + "rope.scaling.attn_factor", (float)(attentionFactor / (0.1 * Math.Log(yarn.Factor) + 1)));
        }

        writer.Add("general.quantization_version", 2u);
    }

    // What generation_config.json advised, under the keys that llama.cpp reads since late 2025.
    public static void WriteSampling(GgufWriter writer, SamplingOptions? sampling)
    {
        if (sampling?.Temperature is { } temperature)
            writer.Add(SamplingPrefix + "temp", temperature);
        if (sampling?.TopK is { } topK)
            writer.Add(SamplingPrefix + "top_k", topK);
        if (sampling?.TopP is { } topP)
            writer.Add(SamplingPrefix + "top_p", topP);
        if (sampling?.MinP is { } minP)
            writer.Add(SamplingPrefix + "min_p", minP);
        if (sampling?.RepetitionPenalty is { } penalty)
            writer.Add(SamplingPrefix + "penalty_repeat", penalty);
    }

    public static void WriteTokenizer(GgufWriter writer, TokenizerSpec tokenizer, string? chatTemplate)
    {
        (string[] tokens, int[] types, string[] merges) = tokenizer.ToGguf();
        const string p = "tokenizer.ggml.";
        writer.Add(p + "model", "gpt2");
        writer.Add(p + "pre", tokenizer.PreTokenizer == PreTokenizer.Qwen2 ? "qwen2" : "qwen35");
        writer.Add(p + "tokens", tokens);
        writer.Add(p + "token_type", types);
        writer.Add(p + "merges", merges);
        if (tokenizer.EosId is { } eos)
            writer.Add(p + "eos_token_id", (uint)eos);
        if (tokenizer.PaddingId is { } padding)
            writer.Add(p + "padding_token_id", (uint)padding);
        if (tokenizer.BosId is { } bos)
            writer.Add(p + "bos_token_id", (uint)bos);
        writer.Add(p + "add_bos_token", false);
        if (chatTemplate is not null)
            writer.Add("tokenizer.chat_template", chatTemplate);
    }

    // One number where the layers follow an interval, else a list.
    private static void WriteLayerTypes(GgufWriter writer, ModelConfig config, string p)
    {
        int interval = 1;
        while (interval <= config.LayerCount && !config.FullAttentionLayers[interval - 1])
            interval++;
        if (config.FullAttentionLayers.SequenceEqual(ModelConfigChecks.LayersByInterval(config.LayerCount, interval)))
        {
            writer.Add(p + "full_attention_interval", (uint)interval);
            return;
        }

        // With the MTP block, which is an attention layer.
        bool[] recurrent = new bool[config.LayerCount + config.MtpLayerCount];
        for (int i = 0; i < config.LayerCount; i++)
            recurrent[i] = !config.FullAttentionLayers[i];
        writer.Add(p + "attention.recurrent_layers", recurrent);
    }
}
