using System.Runtime.InteropServices;
using System.Text.Json.Nodes;
using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Inference.Tests.Formats;

// A folder written as GGUF is the same model: every value equal up to the re-ordered value heads, every key readable again.
public sealed class GgufExportTests
{
    [Theory]
    [InlineData("text-dense-tiny", WeightType.F32)]
    [InlineData("text-dense-tiny", WeightType.BF16)]
    [InlineData("text-moe-tiny", WeightType.BF16)]
    [InlineData("mtp-tiny", WeightType.F32)]
    [InlineData("mtp-tiny", WeightType.Q8_0)]
    [InlineData("vision-tiny", WeightType.F16)]
    public void EveryValueComesBack(string golden, WeightType type)
    {
        using var folder = new TempFolder();
        string path = folder.File("m.gguf");
        using Checkpoint source = Checkpoint.Open(ModelFolders.Named(golden));
        GgufExport.Write(source, path, type);
        using Checkpoint written = Checkpoint.Open(path);
        Assert.True(written.Config.ValueHeadsInterleaved);
        Assert.Equivalent(source.Config with { ValueHeadsInterleaved = true }, written.Config, strict: true);
        Assert.DoesNotContain(written.Tensors, tensor => tensor.Role is null);
        foreach ((TensorRole role, int layer, int expert) in ModelFolders.Places(source.Config))
        {
            TensorSource stored = written.Require(role, layer, expert);
            float[] expected = Reordered(source.Config, role, ModelFolders.Values(source, role, layer, expert)!);
            Assert.Equal(expected.Length == stored.ColumnCount || role is TensorRole.LinearConv or TensorRole.RouterGate ? WeightType.F32 : type, stored.Type);
            var bytes = new byte[WeightFormat.RowBytes(stored.Type!.Value, expected.Length)];
            WeightFormat.Encode(stored.Type.Value, expected, bytes);
            Assert.Equal(bytes, stored.Data.Span(0, (int)stored.Data.Length).ToArray());
            if (type is WeightType.F32 or WeightType.BF16)
                Assert.Equal(expected, ModelFolders.Values(written, role, layer, expert)!);
        }
    }

    [Fact]
    public void NamesSizesAndKeysAreTheConverters()
    {
        using var folder = new TempFolder();
        string path = folder.File("m.gguf");
        using (Checkpoint source = Checkpoint.Open(ModelFolders.Mtp))
            GgufExport.Write(source, path, WeightType.BF16);
        using GgufFile file = GgufFile.Open(path);
        Assert.Equal("qwen35", file.Text("general.architecture"));
        Assert.Equal("mtp-tiny", file.Text("general.name"));
        Assert.Equal([5, 1, 4, 96, 160, 4, 2, 32, 32, 8, 4, 16, 2, 6, 96, 262144], new[]
        {
            "block_count", "nextn_predict_layers", "full_attention_interval", "embedding_length", "feed_forward_length", "attention.head_count", "attention.head_count_kv",
            "attention.key_length", "attention.value_length", "rope.dimension_count", "ssm.conv_kernel", "ssm.state_size", "ssm.group_count", "ssm.time_step_rank", "ssm.inner_size", "context_length",
        }.Select(key => file.Integer("qwen35." + key, 0, int.MaxValue)));
        Assert.Equal([2, 1, 1, 0], file.OptionalIntegers("qwen35.rope.dimension_sections", 4)!);
        Assert.Equal(1e-6f, (float)file.Number("qwen35.attention.layer_norm_rms_epsilon", 0, 1));
        Assert.Equal(1e7, file.Number("qwen35.rope.freq_base", 0, 1e9));
        Assert.Equal(32, file.Integer("general.file_type", 0, 99));
        string[] linear = ["attn_norm.weight", "post_attention_norm.weight", "attn_qkv.weight", "attn_gate.weight", "ssm_beta.weight", "ssm_alpha.weight", "ssm_conv1d.weight", "ssm_a", "ssm_dt.bias", "ssm_norm.weight", "ssm_out.weight"];
        string[] full = ["attn_norm.weight", "post_attention_norm.weight", "attn_q.weight", "attn_k.weight", "attn_v.weight", "attn_output.weight", "attn_q_norm.weight", "attn_k_norm.weight"];
        string[] ffn = ["ffn_gate.weight", "ffn_up.weight", "ffn_down.weight"];
        string[] nextn = ["nextn.eh_proj.weight", "nextn.enorm.weight", "nextn.hnorm.weight", "nextn.shared_head_norm.weight"];
        var expected = new List<string> { "output.weight", "output_norm.weight", "token_embd.weight" };
        for (int block = 0; block < 5; block++)
            expected.AddRange(((string[])[.. block < 3 ? linear : full, .. ffn, .. block == 4 ? nextn : []]).Select(name => $"blk.{block}.{name}"));
        Assert.Equal(expected.Order(StringComparer.Ordinal), file.Tensors.Select(tensor => tensor.Name).Order(StringComparer.Ordinal));
        Assert.Equal([4, 160], file.Find("blk.0.ssm_conv1d.weight")!.Sizes.ToArray());
        Assert.Equal([192, 96], file.Find("blk.4.nextn.eh_proj.weight")!.Sizes.ToArray());
        Assert.Equal([96, 384], file.Find("token_embd.weight")!.Sizes.ToArray());
        Assert.Equal([6], file.Find("blk.0.ssm_a")!.Sizes.ToArray());
        Assert.All(file.Tensors.Where(tensor => tensor.Sizes.Length == 1 || tensor.Name.Contains("conv1d")), tensor => Assert.Equal(WeightType.F32, tensor.Type));
        Assert.Equal(WeightType.BF16, file.Find("blk.0.ssm_alpha.weight")!.Type);
    }

    [Fact]
    public void ExpertsAreThreeStacks()
    {
        using var folder = new TempFolder();
        string path = folder.File("m.gguf");
        using (Checkpoint source = Checkpoint.Open(ModelFolders.Moe))
            GgufExport.Write(source, path, WeightType.BF16);
        using GgufFile file = GgufFile.Open(path);
        Assert.Equal([8, 2, 64, 64], new[] { "expert_count", "expert_used_count", "expert_feed_forward_length", "expert_shared_feed_forward_length" }.Select(key => file.Integer("qwen35moe." + key, 0, 99)));
        Assert.Equal([128, 64, 8], file.Find("blk.7.ffn_gate_exps.weight")!.Sizes.ToArray());
        Assert.Equal([128, 64, 8], file.Find("blk.7.ffn_up_exps.weight")!.Sizes.ToArray());
        Assert.Equal([64, 128, 8], file.Find("blk.7.ffn_down_exps.weight")!.Sizes.ToArray());
        Assert.Equal([128, 8], file.Find("blk.7.ffn_gate_inp.weight")!.Sizes.ToArray());
        Assert.Equal(WeightType.F32, file.Find("blk.7.ffn_gate_inp.weight")!.Type);
        Assert.Equal([128], file.Find("blk.7.ffn_gate_inp_shexp.weight")!.Sizes.ToArray());
    }

    [Fact]
    public void AGgufWrittenAgainIsTheSame()
    {
        using var folder = new TempFolder();
        using (Checkpoint source = Checkpoint.Open(ModelFolders.Mtp))
            GgufExport.Write(source, folder.File("a.gguf"), WeightType.F32);
        using (Checkpoint first = Checkpoint.Open(folder.File("a.gguf")))
            GgufExport.Write(first, folder.File("b.gguf"), WeightType.F32);
        Assert.Equal(File.ReadAllBytes(folder.File("a.gguf")), File.ReadAllBytes(folder.File("b.gguf")));
    }

    [Fact]
    public void TokenizerAndTemplateGoAlong()
    {
        using var folder = new TempFolder();
        using Checkpoint source = Checkpoint.Open(ModelFolders.Gguf);
        GgufExport.Write(source, folder.File("a.gguf"), WeightType.F16);
        using GgufFile before = GgufFile.Open(ModelFolders.Gguf), after = GgufFile.Open(folder.File("a.gguf"));
        foreach ((string key, GgufValue value) in before.Metadata)
        {
            if (!key.StartsWith("tokenizer.", StringComparison.Ordinal))
                continue;
            GgufValue again = Assert.Contains(key, (IDictionary<string, GgufValue>)after.Metadata.ToDictionary());
            Assert.Equal(value.Bytes.Span(0, (int)value.Bytes.Length).ToArray(), again.Bytes.Span(0, (int)again.Bytes.Length).ToArray());
        }
    }

    [Fact]
    public void YarnLayerTypesAndSamplingGoAlong()
    {
        using var folder = new TempFolder();
        ModelFolders.Rewrite(ModelFolders.Mtp, folder.Path, tensor => [tensor], config =>
        {
            JsonObject text = config["text_config"]!.AsObject();
            JsonObject rope = text["rope_parameters"]!.AsObject();
            rope["rope_type"] = "yarn";
            rope["factor"] = 2.0;
            rope["original_max_position_embeddings"] = 1000;
            rope["beta_fast"] = 16.0;
            rope["attention_factor"] = 1.25;
        });
        File.WriteAllText(folder.File("generation_config.json"), """{"temperature": 0.5, "top_k": 7, "top_p": 0.75, "min_p": 0.25}""");
        using Checkpoint source = Checkpoint.Open(folder.Path);
        GgufExport.Write(source, folder.File("m.gguf"), WeightType.F32);
        using Checkpoint written = Checkpoint.Open(folder.File("m.gguf"));
        Assert.Equal((2.0, 1000, 16.0, 1.0), (written.Config.Yarn!.Value.Factor, written.Config.Yarn.Value.OriginalContext, written.Config.Yarn.Value.BetaFast, written.Config.Yarn.Value.BetaSlow));
        Assert.Equal(1.25, written.Config.Yarn.Value.AttentionFactor!.Value, 6);
        Assert.Equal(source.Generation.Sampling, written.Generation.Sampling);
    }

    [Fact]
    public void AnIrregularRowOfLayersIsListed()
    {
        using var folder = new TempFolder();
        // The first layer made a full one: its tensors are those of layer 3.
        using (SafetensorsFile file = SafetensorsFile.Open(Path.Combine(ModelFolders.Dense, "model.safetensors")))
        {
            ModelFolders.Rewrite(
                ModelFolders.Dense, folder.Path,
                tensor => tensor.Name.Contains("layers.0.linear_attn") ? [] : tensor.Name.Contains("layers.3.self_attn") ? [tensor, tensor with { Name = tensor.Name.Replace("layers.3.", "layers.0.") }] : [tensor],
                config => config["text_config"]!["layer_types"]![0] = "full_attention");
        }

        using Checkpoint source = Checkpoint.Open(folder.Path);
        GgufExport.Write(source, folder.File("m.gguf"), WeightType.BF16);
        using Checkpoint written = Checkpoint.Open(folder.File("m.gguf"));
        Assert.Equal([true, false, false, true, false, false, false, true], written.Config.FullAttentionLayers);
    }

    [Fact]
    public void ATiedHeadIsNotWritten()
    {
        using var folder = new TempFolder();
        ModelFolders.Rewrite(
            ModelFolders.Dense, folder.Path, tensor => tensor.Name == "lm_head.weight" ? [] : [tensor], config => config["text_config"]!["tie_word_embeddings"] = true);
        using Checkpoint source = Checkpoint.Open(folder.Path);
        GgufExport.Write(source, folder.File("m.gguf"), WeightType.BF16);
        using Checkpoint written = Checkpoint.Open(folder.File("m.gguf"));
        Assert.True(written.Config.TiedEmbeddings);
        Assert.Null(written.Find(TensorRole.Output));
    }

    [Fact]
    public void CancellingLeavesNothing()
    {
        using var folder = new TempFolder();
        using var cancellation = new CancellationTokenSource();
        using Checkpoint source = Checkpoint.Open(ModelFolders.Dense);
        var progress = new Recorder(() => cancellation.Cancel());
        Assert.Throws<OperationCanceledException>(() => GgufExport.Write(source, folder.File("m.gguf"), WeightType.BF16, progress: progress, cancellation: cancellation.Token));
        Assert.NotEmpty(progress.Reports);
        Assert.Empty(Directory.GetFiles(folder.Path));
    }

    [Fact]
    public void ProgressEndsAtTheTotal()
    {
        using var folder = new TempFolder();
        using Checkpoint source = Checkpoint.Open(ModelFolders.Dense);
        var progress = new Recorder(() => { });
        GgufExport.Write(source, folder.File("m.gguf"), WeightType.BF16, progress: progress);
        Assert.Equal(progress.Reports.OrderBy(report => report.BytesDone), progress.Reports);
        Assert.Equal(progress.Reports[^1].BytesTotal, progress.Reports[^1].BytesDone);
    }

    [Fact]
    public void AValueThatCannotBeStoredIsNamed()
    {
        using var folder = new TempFolder();
        ModelFolders.Rewrite(ModelFolders.Dense, folder.Path, tensor =>
        {
            if (tensor.Name.EndsWith("layers.1.mlp.up_proj.weight", StringComparison.Ordinal))
                MemoryMarshal.Cast<byte, ushort>(tensor.Bytes.AsSpan())[5 * 128 + 3] = 0x7FC0;
            return [tensor];
        });
        using Checkpoint source = Checkpoint.Open(folder.Path);
        var error = Assert.Throws<BadModelFileException>(() => GgufExport.Write(source, folder.File("m.gguf"), WeightType.Q8_0));
        Assert.Contains("tensor 'model.language_model.layers.1.mlp.up_proj.weight', row 5: cannot be stored as Q8_0", error.Message);
        Assert.Empty(Directory.GetFiles(folder.Path, "*.gguf*"));
    }

    // The documented order, by itself: head k·r + j of the folder is head j·K + k of the file.
    private static float[] Reordered(ModelConfig config, TensorRole role, float[] values)
    {
        int keyHeads = config.LinearKeyHeads, repeat = config.LinearValueHeads / keyHeads, dim = config.LinearValueDim;
        int rowLength = TensorShapes.Of(config, role).Columns, keyRows = 2 * keyHeads * config.LinearKeyDim;
        (int head, int start) = role switch
        {
            TensorRole.LinearQkv or TensorRole.LinearConv => (dim * rowLength, keyRows * rowLength),
            TensorRole.LinearZ => (dim * rowLength, 0),
            TensorRole.LinearA or TensorRole.LinearB => (rowLength, 0),
            TensorRole.LinearDecay or TensorRole.LinearDtBias => (1, 0),
            TensorRole.LinearOutput => (dim, 0),
            _ => (0, 0),
        };
        float[] result = [.. values];
        int period = role == TensorRole.LinearOutput ? rowLength : values.Length;
        for (int origin = start; head > 0 && origin < values.Length; origin += period)
        {
            for (int k = 0; k < keyHeads; k++)
            {
                for (int j = 0; j < repeat; j++)
                    values.AsSpan(origin + (k * repeat + j) * head, head).CopyTo(result.AsSpan(origin + (j * keyHeads + k) * head));
            }
        }

        return result;
    }

    private sealed class Recorder(Action onReport) : IProgress<LoadProgress>
    {
        public List<LoadProgress> Reports { get; } = [];

        public void Report(LoadProgress value)
        {
            Reports.Add(value);
            onReport();
        }
    }
}
