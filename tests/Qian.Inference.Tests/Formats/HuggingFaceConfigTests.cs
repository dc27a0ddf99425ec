using System.Text.Json.Nodes;
using Qian.Inference.Formats;

namespace Qian.Inference.Tests.Formats;

// config.json in all its published forms, and every way in which it can be wrong.
public sealed class HuggingFaceConfigTests
{
    private static readonly string s_27b = Path.Combine(GoldenFolders.Data, "model-config", "qwen3.6-27b.config.json");

    [Fact]
    public void ThePublished27BIsRead()
    {
        HuggingFaceModel model = HuggingFaceConfig.Read(s_27b, "Qwen3.6-27B");
        ModelConfig c = model.Config;
        Assert.Equal(("qwen35", "Qwen3.6-27B", 5120, 64, 17408, 248320), (c.Architecture, c.Name, c.HiddenSize, c.LayerCount, c.IntermediateSize, c.VocabularySize));
        Assert.Equal((24, 4, 256, 64, 1e7, 262144), (c.AttentionHeads, c.KvHeads, c.HeadDim, c.RotaryDim, c.RopeTheta, c.ContextLength));
        Assert.Equal((16, 48, 128, 128, 4, 10240), (c.LinearKeyHeads, c.LinearValueHeads, c.LinearKeyDim, c.LinearValueDim, c.ConvKernel, c.ConvChannels));
        Assert.Equal([11, 11, 10], c.RopeSections);
        Assert.Equal(1e-6f, c.NormEpsilon);
        Assert.Equal(16, c.FullAttentionLayerCount);
        Assert.True(c.FullAttentionLayers[3] && c.FullAttentionLayers[63] && !c.FullAttentionLayers[0]);
        Assert.False(c.TiedEmbeddings || c.ValueHeadsInterleaved || c.IsMoe);
        Assert.Equal(1, c.MtpLayerCount);
        Assert.Null(c.Yarn);
        Assert.Same(QuantizationScheme.None, model.Quantization);
        Assert.Equal([248044], model.EosTokenIds);
    }

    [Fact]
    public void ATextOnlyFileIsFlat()
    {
        ModelConfig nested = Read(_ => { });
        JsonObject flat = Published()["text_config"]!.DeepClone().AsObject();
        Assert.Equivalent(nested, ReadJson(flat), strict: true);
    }

    [Fact]
    public void TheOlderRotaryFieldsAreRead()
    {
        ModelConfig config = Read(text =>
        {
            text.Remove("rope_parameters");
            text["rope_theta"] = 5e5;
            text["rope_scaling"] = new JsonObject { ["type"] = "mrope", ["mrope_section"] = new JsonArray(11, 11, 10) };
        });
        Assert.Equal((5e5, 64), (config.RopeTheta, config.RotaryDim));
    }

    [Fact]
    public void YarnIsRead()
    {
        ModelConfig config = Read(text =>
        {
            JsonObject rope = text["rope_parameters"]!.AsObject();
            rope["rope_type"] = "yarn";
            rope["factor"] = 4.0;
            rope["original_max_position_embeddings"] = 262144;
        });
        Assert.Equal((4.0, 262144, 32.0, 1.0, (double?)null), (config.Yarn!.Value.Factor, config.Yarn.Value.OriginalContext, config.Yarn.Value.BetaFast, config.Yarn.Value.BetaSlow, config.Yarn.Value.AttentionFactor));
    }

    [Fact]
    public void WithoutLayerTypesTheIntervalDecides()
    {
        ModelConfig config = Read(text =>
        {
            text.Remove("layer_types");
            text["full_attention_interval"] = 5;
        });
        Assert.Equal(12, config.FullAttentionLayerCount);
        Assert.True(config.FullAttentionLayers[4] && !config.FullAttentionLayers[3]);
    }

    [Fact]
    public void TheMixtureOfExpertsIsRead()
    {
        HuggingFaceModel model = HuggingFaceConfig.Read(Path.Combine(GoldenFolders.Goldens, "text-moe-tiny", "config.json"), "moe");
        ModelConfig c = model.Config;
        Assert.Equal(("qwen35moe", 8, 2, 64, 64, 0), (c.Architecture, c.ExpertCount, c.ExpertsPerToken, c.ExpertIntermediateSize, c.SharedExpertIntermediateSize, c.IntermediateSize));
    }

    [Fact]
    public void QuantisationIsRead()
    {
        JsonObject json = Published();
        json["quantization_config"] = JsonNode.Parse("""{"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [64, 32], "modules_to_not_convert": ["lm_head"]}""");
        using var folder = new TempFolder();
        File.WriteAllText(folder.File("config.json"), json.ToJsonString());
        Assert.Equal(new Fp8Blocks(64, 32), HuggingFaceConfig.Read(folder.File("config.json"), "").Quantization.Fp8);
    }

    [Theory]
    [InlineData("model_type", "\"llama\"", "'model_type' 'llama' is not supported; this program runs qwen3_5")]
    [InlineData("hidden_size", "null", "'text_config.hidden_size' is missing")]
    [InlineData("hidden_size", "\"5120\"", "'text_config.hidden_size': expected an integer, found '\"5120\"'")]
    [InlineData("hidden_size", "5120.5", "'text_config.hidden_size': expected an integer, found '5120.5'")]
    [InlineData("hidden_size", "1e300", "'text_config.hidden_size': expected an integer from 1 to")]
    [InlineData("hidden_size", "1e999", "'text_config.hidden_size': expected an integer")]
    [InlineData("hidden_size", "0", "'text_config.hidden_size': expected an integer from 1 to")]
    [InlineData("num_hidden_layers", "-3", "'text_config.num_hidden_layers': expected an integer from 1 to 4096")]
    [InlineData("num_hidden_layers", "63", "'text_config.layer_types': expected 63 entries, one per layer, found 64")]
    [InlineData("num_key_value_heads", "5", "expected the attention heads to be a multiple of key/value heads (5), found 24")]
    [InlineData("linear_num_value_heads", "40", "expected the DeltaNet value heads to be a multiple of DeltaNet key heads (16), found 40")]
    [InlineData("head_dim", "252", "expected the attention head width to be a multiple of 8, found 252")]
    [InlineData("linear_key_head_dim", "100", "expected the DeltaNet key head width to be a multiple of 8")]
    [InlineData("linear_value_head_dim", "100", "expected the DeltaNet value head width to be a multiple of 8")]
    [InlineData("layer_types", "[\"sliding_attention\"]", "'text_config.layer_types': expected 'full_attention' or 'linear_attention' for layer 0, found 'sliding_attention'")]
    [InlineData("layer_types", "[7]", "'text_config.layer_types': expected an array of strings, found '7'")]
    [InlineData("hidden_act", "\"gelu\"", "'text_config.hidden_act': expected 'silu'")]
    [InlineData("attention_bias", "true", "'text_config.attention_bias': expected false")]
    [InlineData("attn_output_gate", "false", "'text_config.attn_output_gate': expected true")]
    [InlineData("attention_bias", "1", "'text_config.attention_bias': expected true or false")]
    [InlineData("output_gate_type", "\"tanh\"", "'text_config.output_gate_type': expected 'swish'")]
    [InlineData("mtp_num_hidden_layers", "2", "'text_config.mtp_num_hidden_layers': expected an integer from 0 to 1")]
    [InlineData("rms_norm_eps", "-1", "'text_config.rms_norm_eps': expected a number from")]
    [InlineData("linear_conv_kernel_dim", "1000", "'text_config.linear_conv_kernel_dim': expected an integer from 2 to 16")]
    [InlineData("vocab_size", "99999999999", "'text_config.vocab_size': expected an integer from 1 to")]
    [InlineData("eos_token_id", "[1, \"x\"]", "'text_config.eos_token_id': expected an integer")]
    [InlineData("eos_token_id", "-1", "'text_config.eos_token_id': expected an integer from 0")]
    [InlineData("rope_parameters", "{\"rope_theta\": 1e7, \"partial_rotary_factor\": 0.5}", "expected three rotary sections that add up to 64")]
    [InlineData("rope_parameters", "{\"rope_theta\": 1e7, \"partial_rotary_factor\": 0}", "expected an even number of rotated dimensions")]
    [InlineData("rope_parameters", "{\"rope_theta\": 0, \"mrope_section\": [11, 11, 10]}", "'text_config.rope_parameters.rope_theta': expected a number from 1")]
    [InlineData("rope_parameters", "{\"mrope_section\": [11, 11, 10]}", "'text_config.rope_parameters.rope_theta' is missing")]
    [InlineData("rope_parameters", "{\"rope_theta\": 1e7, \"rope_type\": \"longrope\"}", "'text_config.rope_parameters.rope_type': expected 'default' or 'yarn', found 'longrope'")]
    [InlineData("rope_parameters", "{\"rope_theta\": 1e7, \"rope_type\": \"yarn\"}", "'text_config.rope_parameters.factor' is missing")]
    [InlineData("rope_parameters", "{\"rope_theta\": 1e7, \"mrope_interleaved\": false}", "'text_config.rope_parameters.mrope_interleaved': expected true")]
    [InlineData("rope_parameters", "5", "'text_config.rope_parameters': expected an object")]
    public void TheMessageSaysWhatIsWrong(string field, string value, string message)
    {
        using var folder = new TempFolder();
        JsonObject json = Published();
        json["text_config"]![field] = "REPLACED";
        File.WriteAllText(folder.File("config.json"), json.ToJsonString().Replace("\"REPLACED\"", value, StringComparison.Ordinal));
        var error = Assert.Throws<BadModelFileException>(() => HuggingFaceConfig.Read(folder.File("config.json"), ""));
        Assert.Contains(message, error.Message);
        Assert.StartsWith(folder.File("config.json"), error.Message);
    }

    [Theory]
    [InlineData("{\"quant_method\": \"bitsandbytes\"}", "'quantization_config.quant_method': expected 'fp8', 'awq', 'gptq', 'auto-round', 'compressed-tensors' or 'modelopt', found 'bitsandbytes'")]
    [InlineData("{\"quant_method\": \"awq\", \"bits\": 8, \"group_size\": 128}", "'quantization_config.bits': expected 4, found 8")]
    [InlineData("{\"quant_method\": \"awq\", \"bits\": 4, \"group_size\": 128, \"version\": \"gemv\"}", "'quantization_config.version': expected 'gemm', found 'gemv'")]
    [InlineData("{\"quant_method\": \"awq\", \"bits\": 4, \"group_size\": 128, \"zero_point\": false}", "'quantization_config.zero_point': expected true")]
    [InlineData("{\"quant_method\": \"awq\", \"bits\": 4}", "'quantization_config.group_size' is missing")]
    [InlineData("{\"quant_method\": \"awq\", \"bits\": 4, \"group_size\": 0}", "'quantization_config.group_size': expected -1 or more than 0, found 0")]
    [InlineData("{\"quant_method\": \"gptq\", \"bits\": 4, \"group_size\": 128}", "'quantization_config.sym' is missing")]
    [InlineData("{\"quant_method\": \"gptq\", \"bits\": 3, \"group_size\": 128, \"sym\": true}", "'quantization_config.bits': expected 4, found 3")]
    [InlineData("{\"quant_method\": \"gptq\", \"bits\": 4, \"group_size\": 128, \"sym\": true, \"checkpoint_format\": \"marlin\"}", "'quantization_config.checkpoint_format': expected 'gptq' or 'gptq_v2', found 'marlin'")]
    [InlineData("{\"quant_method\": \"auto-round\", \"bits\": 4, \"group_size\": 128, \"packing_format\": \"auto_round:gptqmodel\"}", "'quantization_config.packing_format': expected 'auto_round:auto_gptq' or")]
    [InlineData("{\"quant_method\": \"compressed-tensors\", \"format\": \"pack-quantized\"}", "'quantization_config.format': expected 'float-quantized', found 'pack-quantized'")]
    [InlineData("{\"quant_method\": \"compressed-tensors\", \"format\": \"int-quantized\", \"config_groups\": {\"a\": {\"weights\": {}}}}", "'quantization_config.format': expected 'pack-quantized', 'nvfp4-pack-quantized' or 'float-quantized', found 'int-quantized'")]
    [InlineData("{\"quant_method\": \"compressed-tensors\", \"format\": \"pack-quantized\", \"config_groups\": {\"a\": {\"weights\": {\"num_bits\": 8}}}}", "'quantization_config.config_groups.'a'.weights.num_bits': expected 4, found 8")]
    [InlineData("{\"quant_method\": \"compressed-tensors\", \"format\": \"pack-quantized\", \"config_groups\": {\"a\": {\"weights\": {\"num_bits\": 4, \"strategy\": \"block\"}}}}", "weights.strategy': expected 'group' or 'channel', found 'block'")]
    [InlineData("{\"quant_method\": \"compressed-tensors\", \"format\": \"nvfp4-pack-quantized\", \"config_groups\": {\"a\": {\"weights\": {\"num_bits\": 4, \"group_size\": 32}}}}", "weights.group_size': expected 16, found 32")]
    [InlineData("{\"quant_method\": \"compressed-tensors\", \"format\": \"pack-quantized\", \"config_groups\": {\"a\": 5}}", "'quantization_config.config_groups.'a'': expected an object, found '5'")]
    [InlineData("{\"quant_method\": \"compressed-tensors\", \"format\": \"pack-quantized\", \"sparsity_config\": {\"format\": \"sparse-24-bitmask\"}, \"config_groups\": {}}", "'quantization_config.sparsity_config.format': expected 'dense'")]
    [InlineData("{\"quant_method\": \"compressed-tensors\", \"format\": \"pack-quantized\", \"transform_config\": {\"config_groups\": {\"R1\": {}}}, \"config_groups\": {}}", "'quantization_config.transform_config': expected no transforms")]
    [InlineData("{\"quant_method\": \"modelopt\", \"quant_algo\": \"NVFP4_AWQ\"}", "'quantization_config.quant_algo': expected 'NVFP4', 'W4A16_NVFP4', 'FP8' or 'MIXED_PRECISION', found 'NVFP4_AWQ'")]
    [InlineData("{\"quant_method\": \"modelopt\", \"quant_algo\": \"MIXED_PRECISION\", \"quantized_layers\": {\"lm_head\": {\"quant_algo\": \"MXFP8\"}}}", "'quantization_config.quantized_layers.'lm_head'.quant_algo': expected")]
    [InlineData("{\"quant_method\": \"fp8\", \"weight_block_size\": [128]}", "'quantization_config.weight_block_size': expected two numbers")]
    [InlineData("{\"quant_method\": \"fp8\", \"weight_block_size\": [0, 128]}", "'quantization_config.weight_block_size': expected an integer from 1")]
    [InlineData("{}", "'quantization_config.quant_method' is missing")]
    public void OtherQuantisationsAreRefused(string scheme, string message)
    {
        using var folder = new TempFolder();
        JsonObject json = Published();
        json["quantization_config"] = JsonNode.Parse(scheme);
        File.WriteAllText(folder.File("config.json"), json.ToJsonString());
        Assert.Contains(message, Assert.Throws<BadModelFileException>(() => HuggingFaceConfig.Read(folder.File("config.json"), "")).Message);
    }

    [Theory]
    [InlineData("", "not valid JSON")]
    [InlineData("[1]", "expected a JSON object, found an array of 1")]
    [InlineData("{\"model_type\": \"qwen3_5\", \"model_type\": \"qwen3_5\"}", "not valid JSON")]
    [InlineData("{\"model_type\": \"\\ud800\"}", "'model_type': expected a string of valid Unicode")]
    [InlineData("{}", "'model_type' is missing")]
    public void WhatIsNoConfigurationIsRefused(string text, string message)
    {
        using var folder = new TempFolder();
        File.WriteAllText(folder.File("config.json"), text);
        Assert.Contains(message, Assert.Throws<BadModelFileException>(() => HuggingFaceConfig.Read(folder.File("config.json"), "")).Message);
    }

    [Fact]
    public void DeepNestingIsRefused()
    {
        using var folder = new TempFolder();
        File.WriteAllText(folder.File("config.json"), string.Concat(Enumerable.Repeat("{\"a\":", 100000)));
        Assert.Contains("not valid JSON", Assert.Throws<BadModelFileException>(() => HuggingFaceConfig.Read(folder.File("config.json"), "")).Message);
    }

    private static JsonObject Published() => JsonNode.Parse(File.ReadAllText(s_27b))!.AsObject();

    private static ModelConfig Read(Action<JsonObject> change)
    {
        JsonObject json = Published();
        change(json["text_config"]!.AsObject());
        return ReadJson(json);
    }

    private static ModelConfig ReadJson(JsonObject json)
    {
        using var folder = new TempFolder();
        File.WriteAllText(folder.File("config.json"), json.ToJsonString());
        return HuggingFaceConfig.Read(folder.File("config.json"), "").Config;
    }
}
