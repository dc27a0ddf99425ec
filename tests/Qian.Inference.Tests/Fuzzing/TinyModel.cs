using System.Text.Json.Nodes;
using Qian.Inference.Formats;
using Qian.Inference.Text;
using Qian.Kernels;

namespace Qian.Inference.Tests.Fuzzing;

// The smallest valid models of the family, as files small enough to damage a hundred thousand times: two layers, one of each
// kind, and an MTP layer; the GGUF file with a whole tokenizer.
internal static class TinyModel
{
    public static ModelConfig Config(bool moe) => new()
    {
        Architecture = moe ? "qwen35moe" : "qwen35",
        Name = "tiny",
        HiddenSize = 8,
        LayerCount = 2,
        IntermediateSize = moe ? 0 : 8,
        VocabularySize = 320,
        FullAttentionLayers = [false, true],
        AttentionHeads = 2,
        KvHeads = 1,
        HeadDim = 8,
        RotaryDim = 4,
        RopeTheta = 1e7,
        RopeSections = [1, 1, 0],
        ContextLength = 1000,
        NormEpsilon = 1e-6f,
        LinearKeyHeads = 1,
        LinearValueHeads = 2,
        LinearKeyDim = 8,
        LinearValueDim = 8,
        ConvKernel = 4,
        MtpLayerCount = 1,
        ExpertCount = moe ? 3 : 0,
        ExpertsPerToken = moe ? 2 : 0,
        ExpertIntermediateSize = moe ? 8 : 0,
        SharedExpertIntermediateSize = moe ? 8 : 0,
    };

    public static byte[] Gguf(bool moe)
    {
        ModelConfig config = Config(moe);
        using var folder = new TempFolder();
        using (var writer = new GgufWriter(folder.File("tiny.gguf")))
        {
            GgufMetadata.Write(writer, config, fileType: 1);
            GgufMetadata.WriteTokenizer(writer, SyntheticVocabulary.Create(config.VocabularySize), "{{ messages }}");
            var sizes = new List<long>();
            foreach (TensorRole role in Enum.GetValues<TensorRole>())
            {
                for (int layer = -1; layer <= config.LayerCount; layer++)
                {
                    if (!TensorShapes.Occurs(config, role, layer))
                        continue;
                    (int rows, int columns) = TensorShapes.Of(config, role);
                    writer.Declare(TensorNames.Gguf(role, layer), WeightType.F16, TensorShapes.IsExpert(role) ? [columns, rows, config.ExpertCount] : rows == 1 ? [columns] : [columns, rows]);
                    sizes.Add(2L * rows * columns * (TensorShapes.IsExpert(role) ? config.ExpertCount : 1));
                }
            }

            foreach (long size in sizes)
                writer.Write(new byte[size]);
            writer.Complete();
        }

        return File.ReadAllBytes(folder.File("tiny.gguf"));
    }

    // config.json and model.safetensors as bytes.
    public static (byte[] Config, byte[] Weights) HuggingFace(bool moe)
    {
        ModelConfig c = Config(moe);
        var text = new JsonObject
        {
            ["model_type"] = moe ? "qwen3_5_moe_text" : "qwen3_5_text",
            ["hidden_size"] = c.HiddenSize,
            ["num_hidden_layers"] = c.LayerCount,
            ["vocab_size"] = c.VocabularySize,
            ["num_attention_heads"] = c.AttentionHeads,
            ["num_key_value_heads"] = c.KvHeads,
            ["head_dim"] = c.HeadDim,
            ["max_position_embeddings"] = c.ContextLength,
            ["rms_norm_eps"] = 1e-6,
            ["linear_num_key_heads"] = c.LinearKeyHeads,
            ["linear_num_value_heads"] = c.LinearValueHeads,
            ["linear_key_head_dim"] = c.LinearKeyDim,
            ["linear_value_head_dim"] = c.LinearValueDim,
            ["linear_conv_kernel_dim"] = c.ConvKernel,
            ["mtp_num_hidden_layers"] = 1,
            ["layer_types"] = new JsonArray("linear_attention", "full_attention"),
            ["eos_token_id"] = 3,
            ["rope_parameters"] = new JsonObject { ["rope_type"] = "default", ["rope_theta"] = 10000000, ["partial_rotary_factor"] = 0.5, ["mrope_section"] = new JsonArray(1, 1, 0) },
        };
        if (moe)
        {
            text["num_experts"] = c.ExpertCount;
            text["num_experts_per_tok"] = c.ExpertsPerToken;
            text["moe_intermediate_size"] = c.ExpertIntermediateSize;
            text["shared_expert_intermediate_size"] = c.SharedExpertIntermediateSize;
        }
        else
        {
            text["intermediate_size"] = c.IntermediateSize;
        }

        var config = new JsonObject { ["model_type"] = moe ? "qwen3_5_moe" : "qwen3_5", ["text_config"] = text, ["quantization_config"] = new JsonObject { ["quant_method"] = "fp8", ["weight_block_size"] = new JsonArray(4, 4) } };
        using var folder = new TempFolder();
        using (SafetensorsWriter writer = SafetensorsWriter.ToFile(folder.File("model.safetensors")))
        {
            var sizes = new List<long>();
            void Add(string name, SafetensorsType type, params long[] shape)
            {
                writer.Declare(name, type, shape);
                sizes.Add(shape.Aggregate((long)type.ByteSize(), (a, b) => a * b));
            }

            foreach (TensorRole role in Enum.GetValues<TensorRole>())
            {
                for (int layer = -1; layer <= c.LayerCount; layer++)
                {
                    if (!TensorShapes.Occurs(c, role, layer) || role == TensorRole.ExpertUp)
                        continue;
                    (int rows, int columns) = TensorShapes.Of(c, role);
                    string suffix = TensorNames.HuggingFaceSuffix(role);
                    string name = role == TensorRole.Output ? suffix : TensorShapes.IsLayerless(role) ? "model." + suffix
                        : TensorShapes.IsMtp(role) ? "mtp." + suffix : layer == c.LayerCount ? "mtp.layers.0." + suffix : $"model.layers.{layer}.{suffix}";
                    if (role is TensorRole.FfnUp or TensorRole.SharedUp)
                    {
                        Add(name, SafetensorsType.F8E4M3, rows, columns);
                        Add(name + "_scale_inv", SafetensorsType.F32, 2, 2);
                    }
                    else
                    {
                        Add(name, SafetensorsType.BF16, TensorShapes.IsExpert(role) ? [c.ExpertCount, role == TensorRole.ExpertDown ? rows : 2 * rows, columns]
                            : role == TensorRole.LinearConv ? [rows, 1, columns] : rows == 1 && role != TensorRole.SharedExpertGate ? [columns] : [rows, columns]);
                    }
                }
            }

            foreach (long size in sizes)
                writer.Write(new byte[size]);
            writer.Complete();
        }

        return (System.Text.Encoding.UTF8.GetBytes(config.ToJsonString()), File.ReadAllBytes(folder.File("model.safetensors")));
    }
}
