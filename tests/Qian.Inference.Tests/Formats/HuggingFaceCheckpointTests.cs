using System.Text.Json.Nodes;
using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Inference.Tests.Formats;

// A Hugging Face folder by role: the transforms, the spellings, experts both ways, FP8, MTP there or not, and what is refused.
public sealed class HuggingFaceCheckpointTests
{
    private const string Prefix = "model.language_model.";

    [Theory]
    [InlineData("text-dense-tiny")]
    [InlineData("text-moe-tiny")]
    [InlineData("mtp-tiny")]
    [InlineData("vision-tiny")]
    public void EveryTensorHasItsPlace(string golden)
    {
        using Checkpoint checkpoint = Checkpoint.Open(ModelFolders.Named(golden));
        foreach ((TensorRole role, int layer, int expert) in ModelFolders.Places(checkpoint.Config))
        {
            TensorSource source = checkpoint.Require(role, layer, expert);
            Assert.Equal(TensorShapes.Of(checkpoint.Config, role), (source.RowCount, source.ColumnCount));
        }

        Assert.DoesNotContain(checkpoint.Tensors, tensor => tensor.Role is null && !tensor.IsVision);
        Assert.Equal(golden == "vision-tiny", checkpoint.Tensors.Any(tensor => tensor.IsVision));
        Assert.Equal(golden == "mtp-tiny" ? 1 : 0, checkpoint.Config.MtpLayerCount);
        Assert.Equal(checkpoint.Tensors.Where(tensor => !tensor.IsVision).Sum(tensor => tensor.ByteCount), checkpoint.WeightBytes);
        Assert.Equal(golden, checkpoint.Config.Name);
        Assert.Null(checkpoint.LoadTokenizer());
    }

    [Theory]
    [InlineData(nameof(TensorRole.TokenEmbedding), -1, Prefix + "embed_tokens.weight")]
    [InlineData(nameof(TensorRole.Output), -1, "lm_head.weight")]
    [InlineData(nameof(TensorRole.OutputNorm), -1, Prefix + "norm.weight")]
    [InlineData(nameof(TensorRole.InputNorm), 1, Prefix + "layers.1.input_layernorm.weight")]
    [InlineData(nameof(TensorRole.PostAttentionNorm), 1, Prefix + "layers.1.post_attention_layernorm.weight")]
    [InlineData(nameof(TensorRole.AttentionQ), 3, Prefix + "layers.3.self_attn.q_proj.weight")]
    [InlineData(nameof(TensorRole.AttentionKNorm), 3, Prefix + "layers.3.self_attn.k_norm.weight")]
    [InlineData(nameof(TensorRole.AttentionOutput), 3, Prefix + "layers.3.self_attn.o_proj.weight")]
    [InlineData(nameof(TensorRole.LinearQkv), 2, Prefix + "layers.2.linear_attn.in_proj_qkv.weight")]
    [InlineData(nameof(TensorRole.LinearZ), 2, Prefix + "layers.2.linear_attn.in_proj_z.weight")]
    [InlineData(nameof(TensorRole.LinearB), 2, Prefix + "layers.2.linear_attn.in_proj_b.weight")]
    [InlineData(nameof(TensorRole.LinearA), 2, Prefix + "layers.2.linear_attn.in_proj_a.weight")]
    [InlineData(nameof(TensorRole.LinearConv), 2, Prefix + "layers.2.linear_attn.conv1d.weight")]
    [InlineData(nameof(TensorRole.LinearDecay), 2, Prefix + "layers.2.linear_attn.A_log")]
    [InlineData(nameof(TensorRole.LinearDtBias), 2, Prefix + "layers.2.linear_attn.dt_bias")]
    [InlineData(nameof(TensorRole.LinearNorm), 2, Prefix + "layers.2.linear_attn.norm.weight")]
    [InlineData(nameof(TensorRole.LinearOutput), 2, Prefix + "layers.2.linear_attn.out_proj.weight")]
    [InlineData(nameof(TensorRole.FfnGate), 0, Prefix + "layers.0.mlp.gate_proj.weight")]
    [InlineData(nameof(TensorRole.FfnDown), 3, Prefix + "layers.3.mlp.down_proj.weight")]
    [InlineData(nameof(TensorRole.AttentionV), 4, "mtp.layers.0.self_attn.v_proj.weight")]
    [InlineData(nameof(TensorRole.FfnUp), 4, "mtp.layers.0.mlp.up_proj.weight")]
    [InlineData(nameof(TensorRole.InputNorm), 4, "mtp.layers.0.input_layernorm.weight")]
    [InlineData(nameof(TensorRole.MtpProjection), 4, "mtp.fc.weight")]
    [InlineData(nameof(TensorRole.MtpEmbeddingNorm), 4, "mtp.pre_fc_norm_embedding.weight")]
    [InlineData(nameof(TensorRole.MtpHiddenNorm), 4, "mtp.pre_fc_norm_hidden.weight")]
    [InlineData(nameof(TensorRole.MtpOutputNorm), 4, "mtp.norm.weight")]
    public void ValuesAreTheStoredOnesTransformed(string roleName, int layer, string name)
    {
        TensorRole role = Enum.Parse<TensorRole>(roleName);
        using Checkpoint checkpoint = Checkpoint.Open(ModelFolders.Mtp);
        float[] expected = ModelFolders.Stored(ModelFolders.Mtp, name);
        bool zeroCentred = name.EndsWith("norm.weight", StringComparison.Ordinal) && !name.Contains("linear_attn", StringComparison.Ordinal)
            || name.Contains("pre_fc_norm", StringComparison.Ordinal);
        for (int i = 0; i < expected.Length; i++)
            expected[i] = zeroCentred ? 1 + expected[i] : name.EndsWith("A_log", StringComparison.Ordinal) ? -MathF.Exp(expected[i]) : expected[i];
        Assert.Equal(expected, ModelFolders.Values(checkpoint, role, layer)!);
        Assert.Equal(name, checkpoint.Require(role, layer).Name);
    }

    [Theory]
    [InlineData("model.")]
    [InlineData("language_model.model.")]
    public void TextOnlySpellingsAreFound(string prefix)
    {
        using var folder = new TempFolder();
        ModelFolders.Rewrite(ModelFolders.Dense, folder.Path, tensor => [tensor with { Name = tensor.Name.Replace(Prefix, prefix, StringComparison.Ordinal) }]);
        AssertSame(ModelFolders.Dense, folder.Path);
    }

    [Fact]
    public void ExpertsOneByOneAreTheFusedOnes()
    {
        using var folder = new TempFolder();
        ModelFolders.Rewrite(ModelFolders.Moe, folder.Path, QuantizedFolder.OneByOne);
        AssertSame(ModelFolders.Moe, folder.Path);
    }

    [Fact]
    public void AFusedTensorHoldsGateBeforeUp()
    {
        using Checkpoint checkpoint = Checkpoint.Open(ModelFolders.Moe);
        float[] fused = ModelFolders.Stored(ModelFolders.Moe, Prefix + "layers.5.mlp.experts.gate_up_proj");
        int half = 64 * 128;
        Assert.Equal(fused.AsSpan(6 * half, half).ToArray(), ModelFolders.Values(checkpoint, TensorRole.ExpertGate, 5, 3)!);
        Assert.Equal(fused.AsSpan(7 * half, half).ToArray(), ModelFolders.Values(checkpoint, TensorRole.ExpertUp, 5, 3)!);
        TensorSource source = checkpoint.Require(TensorRole.ExpertUp, 5, 3);
        var viaBytes = new float[half];
        WeightFormat.Decode(source.Type!.Value, source.Data.Span(0, (int)source.Data.Length), viaBytes);
        Assert.Equal(fused.AsSpan(7 * half, half).ToArray(), viaBytes);
        Assert.Throws<ArgumentOutOfRangeException>(() => checkpoint.Find(TensorRole.ExpertUp, 5, 8));
    }

    [Fact]
    public void WithoutMtpTensorsThereIsNoMtpLayer()
    {
        using var folder = new TempFolder();
        ModelFolders.Rewrite(ModelFolders.Mtp, folder.Path, tensor => tensor.Name.StartsWith("mtp.", StringComparison.Ordinal) ? [] : [tensor]);
        using Checkpoint checkpoint = Checkpoint.Open(folder.Path);
        Assert.Equal(0, checkpoint.Config.MtpLayerCount);
        Assert.Null(checkpoint.Find(TensorRole.MtpProjection, checkpoint.Config.LayerCount));
        Assert.Null(checkpoint.Find(TensorRole.AttentionQ, checkpoint.Config.LayerCount));
    }

    [Fact]
    public void ATiedHeadIsTheEmbedding()
    {
        using var folder = new TempFolder();
        ModelFolders.Rewrite(
            ModelFolders.Dense, folder.Path, tensor => tensor.Name == "lm_head.weight" ? [] : [tensor], config => config["text_config"]!["tie_word_embeddings"] = true);
        using Checkpoint checkpoint = Checkpoint.Open(folder.Path);
        Assert.True(checkpoint.Config.TiedEmbeddings);
        Assert.Null(checkpoint.Find(TensorRole.Output));
    }

    [Theory]
    [InlineData(nameof(SafetensorsType.F32))]
    [InlineData(nameof(SafetensorsType.BF16))]
    public void Fp8IsTheCodeTimesItsBlocksMultiplier(string scaleTypeName)
    {
        SafetensorsType scaleType = Enum.Parse<SafetensorsType>(scaleTypeName);
        // 256 x 128 in blocks of 48 x 40: ragged on both edges.
        const string name = Prefix + "layers.0.mlp.gate_proj.weight";
        byte[] codes = new byte[256 * 128];
        new Random(3).NextBytes(codes);
        float[] scales = [.. Enumerable.Range(1, 6 * 4).Select(i => i * 0.125f)];
        byte[] scaleBytes = new byte[scales.Length * scaleType.ByteSize()];
        WeightFormat.Encode(scaleType.AsWeightType()!.Value, scales, scaleBytes);
        using var folder = new TempFolder();
        ModelFolders.Rewrite(
            ModelFolders.Dense, folder.Path,
            tensor => tensor.Name != name
                ? [tensor]
                : [new StoredBytes(name, SafetensorsType.F8E4M3, [256, 128], codes), new StoredBytes(name + "_scale_inv", scaleType, [6, 4], scaleBytes)],
            config => config["quantization_config"] = JsonNode.Parse("""{"quant_method": "fp8", "weight_block_size": [48, 40]}"""));
        using Checkpoint checkpoint = Checkpoint.Open(folder.Path);
        Assert.Null(checkpoint.Require(TensorRole.FfnGate, 0).Type);
        float[] values = ModelFolders.Values(checkpoint, TensorRole.FfnGate, 0)!;
        for (int i = 0; i < values.Length; i++)
            Assert.Equal(E4M3(codes[i]) * scales[i / 128 / 48 * 4 + i % 128 / 40], values[i]);
        Assert.DoesNotContain(checkpoint.Tensors, tensor => tensor.Role is null);
        var some = new float[2 * 128];
        checkpoint.Require(TensorRole.FfnGate, 0).DecodeRows(47, 2, some);
        Assert.Equal(values.AsSpan(47 * 128, 256).ToArray(), some);
    }

    [Theory]
    [InlineData(256)]
    [InlineData(1)]
    public void Fp8OfCompressedTensorsHasAMultiplierPerRowOrOne(int scaleCount)
    {
        const string name = Prefix + "layers.0.mlp.gate_proj.weight";
        byte[] codes = [.. Enumerable.Range(0, 256 * 128).Select(i => (byte)(i % 120))];
        float[] scales = [.. Enumerable.Range(1, scaleCount).Select(i => i * 0.5f)];
        byte[] scaleBytes = new byte[scaleCount * 4];
        WeightFormat.Encode(WeightType.F32, scales, scaleBytes);
        using var folder = new TempFolder();
        ModelFolders.Rewrite(
            ModelFolders.Dense, folder.Path,
            tensor => tensor.Name != name
                ? [tensor]
                : [new StoredBytes(name, SafetensorsType.F8E4M3, [256, 128], codes), new StoredBytes(name + "_scale", SafetensorsType.F32, scaleCount == 1 ? [] : [scaleCount, 1], scaleBytes)],
            config => config["quantization_config"] = JsonNode.Parse("""{"quant_method": "compressed-tensors", "format": "float-quantized"}"""));
        using Checkpoint checkpoint = Checkpoint.Open(folder.Path);
        float[] values = ModelFolders.Values(checkpoint, TensorRole.FfnGate, 0)!;
        for (int i = 0; i < values.Length; i++)
            Assert.Equal(E4M3(codes[i]) * scales[scaleCount == 1 ? 0 : i / 128], values[i]);
    }

    [Fact]
    public void TemplateAndDefaultsComeFromTheirFiles()
    {
        using var folder = new TempFolder();
        ModelFolders.Rewrite(ModelFolders.Dense, folder.Path, tensor => [tensor]);
        using (Checkpoint bare = Checkpoint.Open(folder.Path))
        {
            Assert.Null(bare.ChatTemplate);
            Assert.Null(bare.Generation.Sampling);
            Assert.Equal([500], bare.Generation.EosTokenIds);
        }

        File.WriteAllText(folder.File("generation_config.json"), """{"eos_token_id": [502, 500], "do_sample": true, "temperature": 0.5, "top_k": 7, "top_p": 0.75}""");
        File.WriteAllText(folder.File("tokenizer_config.json"), """{"chat_template": [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "named"}]}""");
        using (Checkpoint named = Checkpoint.Open(folder.Path))
        {
            Assert.Equal("named", named.ChatTemplate);
            Assert.Equal([502, 500], named.Generation.EosTokenIds);
            Assert.Equal((0.5f, 7, 0.75f, null), (named.Generation.Sampling!.Temperature, named.Generation.Sampling.TopK, named.Generation.Sampling.TopP, named.Generation.Sampling.MinP));
        }

        // Half a surrogate pair is valid JSON and no name.
        File.WriteAllText(folder.File("tokenizer_config.json"), """{"chat_template": [{"name": "\ud800", "template": "no"}]}""");
        using (Checkpoint unreadable = Checkpoint.Open(folder.Path))
            Assert.Null(unreadable.ChatTemplate);
        File.WriteAllText(folder.File("tokenizer_config.json"), """{"chat_template": "inside"}""");
        using (Checkpoint inside = Checkpoint.Open(folder.Path))
            Assert.Equal("inside", inside.ChatTemplate);
        File.WriteAllText(folder.File("chat_template.jinja"), "own");
        using (Checkpoint own = Checkpoint.Open(folder.Path))
            Assert.Equal("own", own.ChatTemplate);
    }

    [Theory]
    [InlineData("missing", "tensor 'model.language_model.layers.0.mlp.gate_proj.weight' is missing")]
    [InlineData("shape", "tensor 'model.language_model.layers.0.mlp.gate_proj.weight': expected [256, 128] by config.json, found [128, 256]")]
    [InlineData("type", "tensor 'model.language_model.layers.0.mlp.gate_proj.weight': weights of type I16 are not supported")]
    [InlineData("no-scales", "tensor 'model.language_model.layers.0.mlp.gate_proj.weight_scale_inv' is missing")]
    [InlineData("bad-scales", "tensor 'model.language_model.layers.0.mlp.gate_proj.weight_scale_inv': expected float [2, 1] for blocks of 128 x 128, found F32 [1, 2]")]
    public void AWrongTensorIsNamed(string fault, string message)
    {
        using var folder = new TempFolder();
        ModelFolders.Rewrite(ModelFolders.Dense, folder.Path, tensor => tensor.Name != Prefix + "layers.0.mlp.gate_proj.weight" ? [tensor] : fault switch
        {
            "missing" => [],
            "shape" => [tensor with { Sizes = [128, 256] }],
            "type" => [tensor with { Type = SafetensorsType.I16 }],
            "no-scales" => [new StoredBytes(tensor.Name, SafetensorsType.F8E4M3, [256, 128], new byte[256 * 128])],
            _ => [new StoredBytes(tensor.Name, SafetensorsType.F8E4M3, [256, 128], new byte[256 * 128]), new StoredBytes(tensor.Name + "_scale_inv", SafetensorsType.F32, [1, 2], new byte[8])],
        });
        using Checkpoint checkpoint = Checkpoint.Open(folder.Path);
        Assert.Contains(message, Assert.Throws<BadModelFileException>(() => checkpoint.Require(TensorRole.FfnGate, 0)).Message);
    }

    [Fact]
    public void UnknownTensorsAreListed()
    {
        using var folder = new TempFolder();
        ModelFolders.Rewrite(ModelFolders.Dense, folder.Path, tensor => tensor.Name == "lm_head.weight" ? [tensor, tensor with { Name = "extra.weight" }] : [tensor]);
        using Checkpoint checkpoint = Checkpoint.Open(folder.Path);
        TensorSummary unknown = Assert.Single(checkpoint.Tensors, tensor => tensor.Role is null);
        Assert.Equal(("extra.weight", "BF16", 512L * 128 * 2), (unknown.Name, unknown.TypeName, unknown.ByteCount));
    }

    [Fact]
    public void AClaimOfManyExpertsCostsNothing()
    {
        using var folder = new TempFolder();
        ModelFolders.Rewrite(ModelFolders.Moe, folder.Path, QuantizedFolder.OneByOne, config => config["text_config"]!["num_experts"] = 8000);
        long before = GC.GetAllocatedBytesForCurrentThread();
        using (Checkpoint checkpoint = Checkpoint.Open(folder.Path))
            Assert.Contains("experts.8.gate_proj.weight", Assert.Throws<BadModelFileException>(() => checkpoint.Require(TensorRole.ExpertGate, 0, 8)).Message);
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 4 << 20);
    }

    private static void AssertSame(string expectedFolder, string folder)
    {
        using Checkpoint expected = Checkpoint.Open(expectedFolder), actual = Checkpoint.Open(folder);
        foreach ((TensorRole role, int layer, int expert) in ModelFolders.Places(expected.Config))
            Assert.Equal(ModelFolders.Values(expected, role, layer, expert)!, ModelFolders.Values(actual, role, layer, expert)!);
        Assert.DoesNotContain(actual.Tensors, tensor => tensor.Role is null);
    }

    // As the format defines it, in double.
    private static float E4M3(byte code)
    {
        int exponent = (code >> 3) & 15, mantissa = code & 7;
        double magnitude = (code & 0x7F) == 0x7F ? double.NaN : exponent == 0 ? mantissa * Math.Pow(2, -9) : (8 + mantissa) * Math.Pow(2, exponent - 10);
        return (float)((code & 0x80) != 0 ? -magnitude : magnitude);
    }
}
