using System.Globalization;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using Qian.Inference;
using Qian.Inference.Formats;

namespace Qian.Weights;

// The JSON files of a Hugging Face folder, from our own descriptions of a model. The fields are those of the published files that
// a reader may look at.
internal static class HuggingFaceText
{
    private const string Qwen2Pattern =
        @"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

    private const string Qwen35Pattern =
        @"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

    public static JsonSerializerOptions Indented { get; } = new()
    {
        WriteIndented = true,
        NewLine = "\n",
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };

    // As the published checkpoints spell it; gate and up of all experts share the gate's tensor.
    public static string TensorName(TensorRole role, int layer, ModelConfig config)
    {
        string suffix = TensorNames.HuggingFaceSuffix(role);
        if (role == TensorRole.Output)
            return suffix;
        if (TensorShapes.IsMtp(role))
            return "mtp." + suffix;
        if (TensorShapes.IsLayerless(role))
            return "model.language_model." + suffix;
        return layer == config.LayerCount ? $"mtp.layers.0.{suffix}" : $"model.language_model.layers.{layer}.{suffix}";
    }

    public static JsonObject Config(ModelConfig config, TokenizerSpec tokenizer)
    {
        var layerTypes = new JsonArray();
        foreach (bool full in config.FullAttentionLayers)
            layerTypes.Add(full ? "full_attention" : "linear_attention");
        string family = config.IsMoe ? "qwen3_5_moe" : "qwen3_5";
        var text = new JsonObject
        {
            ["attention_bias"] = false,
            ["attention_dropout"] = 0.0,
            ["attn_output_gate"] = true,
            ["bos_token_id"] = tokenizer.PaddingId,
            ["dtype"] = "bfloat16",
            ["eos_token_id"] = IdOf(tokenizer, "<|endoftext|>") ?? tokenizer.EosId,
            ["head_dim"] = config.HeadDim,
            ["hidden_act"] = "silu",
            ["hidden_size"] = config.HiddenSize,
            ["layer_types"] = layerTypes,
            ["linear_conv_kernel_dim"] = config.ConvKernel,
            ["linear_key_head_dim"] = config.LinearKeyDim,
            ["linear_num_key_heads"] = config.LinearKeyHeads,
            ["linear_num_value_heads"] = config.LinearValueHeads,
            ["linear_value_head_dim"] = config.LinearValueDim,
            ["max_position_embeddings"] = config.ContextLength,
            ["model_type"] = family + "_text",
            ["mtp_num_hidden_layers"] = config.MtpLayerCount,
            ["mtp_use_dedicated_embeddings"] = false,
            ["num_attention_heads"] = config.AttentionHeads,
            ["num_hidden_layers"] = config.LayerCount,
            ["num_key_value_heads"] = config.KvHeads,
            ["output_gate_type"] = "swish",
            ["partial_rotary_factor"] = (double)config.RotaryDim / config.HeadDim,
            ["rms_norm_eps"] = Decimal(config.NormEpsilon),
            ["rope_parameters"] = Rope(config),
            ["tie_word_embeddings"] = config.TiedEmbeddings,
            ["use_cache"] = true,
            ["vocab_size"] = config.VocabularySize,
        };
        if (config.IsMoe)
        {
            text["num_experts"] = config.ExpertCount;
            text["num_experts_per_tok"] = config.ExpertsPerToken;
            text["moe_intermediate_size"] = config.ExpertIntermediateSize;
            text["shared_expert_intermediate_size"] = config.SharedExpertIntermediateSize;
        }
        else
        {
            text["intermediate_size"] = config.IntermediateSize;
        }

        var root = new JsonObject
        {
            ["_name_or_path"] = config.Name,
            ["architectures"] = new JsonArray(config.IsMoe ? "Qwen3_5MoeForConditionalGeneration" : "Qwen3_5ForConditionalGeneration"),
            ["language_model_only"] = true,
            ["model_type"] = family,
            ["text_config"] = text,
            ["tie_word_embeddings"] = config.TiedEmbeddings,
        };
        foreach ((string key, string token) in (ReadOnlySpan<(string, string)>)[
            ("image_token_id", "<|image_pad|>"), ("video_token_id", "<|video_pad|>"), ("vision_start_token_id", "<|vision_start|>"), ("vision_end_token_id", "<|vision_end|>")])
        {
            if (IdOf(tokenizer, token) is { } id)
                root[key] = id;
        }

        return root;
    }

    // `sampling`: the checkpoint's own advice; null for the family's usual one.
    public static JsonObject GenerationConfig(TokenizerSpec tokenizer, SamplingOptions? sampling = null)
    {
        var ends = new JsonArray();
        foreach (int? id in (ReadOnlySpan<int?>)[tokenizer.EosId, IdOf(tokenizer, "<|endoftext|>")])
        {
            if (id is { } end && !ends.Any(known => (int)known! == end))
                ends.Add(end);
        }

        sampling ??= new SamplingOptions { Temperature = 1, TopK = 20, TopP = 0.95f };
        var json = new JsonObject
        {
            ["bos_token_id"] = tokenizer.PaddingId,
            ["do_sample"] = sampling.Temperature is not 0,
            ["eos_token_id"] = ends,
            ["pad_token_id"] = tokenizer.PaddingId,
        };
        foreach ((string name, float? value) in (ReadOnlySpan<(string, float?)>)[
            ("temperature", sampling.Temperature), ("top_k", sampling.TopK), ("top_p", sampling.TopP), ("min_p", sampling.MinP), ("repetition_penalty", sampling.RepetitionPenalty)])
        {
            if (value is { } number)
                json[name] = name == "top_k" ? (JsonNode)(int)number : Decimal(number);
        }

        return json;
    }

    public static JsonObject Tokenizer(TokenizerSpec tokenizer)
    {
        var vocabulary = new JsonObject();
        for (int id = 0; id < tokenizer.RowCount; id++)
        {
            if (tokenizer.Pieces[id] is { } piece)
                vocabulary[piece] = id;
        }

        var merges = new JsonArray();
        foreach (MergeRule merge in tokenizer.Merges)
            merges.Add(new JsonArray(tokenizer.Pieces[merge.Left], tokenizer.Pieces[merge.Right]));
        var addedTokens = new JsonArray();
        foreach (AddedToken token in tokenizer.AddedTokens.OrderBy(token => token.Id))
        {
            addedTokens.Add(new JsonObject
            {
                ["id"] = token.Id,
                ["content"] = token.Text,
                ["single_word"] = false,
                ["lstrip"] = false,
                ["rstrip"] = false,
                ["normalized"] = false,
                ["special"] = token.IsControl,
            });
        }

        return new JsonObject
        {
            ["version"] = "1.0",
            ["truncation"] = null,
            ["padding"] = null,
            ["added_tokens"] = addedTokens,
            ["normalizer"] = tokenizer.NormalizesToNfc ? new JsonObject { ["type"] = "NFC" } : null,
            ["pre_tokenizer"] = new JsonObject
            {
                ["type"] = "Sequence",
                ["pretokenizers"] = new JsonArray(
                    new JsonObject
                    {
                        ["type"] = "Split",
                        ["pattern"] = new JsonObject { ["Regex"] = tokenizer.PreTokenizer == PreTokenizer.Qwen2 ? Qwen2Pattern : Qwen35Pattern },
                        ["behavior"] = "Isolated",
                        ["invert"] = false,
                    },
                    ByteLevel()),
            },
            ["post_processor"] = ByteLevel(),
            ["decoder"] = ByteLevel(),
            ["model"] = new JsonObject
            {
                ["type"] = "BPE",
                ["dropout"] = null,
                ["unk_token"] = null,
                ["continuing_subword_prefix"] = "",
                ["end_of_word_suffix"] = "",
                ["fuse_unk"] = false,
                ["byte_fallback"] = false,
                ["ignore_merges"] = false,
                ["vocab"] = vocabulary,
                ["merges"] = merges,
            },
        };
    }

    public static JsonObject TokenizerConfig(TokenizerSpec tokenizer) => new()
    {
        ["add_bos_token"] = false,
        ["add_prefix_space"] = false,
        ["bos_token"] = TextOf(tokenizer, tokenizer.BosId),
        ["eos_token"] = TextOf(tokenizer, tokenizer.EosId),
        ["pad_token"] = TextOf(tokenizer, tokenizer.PaddingId),
        ["tokenizer_class"] = "Qwen2Tokenizer",
    };

    // 0.95f as 0.95, not as the double next to it.
    private static double Decimal(float value) => double.Parse(value.ToString("R", CultureInfo.InvariantCulture), CultureInfo.InvariantCulture);

    private static JsonObject Rope(ModelConfig config)
    {
        var sections = new JsonArray();
        foreach (int section in config.RopeSections)
            sections.Add(section);
        var rope = new JsonObject
        {
            ["mrope_interleaved"] = true,
            ["mrope_section"] = sections,
            ["partial_rotary_factor"] = (double)config.RotaryDim / config.HeadDim,
            ["rope_theta"] = (long)config.RopeTheta,
            ["rope_type"] = "default",
        };
        if (config.Yarn is not { } yarn)
            return rope;
        rope["rope_type"] = "yarn";
        rope["factor"] = yarn.Factor;
        rope["original_max_position_embeddings"] = yarn.OriginalContext;
        rope["beta_fast"] = yarn.BetaFast;
        rope["beta_slow"] = yarn.BetaSlow;
        if (yarn.AttentionFactor is { } attentionFactor)
            rope["attention_factor"] = attentionFactor;
        return rope;
    }

    private static JsonObject ByteLevel() => new() { ["type"] = "ByteLevel", ["add_prefix_space"] = false, ["trim_offsets"] = false, ["use_regex"] = false };

    private static int? IdOf(TokenizerSpec tokenizer, string text)
    {
        foreach (AddedToken token in tokenizer.AddedTokens)
        {
            if (token.Text == text)
                return token.Id;
        }

        return null;
    }

    private static string? TextOf(TokenizerSpec tokenizer, int? id)
    {
        foreach (AddedToken token in tokenizer.AddedTokens)
        {
            if (token.Id == id)
                return token.Text;
        }

        return id is { } row ? tokenizer.Pieces[row] : null;
    }
}
