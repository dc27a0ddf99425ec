using System.Security.Cryptography;
using Qian.Inference;
using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Weights.Tests.Synth;

public sealed class SynthWriterTests : IDisposable
{
    private const string Template = "{{ messages[0].content }}";

    private readonly TestFolder _folder = new();

    public static TheoryData<string, string> ShapesAndMixes()
    {
        var data = new TheoryData<string, string>();
        foreach (QuantMix mix in QuantMix.All)
            data.Add("tiny", mix.Name);
        foreach (string mix in (string[])["BF16", "Q8_0", "Q4_K_M", "IQ2_XS", "MXFP4_MOE", "NVFP4"])
            data.Add("tiny-moe", mix);

        return data;
    }

    public void Dispose() => _folder.Dispose();

    [Theory]
    [MemberData(nameof(ShapesAndMixes))]
    public void EveryShapeAndMixOpensWithTheTensorsOfTheModel(string shape, string mix)
    {
        SynthRequest request = Request(shape, mix) with { WithMtp = true };
        SynthResult result = SynthWriter.Write(_folder.File("m.gguf"), request, null, default);
        using GgufFile file = GgufFile.Open(result.Path);
        Assert.Equal(new FileInfo(result.Path).Length, result.FileBytes);
        AssertSameShape(result.Config, GgufConfig.Read(file));

        List<SynthTensor> tensors = SynthTensor.List(result.Config);
        int factorCount = 0;
        foreach (SynthTensor tensor in tensors)
        {
            GgufTensor stored = file.Find(TensorNames.Gguf(tensor.Role, tensor.Layer))!;
            Assert.NotNull(stored);
            Assert.Equal(request.Mix.TypeOf(tensor.Role, tensor.Layer, tensor.Columns, result.Config), stored.Type);
            Assert.Equal((tensor.Columns, tensor.Rows * tensor.ExpertCount), (stored.ColumnCount, stored.RowCount));
            Assert.Equal(TensorShapes.IsExpert(tensor.Role) ? 3 : tensor.Rows == 1 ? 1 : 2, stored.Sizes.Length);
            float factor = 1;
            if (stored.Type == WeightType.NVFP4)
            {
                GgufTensor factors = file.Find(stored.Name.Replace(".weight", ".scale", StringComparison.Ordinal))!;
                Assert.Equal((1, 1), (factors.RowCount, factors.ColumnCount));
                factor = Values(factors)[0];
                factorCount++;
            }

            AssertValues(tensor, stored.Name, Values(stored), factor);
        }

        Assert.Equal(tensors.Count + factorCount, file.Tensors.Count);
        Assert.Equal(tensors.Sum(tensor => tensor.ValueCount), result.ParameterCount);
    }

    // The counts that are published for these shapes.
    [Theory]
    [InlineData("qwen3.6-27b", false, 26_895_998_464, 851)]
    [InlineData("qwen3.6-27b", true, 26_895_998_464 + 424_699_392, 866)]
    [InlineData("qwen3.5-0.8b", false, 752_393_024, 320)]
    public void ParametersAreThoseOfThePublishedModel(string shape, bool withMtp, long parameterCount, int tensorCount)
    {
        List<SynthTensor> tensors = SynthTensor.List(SynthShape.Find(shape).ToConfig(null, withMtp, 248320));
        Assert.Equal(parameterCount, tensors.Sum(tensor => tensor.ValueCount));
        Assert.Equal(tensorCount, tensors.Count);
    }

    [Theory]
    [InlineData("m.gguf", "Q4_K_M")]
    [InlineData("folder/", "BF16")]
    public void TheSameSeedGivesTheSameBytesOnAnyNumberOfThreads(string name, string mix)
    {
        var hashes = new HashSet<string>();
        foreach (int threadCount in (int[])[1, 2, 5, 1])
        {
            string path = _folder.File(name);
            SynthWriter.Write(path, Request("tiny", mix) with { ThreadCount = threadCount, Overwrite = true }, null, default);
            hashes.Add(Hash(path));
        }

        Assert.Single(hashes);
        SynthWriter.Write(_folder.File(name), Request("tiny", mix) with { Seed = 2, Overwrite = true }, null, default);
        hashes.Add(Hash(_folder.File(name)));
        Assert.Equal(2, hashes.Count);
    }

    // Longer than one piece, so that several makers work ahead of the writer.
    [Fact]
    public void ALargeTensorIsTheSameOnAnyNumberOfThreads()
    {
        SynthRequest request = Request("tiny", "F32") with { VocabularySize = 10000 };
        SynthWriter.Write(_folder.File("a.gguf"), request with { ThreadCount = 1 }, null, default);
        SynthWriter.Write(_folder.File("b.gguf"), request with { ThreadCount = 4 }, null, default);
        Assert.Equal(Hash(_folder.File("a.gguf")), Hash(_folder.File("b.gguf")));
        using GgufFile file = GgufFile.Open(_folder.File("a.gguf"));
        float[] values = Values(file.Find("token_embd.weight")!);
        // No stretch repeats another.
        Assert.Equal(values.Length / 16, Enumerable.Range(0, values.Length / 16).Select(at => (values[16 * at], values[16 * at + 1], values[16 * at + 2])).Distinct().Count());
    }

    [Fact]
    public void ASliceHasTheFirstLayers()
    {
        SynthResult result = SynthWriter.Write(_folder.File("m.gguf"), Request("tiny", "Q8_0") with { LayerCount = 2 }, null, default);
        using GgufFile file = GgufFile.Open(result.Path);
        ModelConfig config = GgufConfig.Read(file);
        Assert.Equal(2, config.LayerCount);
        Assert.All(config.FullAttentionLayers, Assert.False);
        Assert.Null(file.Find("blk.2.attn_norm.weight"));
        Assert.Throws<BadRequestException>(() => SynthWriter.Write(_folder.File("n.gguf"), Request("tiny", "Q8_0") with { LayerCount = 5 }, null, default));
        Assert.Throws<BadRequestException>(() => SynthWriter.Write(_folder.File("n.gguf"), Request("tiny", "Q8_0") with { LayerCount = 0 }, null, default));
    }

    [Fact]
    public void KeysAreThoseOfTheConverter()
    {
        SynthResult result = SynthWriter.Write(_folder.File("m.gguf"), Request("tiny-moe", "Q4_K_M") with { WithMtp = true }, null, default);
        using GgufFile file = GgufFile.Open(result.Path);
        Assert.Equal("qwen35moe", file.Text("general.architecture"));
        Assert.Equal(15, file.Integer("general.file_type", 0, 99));
        Assert.Equal(5, file.Integer("qwen35moe.block_count", 0, 99));
        Assert.Equal(1, file.Integer("qwen35moe.nextn_predict_layers", 0, 99));
        Assert.Equal([6L, 5, 5, 0], file.OptionalIntegers("qwen35moe.rope.dimension_sections", 4)!);
        Assert.Equal(768, file.Integer("qwen35moe.ssm.inner_size", 0, 9999));
        Assert.Equal(4, file.Integer("qwen35moe.full_attention_interval", 0, 99));
        Assert.False(file.Has("qwen35moe.feed_forward_length"));
        Assert.Equal("qwen35", file.Text("tokenizer.ggml.pre"));
        Assert.Equal(Template, file.Text("tokenizer.chat_template"));
        Assert.Equal(512, file.OptionalStrings("tokenizer.ggml.tokens")!.Count);
        Assert.Equal("<|im_end|>", file.OptionalStrings("tokenizer.ggml.tokens")!.StringAt(file.Integer("tokenizer.ggml.eos_token_id", 0, 511)));
    }

    [Fact]
    public void EveryDecayKeepsMostOfTheState()
    {
        ModelConfig config = SynthShape.Find("qwen3.6-27b").ToConfig(4, withMtp: false, 512);
        SynthTensor decay = SynthTensor.List(config).First(tensor => tensor.Role == TensorRole.LinearDecay);
        SynthTensor bias = SynthTensor.List(config).First(tensor => tensor.Role == TensorRole.LinearDtBias);
        float[] decays = decay.Vector(1, zeroCentred: false, logDecay: false);
        float[] logs = decay.Vector(1, zeroCentred: true, logDecay: true);
        float[] biases = bias.Vector(2, zeroCentred: false, logDecay: false);
        for (int head = 0; head < 48; head++)
        {
            double kept = Math.Exp(decays[head] * Math.Log(1 + Math.Exp(biases[head])));
            Assert.InRange(kept, 0.9, 0.999);
            Assert.Equal(-Math.Exp(logs[head]), decays[head], 1e-6);
        }
    }

    [Theory]
    [InlineData("tiny", "BF16")]
    [InlineData("tiny-moe", "F32")]
    public void AHuggingFaceFolderOpens(string shape, string mix)
    {
        string path = _folder.File("model") + Path.DirectorySeparatorChar;
        SynthResult result = SynthWriter.Write(path, Request(shape, mix) with { WithMtp = true }, null, default);
        using (Checkpoint checkpoint = Checkpoint.Open(path))
        {
            Assert.Equal(1, checkpoint.Config.MtpLayerCount);
            Assert.Equal(Template, checkpoint.ChatTemplate);
            foreach (SynthTensor tensor in SynthTensor.List(result.Config))
            {
                TensorSource source = checkpoint.Require(tensor.Role, tensor.Layer, TensorShapes.IsExpert(tensor.Role) ? tensor.ExpertCount - 1 : -1);
                var values = new float[source.RowCount * source.ColumnCount];
                source.DecodeRows(0, source.RowCount, values);
                AssertValues(tensor, source.Name, values, 1);
            }
        }

        using (SafetensorsFile file = SafetensorsFile.Open(Path.Combine(path, "model.safetensors")))
        {
            string prefix = "model.language_model.layers.";
            Assert.All(file.Tensors, tensor => Assert.Equal(mix, tensor.Type.Name()));
            Assert.Equal([512L, 256], file.Find("model.language_model.embed_tokens.weight")!.Sizes.ToArray());
            Assert.Equal([512L, 256], file.Find("lm_head.weight")!.Sizes.ToArray());
            Assert.Equal([1280L, 1, 4], file.Find(prefix + "0.linear_attn.conv1d.weight")!.Sizes.ToArray());
            Assert.Equal([12L], file.Find(prefix + "0.linear_attn.A_log")!.Sizes.ToArray());
            Assert.Equal([1536L, 256], file.Find(prefix + "3.self_attn.q_proj.weight")!.Sizes.ToArray());
            Assert.Equal([256L, 512], file.Find("mtp.fc.weight")!.Sizes.ToArray());
            Assert.NotNull(file.Find("mtp.layers.0.self_attn.o_proj.weight"));
            if (shape == "tiny-moe")
            {
                Assert.Equal([16L, 512, 256], file.Find(prefix + "1.mlp.experts.gate_up_proj")!.Sizes.ToArray());
                Assert.Equal([16L, 256, 256], file.Find(prefix + "1.mlp.experts.down_proj")!.Sizes.ToArray());
                Assert.Equal([1L, 256], file.Find(prefix + "1.mlp.shared_expert_gate.weight")!.Sizes.ToArray());
            }

            Assert.Equal(result.ParameterCount, file.Tensors.Sum(tensor => tensor.Sizes.ToArray().Aggregate(1L, (product, size) => product * size)));
        }

        TokenizerSpec tokenizer = HuggingFaceTokenizer.ReadFolder(path, 512);
        Assert.Equal(512, tokenizer.RowCount);
        Assert.Equal("<|im_end|>", tokenizer.AddedTokens.Single(token => token.Id == tokenizer.EosId).Text);
        Assert.Equal(SyntheticVocabulary.Create(512).ToGguf().Tokens, tokenizer.ToGguf().Tokens);
        Assert.Equal(SyntheticVocabulary.Create(512).ToGguf().Merges, tokenizer.ToGguf().Merges);
        Assert.Equal(Template, File.ReadAllText(Path.Combine(path, "chat_template.jinja")));
        Assert.Equal(Directory.GetFiles(path).Sum(file => new FileInfo(file).Length), result.FileBytes);
    }

    [Fact]
    public void AFolderTakesNoQuantizedType()
    {
        var error = Assert.Throws<BadRequestException>(() => SynthWriter.Write(_folder.File("model/"), Request("tiny", "Q4_K_M"), null, default));
        Assert.Contains("Q4_K_M", error.Message, StringComparison.Ordinal);
        Assert.False(Directory.Exists(_folder.File("model")));
    }

    [Fact]
    public void ATokenizerIsTakenFromAFileAndPadded()
    {
        SynthRequest request = Request("tiny", "F16");
        SynthWriter.Write(_folder.File("a.gguf"), request with { VocabularySize = 3000 }, null, default);
        SynthWriter.Write(_folder.File("b.gguf"), request with { TokenizerPath = _folder.File("a.gguf") }, null, default);
        SynthWriter.Write(_folder.File("hf/"), request with { TokenizerPath = _folder.File("a.gguf") }, null, default);
        SynthWriter.Write(_folder.File("c.gguf"), request with { TokenizerPath = _folder.File("hf/tokenizer.json"), VocabularySize = 3100 }, null, default);
        using GgufFile a = GgufFile.Open(_folder.File("a.gguf"));
        using GgufFile b = GgufFile.Open(_folder.File("b.gguf"));
        using GgufFile c = GgufFile.Open(_folder.File("c.gguf"));
        GgufValue tokens = c.OptionalStrings("tokenizer.ggml.tokens")!;
        Assert.Equal(a.OptionalStrings("tokenizer.ggml.tokens")!.Bytes.Span(0, 1000).ToArray(), b.OptionalStrings("tokenizer.ggml.tokens")!.Bytes.Span(0, 1000).ToArray());
        Assert.Equal((3100, "[PAD3099]"), (tokens.Count, tokens.StringAt(3099)));
        Assert.Equal(3100, c.Find("token_embd.weight")!.RowCount);
        Assert.Equal(a.Integer("tokenizer.ggml.eos_token_id", 0, 9999), c.Integer("tokenizer.ggml.eos_token_id", 0, 9999));
        Assert.Throws<BadRequestException>(() => SynthWriter.Write(_folder.File("d.gguf"), request with { TokenizerPath = _folder.File("a.gguf"), VocabularySize = 2000 }, null, default));
        Assert.Throws<BadRequestException>(() => SynthWriter.Write(_folder.File("d.gguf"), request with { TokenizerPath = _folder.File("none.json") }, null, default));
    }

    [Fact]
    public void WhatExistsIsKeptUnlessAskedOtherwise()
    {
        string path = _folder.File("m.gguf");
        File.WriteAllText(path, "precious");
        var error = Assert.Throws<BadRequestException>(() => SynthWriter.Write(path, Request("tiny", "Q8_0"), null, default));
        Assert.Contains("--force", error.Message, StringComparison.Ordinal);
        Assert.Equal("precious", File.ReadAllText(path));
        SynthWriter.Write(path, Request("tiny", "Q8_0") with { Overwrite = true }, null, default);
        using (GgufFile.Open(path))
        {
        }

        string folder = _folder.File("model/");
        Directory.CreateDirectory(folder);
        File.WriteAllText(Path.Combine(folder, "notes.txt"), "precious");
        File.WriteAllText(Path.Combine(folder, "model-00001-of-00002.safetensors"), "stale");
        Assert.Throws<BadRequestException>(() => SynthWriter.Write(folder, Request("tiny", "BF16"), null, default));
        SynthWriter.Write(folder, Request("tiny", "BF16") with { Overwrite = true }, null, default);
        Assert.Equal("precious", File.ReadAllText(Path.Combine(folder, "notes.txt")));
        Assert.False(File.Exists(Path.Combine(folder, "model-00001-of-00002.safetensors")));
    }

    [Theory]
    [InlineData("m.gguf", "Q4_K_M")]
    [InlineData("folder/", "BF16")]
    public void AnInterruptLeavesNothing(string name, string mix)
    {
        foreach (long afterBytes in (long[])[1, 1_000_000])
        {
            using var interrupt = new CancellationTokenSource();
            var progress = new InterruptAt(afterBytes, interrupt);
            Assert.ThrowsAny<OperationCanceledException>(() => SynthWriter.Write(_folder.File(name), Request("tiny", mix), progress, interrupt.Token));
            Assert.True(progress.IsReached);
            Assert.Empty(Directory.GetFileSystemEntries(_folder.Path));
        }
    }

    [Fact]
    public void ProgressEndsAtAllBytes()
    {
        var progress = new LastProgress();
        SynthWriter.Write(_folder.File("m.gguf"), Request("tiny", "Q8_0"), progress, default);
        Assert.Equal(progress.Last.BytesTotal, progress.Last.BytesDone);
        Assert.InRange(progress.Last.BytesTotal, 1, new FileInfo(_folder.File("m.gguf")).Length);
    }

    [Fact]
    public void ADiskWithoutRoomIsRefusedBeforehand()
    {
        var error = Assert.Throws<IOException>(() => SynthWriter.CheckRoom(_folder.File("m.gguf"), long.MaxValue / 2));
        Assert.Contains("free", error.Message, StringComparison.Ordinal);
        SynthWriter.CheckRoom(_folder.File("not/yet/there/m.gguf"), 1000);
    }

    private static SynthRequest Request(string shape, string mix) => new()
    {
        Shape = SynthShape.Find(shape),
        Mix = QuantMix.Find(mix),
        Seed = 1,
        ChatTemplate = Template,
        ThreadCount = 2,
    };

    private static void AssertSameShape(ModelConfig wanted, ModelConfig found)
    {
        Assert.Equal(wanted.FullAttentionLayers, found.FullAttentionLayers);
        Assert.Equal(wanted.RopeSections, found.RopeSections);
        Assert.Equal(
            wanted with { ValueHeadsInterleaved = true, FullAttentionLayers = found.FullAttentionLayers, RopeSections = found.RopeSections },
            found with { RopeTheta = wanted.RopeTheta });
    }

    private static void AssertValues(SynthTensor tensor, string name, float[] values, float factor)
    {
        double sum = 0;
        double squares = 0;
        float least = float.PositiveInfinity;
        float most = float.NegativeInfinity;
        foreach (float value in values)
        {
            sum += value;
            squares += (double)value * value;
            least = Math.Min(least, value);
            most = Math.Max(most, value);
        }

        Assert.True(float.IsFinite(least) && float.IsFinite(most), name);
        (float Least, float Most)? range = tensor.Role switch
        {
            TensorRole.LinearDecay => (-2, -0.5f),
            TensorRole.LinearDtBias => (-6, -3),
            TensorRole.LinearNorm => (0.799f, 1.201f),
            _ => TensorShapes.IsZeroCentredNorm(tensor.Role) ? (0.799f, 1.201f) : null,
        };
        if (range is var (lower, upper))
        {
            Assert.InRange(least, lower, upper);
            Assert.InRange(most, lower, upper);
            return;
        }

        // Blocks share scales, so the smallest tensors (a dozen blocks) scatter most.
        double scatter = Math.Min(0.5, 4 * Math.Sqrt(256.0 / values.Length));
        double deviation = Math.Sqrt(squares / values.Length) * factor;
        Assert.True(Math.Abs(sum / values.Length) * factor < tensor.Deviation * scatter, $"{name}: mean {sum / values.Length * factor}");
        Assert.True(Math.Abs(deviation / tensor.Deviation - 1) < scatter, $"{name}: deviation {deviation}, wanted {tensor.Deviation}");
    }

    private static float[] Values(GgufTensor tensor)
    {
        var values = new float[tensor.RowCount * tensor.ColumnCount];
        WeightFormat.Decode(tensor.Type, tensor.Data.Span(0, (int)tensor.ByteCount), values);
        return values;
    }

    private static string Hash(string path)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (string file in Directory.Exists(path) ? Directory.GetFiles(path).Order().ToArray() : [path])
            hash.AppendData(File.ReadAllBytes(file));
        return Convert.ToHexString(hash.GetHashAndReset());
    }

    private sealed class InterruptAt(long afterBytes, CancellationTokenSource interrupt) : IProgress<SynthProgress>
    {
        public bool IsReached { get; private set; }

        public void Report(SynthProgress value)
        {
            if (value.BytesDone < afterBytes)
                return;
            IsReached = true;
            interrupt.Cancel();
        }
    }

    private sealed class LastProgress : IProgress<SynthProgress>
    {
        public SynthProgress Last { get; private set; }

        public void Report(SynthProgress value) => Last = value;
    }
}
