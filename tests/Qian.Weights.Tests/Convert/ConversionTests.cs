using System.Security.Cryptography;
using Qian.Inference;
using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Weights.Tests;

public sealed class ConversionTests : IDisposable
{
    // Relative rms error that a row of the type may have on gaussian weights: what EncodeTests measured, plus a tenth for small tensors.
    private static readonly Dictionary<WeightType, double> s_errors = new()
    {
        [WeightType.F32] = 0,
        [WeightType.BF16] = 0,
        [WeightType.F16] = 1e-3,
        [WeightType.Q8_0] = 0.0053,
        [WeightType.Q6_K] = 0.0182,
        [WeightType.Q5_K] = 0.0381,
        [WeightType.Q4_K] = 0.077,
        [WeightType.Q3_K] = 0.158,
        [WeightType.Q2_K] = 0.285,
        [WeightType.IQ4_NL] = 0.081,
        [WeightType.IQ4_XS] = 0.0813,
        [WeightType.MXFP4] = 0.1223,
        [WeightType.IQ3_S] = 0.142,
        [WeightType.IQ3_XXS] = 0.193,
        [WeightType.IQ2_S] = 0.264,
    };

    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("F32")]
    [InlineData("F16")]
    [InlineData("BF16")]
    [InlineData("Q8_0")]
    [InlineData("Q6_K")]
    [InlineData("Q5_K_M")]
    [InlineData("Q5_K_S")]
    [InlineData("Q4_K_M")]
    [InlineData("Q4_K_S")]
    [InlineData("Q3_K_L")]
    [InlineData("Q3_K_M")]
    [InlineData("Q3_K_S")]
    [InlineData("Q2_K")]
    [InlineData("IQ4_XS")]
    [InlineData("IQ4_NL")]
    [InlineData("IQ3_M")]
    [InlineData("IQ3_S")]
    [InlineData("IQ3_XS")]
    [InlineData("IQ3_XXS")]
    [InlineData("IQ2_M")]
    [InlineData("MXFP4")]
    public void EveryMixHoldsTheModelWithinItsTypesError(string mix)
    {
        string input = SynthModels.Write(_folder, "hf/"), output = _folder.File("m.gguf");
        ConversionResult result = SynthModels.Convert(SynthModels.Request(input, output, mix));
        using GgufFile file = GgufFile.Open(output);
        Assert.Equal(QuantMix.Find(mix).FileType, file.Integer("general.file_type", 0, 100));
        Assert.Equal(result.TensorBytes, file.Tensors.Sum(tensor => tensor.ByteCount));
        Assert.Equal(new FileInfo(output).Length, result.FileBytes);
        Assert.False(File.Exists(output + ".part"));

        Dictionary<string, float[]> wanted = SynthModels.Values(input), found = SynthModels.Values(output);
        Assert.Equal(wanted.Keys.Order(), found.Keys.Order());
        ModelConfig config;
        using (Checkpoint checkpoint = Checkpoint.Open(output))
            config = checkpoint.Config;
        foreach ((string name, float[] values) in wanted)
        {
            string[] words = name.Split(' ');
            TensorRole role = Enum.Parse<TensorRole>(words[0]);
            int layer = int.Parse(words[1], System.Globalization.CultureInfo.InvariantCulture);
            GgufTensor tensor = file.Find(TensorNames.Gguf(role, layer))!;
            Assert.Equal(QuantMix.Find(mix).TypeOf(role, layer, tensor.ColumnCount, config), tensor.Type);
            double error = RelativeError(values, found[name]);
            Assert.True(error <= s_errors[tensor.Type], $"{name} as {tensor.Type}: {error}");
        }
    }

    [Fact]
    public void AModelSaysTheSameInBothFormats()
    {
        string input = SynthModels.Write(_folder, "hf/"), output = _folder.File("m.gguf");
        SynthModels.Convert(SynthModels.Request(input, output, "BF16"));
        Assert.Equal(Greedy(input), Greedy(output));
    }

    [Theory]
    [InlineData("tiny", false)]
    [InlineData("tiny", true)]
    [InlineData("tiny-moe", false)]
    public void AFolderComesBackFromGgufValueByValue(string shape, bool tied)
    {
        string input = SynthModels.Write(_folder, "hf/", shape, tied: tied), between = _folder.File("m.gguf"), output = _folder.File("back/");
        SynthModels.Convert(SynthModels.Request(input, between, "BF16"));
        SynthModels.Convert(SynthModels.Request(between, output, "BF16"));
        Dictionary<string, float[]> wanted = SynthModels.Values(input), found = SynthModels.Values(output);
        Assert.Equal(wanted.Keys.Order(), found.Keys.Order());
        foreach ((string name, float[] values) in wanted)
        {
            // log and exp of a decay are each rounded once.
            if (name.StartsWith(nameof(TensorRole.LinearDecay), StringComparison.Ordinal))
                Assert.True(RelativeError(values, found[name]) < 3e-7, name);
            else
                Assert.True(values.AsSpan().SequenceEqual(found[name]), name);
        }

        using Checkpoint first = Checkpoint.Open(input), last = Checkpoint.Open(output);
        Assert.Equal(first.LoadTokenizer()!.Pieces, last.LoadTokenizer()!.Pieces);
        Assert.Equal(first.ChatTemplate, last.ChatTemplate);
        Assert.Equal(first.Generation.EosTokenIds.Order(), last.Generation.EosTokenIds.Order());
        Assert.Equal(first.Config with { FullAttentionLayers = last.Config.FullAttentionLayers, RopeSections = last.Config.RopeSections, Name = last.Config.Name }, last.Config);
        Assert.Equal(first.Config.FullAttentionLayers, last.Config.FullAttentionLayers);
    }

    [Fact]
    public void AFolderWrittenFromAFolderIsTheSame()
    {
        string input = SynthModels.Write(_folder, "hf/"), output = _folder.File("copy/");
        SynthModels.Convert(SynthModels.Request(input, output, "BF16"));
        foreach ((string name, float[] values) in SynthModels.Values(input))
            Assert.True(RelativeError(values, SynthModels.Values(output)[name]) < 3e-7, name);
        Assert.Equal(File.ReadAllBytes(Path.Combine(input, "tokenizer.json")), File.ReadAllBytes(Path.Combine(output, "tokenizer.json")));
    }

    [Fact]
    public void AFileOfTheSameTypesIsCopiedByteForByte()
    {
        string input = SynthModels.Write(_folder, "a.gguf", mix: "Q4_K_M"), output = _folder.File("b.gguf");
        SynthModels.Convert(SynthModels.Request(input, output, "Q4_K_M"));
        using GgufFile from = GgufFile.Open(input), to = GgufFile.Open(output);
        Assert.Equal(from.Tensors.Count, to.Tensors.Count);
        foreach (GgufTensor tensor in from.Tensors)
        {
            GgufTensor copy = to.Find(tensor.Name)!;
            Assert.Equal(tensor.Type, copy.Type);
            Assert.True(tensor.Data.Span(0, (int)tensor.ByteCount).SequenceEqual(copy.Data.Span(0, (int)copy.ByteCount)), tensor.Name);
        }

        Assert.Equal(from.Metadata.Keys.Order(), to.Metadata.Keys.Order());
        Assert.All(from.Metadata, pair => Assert.Equal(pair.Value.Describe(), to.Metadata[pair.Key].Describe()));
    }

    // The export that `verify` checks against the reference numbers writes the very same file.
    [Theory]
    [InlineData("text-dense-tiny", "F32")]
    [InlineData("text-dense-tiny", "BF16")]
    [InlineData("text-moe-tiny", "BF16")]
    [InlineData("mtp-tiny", "F32")]
    public void FilesOfGoldenModelsAreThoseOfTheVerifiedExport(string golden, string mix)
    {
        string input = TestFolder.Data("goldens", golden), ours = _folder.File("ours.gguf"), export = _folder.File("export.gguf");
        SynthModels.Convert(SynthModels.Request(input, ours, mix));
        using (Checkpoint checkpoint = Checkpoint.Open(input))
            GgufExport.Write(checkpoint, export, QuantMix.Find(mix).Default);
        Assert.Equal(SHA256.HashData(File.ReadAllBytes(export)), SHA256.HashData(File.ReadAllBytes(ours)));
    }

    // FP8 with a multiplier per 128 x 128 block: every value that the reader hands out arrives.
    [Fact]
    public void AnFp8FolderIsConverted()
    {
        string source = SynthModels.Write(_folder, "hf/"), input = _folder.File("fp8/"), output = _folder.File("m.gguf");
        Directory.CreateDirectory(input);
        foreach (string path in Directory.GetFiles(source, "*.json"))
            File.Copy(path, Path.Combine(input, Path.GetFileName(path)));
        const string quantized = "model.language_model.layers.0.mlp.down_proj.weight";
        using (SafetensorsSet set = SafetensorsSet.OpenFolder(source))
        using (SafetensorsWriter writer = SafetensorsWriter.ToFolder(input, long.MaxValue))
        {
            foreach (SafetensorsTensor tensor in set.Tensors)
                writer.Declare(tensor.Name, tensor.Name == quantized ? SafetensorsType.F8E4M3 : tensor.Type, tensor.Sizes);
            writer.Declare(quantized + "_scale_inv", SafetensorsType.F32, 2, 6);
            foreach (SafetensorsTensor tensor in set.Tensors)
                writer.Write(tensor.Name == quantized ? Fp8Codes(256 * 768) : tensor.Data.Span(0, (int)tensor.Data.Length));
            writer.Write(System.Runtime.InteropServices.MemoryMarshal.AsBytes<float>([.. Enumerable.Range(1, 12).Select(i => 0.01f * i)]));
            writer.Complete();
        }

        SynthModels.Convert(SynthModels.Request(input, output, "F32"));
        Dictionary<string, float[]> wanted = SynthModels.Values(input), found = SynthModels.Values(output);
        Assert.All(wanted, pair => Assert.True(pair.Value.AsSpan().SequenceEqual(found[pair.Key]), pair.Key));
        float[] down = found["FfnDown 0 0"];
        Assert.Equal(0.12f * 448, down.Max(), 1e-4); // the last block's multiplier, the largest code
        SynthModels.Convert(SynthModels.Request(input, _folder.File("out/"), "BF16"));
        Assert.True(RelativeError(down, SynthModels.Values(_folder.File("out/"))["FfnDown 0 0"]) < 0.003);
    }

    // A folder that holds only what a killed run left is as good as empty.
    [Fact]
    public void PartsOfAKilledRunAreOverwritten()
    {
        string input = SynthModels.Write(_folder, "a.gguf"), output = _folder.File("out/");
        Directory.CreateDirectory(output);
        File.WriteAllText(Path.Combine(output, "model.safetensors.part"), "half");
        SynthModels.Convert(SynthModels.Request(input, output, "BF16"));
        Assert.DoesNotContain(Directory.GetFiles(output), path => path.EndsWith(".part", StringComparison.Ordinal));
    }

    [Fact]
    public void TheConfigurationOfAStretchedContextComesBack()
    {
        ModelConfig config = SynthShape.Find("tiny").ToConfig(null, withMtp: true, 600) with { Yarn = new YarnScaling(4, 65536, 30, 2, 1.2), NormEpsilon = 3e-5f };
        string path = _folder.File("config.json");
        File.WriteAllText(path, HuggingFaceText.Config(config, SynthTokenizer.Resolve(SynthModels.SynthRequest("tiny", "BF16"))).ToJsonString());
        ModelConfig read = HuggingFaceConfig.Read(path, config.Name).Config;
        Assert.Equal(config.Yarn, read.Yarn);
        Assert.Equal(config.NormEpsilon, read.NormEpsilon);
        Assert.Equal(config.ContextLength, read.ContextLength);
    }

    [Fact]
    public void WhoEncodesWhatChangesNothing()
    {
        string input = SynthModels.Write(_folder, "hf/");
        SynthModels.Convert(SynthModels.Request(input, _folder.File("1.gguf"), "Q3_K_M") with { ThreadCount = 1 });
        SynthModels.Convert(SynthModels.Request(input, _folder.File("5.gguf"), "Q3_K_M") with { ThreadCount = 5 });
        Assert.Equal(File.ReadAllBytes(_folder.File("1.gguf")), File.ReadAllBytes(_folder.File("5.gguf")));
    }

    [Fact]
    public void AFastConversionIsOfTheSameTypesAndSomewhatLessExact()
    {
        string input = SynthModels.Write(_folder, "hf/"), searched = _folder.File("a.gguf"), fast = _folder.File("b.gguf");
        ConversionResult first = SynthModels.Convert(SynthModels.Request(input, searched, "Q4_K_M"));
        ConversionResult second = SynthModels.Convert(SynthModels.Request(input, fast, "Q4_K_M") with { Fast = true });
        Assert.Equal(first.FileBytes, second.FileBytes);
        float[] wanted = SynthModels.Values(input)["FfnUp 0 0"];
        double error = RelativeError(wanted, SynthModels.Values(searched)["FfnUp 0 0"]);
        Assert.InRange(RelativeError(wanted, SynthModels.Values(fast)["FfnUp 0 0"]), 1.01 * error, 1.2 * error);
    }

    [Fact]
    public void RulesWinOverTheMixAndTheFirstThatMatchesCounts()
    {
        string input = SynthModels.Write(_folder, "hf/"), output = _folder.File("m.gguf");
        SynthModels.Convert(SynthModels.Request(input, output, "Q4_K_M") with
        {
            Rules = [TensorRule.Parse(@"blk\.0\.ffn_down=Q8_0"), TensorRule.Parse("ffn_down=Q6_K"), TensorRule.Parse("norm|attn_gate=BF16")],
        });
        using GgufFile file = GgufFile.Open(output);
        Assert.Equal(WeightType.Q8_0, file.Find("blk.0.ffn_down.weight")!.Type);
        Assert.Equal(WeightType.Q6_K, file.Find("blk.1.ffn_down.weight")!.Type);
        Assert.Equal(WeightType.BF16, file.Find("blk.1.attn_gate.weight")!.Type);
        Assert.Equal(WeightType.F32, file.Find("blk.1.attn_norm.weight")!.Type);
        Assert.Equal(WeightType.Q4_K, file.Find("blk.1.ffn_up.weight")!.Type);
    }

    [Theory]
    [InlineData("ffn_down", "REGEX=TYPE")]
    [InlineData("ffn_down=Q9", "'Q9'")]
    [InlineData("ffn_down=IQ1_M", "read, not written")]
    [InlineData("ffn_down=IQ2_XS", "--calibrate")]
    [InlineData("ffn_(=Q8_0", "ffn_(")]
    [InlineData("ffn_dwon=Q8_0", "blk.0.ffn_down.weight")]
    [InlineData("attn_norm=Q8_0", "no matrix")]
    public void AWrongRuleIsRefused(string rule, string part)
    {
        string input = SynthModels.Write(_folder, "hf/");
        var error = Assert.Throws<BadRequestException>(() => ModelConversion.Prepare(SynthModels.Request(input, _folder.File("m.gguf"), "Q4_K_M") with { Rules = [TensorRule.Parse(rule)] }));
        Assert.Contains(part, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void ATypeThatRowsDoNotFitIsRefusedByName()
    {
        var request = SynthModels.Request(TestFolder.Data("goldens", "text-dense-tiny"), _folder.File("m.gguf"), "Q8_0") with { Rules = [TensorRule.Parse("ffn_up=Q4_K")] };
        var error = Assert.Throws<BadRequestException>(() => ModelConversion.Prepare(request));
        Assert.Contains("blk.0.ffn_up.weight", error.Message, StringComparison.Ordinal);
        Assert.Contains("256", error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("IQ1_S", "m.gguf", "read, not written")]
    [InlineData("IQ2_XXS", "m.gguf", "--calibrate")]
    [InlineData("IQ2_S", "m.gguf", "--importance")]
    [InlineData("NVFP4", "m.gguf", "read, not written")]
    [InlineData("Q8_0", "folder/", "BF16")]
    [InlineData("Q8_0", "hf/", "is the input")]
    [InlineData("Q8_0", "missing/m.gguf", "no such folder")]
    public void WhatCannotBeWrittenIsRefusedBeforehand(string mix, string output, string part)
    {
        string input = SynthModels.Write(_folder, "hf/");
        if (output == "hf/")
            mix = "BF16";
        var error = Assert.Throws<BadRequestException>(() => ModelConversion.Prepare(SynthModels.Request(input, _folder.File(output), mix)));
        Assert.Contains(part, error.Message, StringComparison.Ordinal);
        Assert.False(File.Exists(_folder.File(output)) || File.Exists(_folder.File(output) + ".part"));
    }

    [Fact]
    public void WhatIsThereStaysUnlessForced()
    {
        string input = SynthModels.Write(_folder, "hf/"), output = _folder.File("m.gguf");
        File.WriteAllText(output, "something else");
        ConversionRequest request = SynthModels.Request(input, output, "Q8_0");
        Assert.Contains("--force", Assert.Throws<BadRequestException>(() => ModelConversion.Prepare(request)).Message, StringComparison.Ordinal);
        Assert.Equal("something else", File.ReadAllText(output));
        SynthModels.Convert(request with { Overwrite = true });
        Checkpoint.Open(output).Dispose();
    }

    [Theory]
    [InlineData("hf/")]
    [InlineData("m.gguf")]
    public void TheMtpHeadCanBeDropped(string inputName)
    {
        string input = SynthModels.Write(_folder, inputName), output = _folder.File("out.gguf");
        SynthModels.Convert(SynthModels.Request(input, output, "BF16") with { KeepMtp = false });
        using GgufFile file = GgufFile.Open(output);
        Assert.Equal(4, file.Integer("qwen35.block_count", 0, 100));
        Assert.False(file.Has("qwen35.nextn_predict_layers"));
        Assert.DoesNotContain(file.Tensors, tensor => tensor.Name.StartsWith("blk.4.", StringComparison.Ordinal));
        using Checkpoint checkpoint = Checkpoint.Open(output);
        Assert.Equal(0, checkpoint.Config.MtpLayerCount);
    }

    [Fact]
    public void KeysThatNobodyKnowsAreCarriedOver()
    {
        string model = SynthModels.Write(_folder, "a.gguf"), input = _folder.File("b.gguf"), output = _folder.File("c.gguf");
        using (GgufFile file = GgufFile.Open(model))
        using (var writer = new GgufWriter(input, alignment: 64))
        {
            foreach ((string key, GgufValue value) in file.Metadata)
                writer.Add(key, value);
            writer.Add("general.license", "apache-2.0");
            writer.Add("general.tags", (IReadOnlyList<string>)["one", "two"]);
            writer.Add("quantize.imatrix.file", "old.dat");
            writer.Add("split.count", 0u);
            foreach (GgufTensor tensor in file.Tensors)
                writer.Declare(tensor.Name, tensor.Type, tensor.Sizes);
            foreach (GgufTensor tensor in file.Tensors)
                writer.Write(tensor.Data.Span(0, (int)tensor.ByteCount));
            writer.Complete();
        }

        SynthModels.Convert(SynthModels.Request(input, output, "Q8_0"));
        using GgufFile result = GgufFile.Open(output);
        Assert.Equal("apache-2.0", result.Text("general.license"));
        Assert.Equal("two", result.OptionalStrings("general.tags")!.StringAt(1));
        Assert.False(result.Has("quantize.imatrix.file") || result.Has("split.count") || result.Has("general.alignment"));
        Assert.Equal(7, result.Integer("general.file_type", 0, 100));
    }

    [Fact]
    public void AValueThatIsNotFiniteIsNamedAndLeavesNothing()
    {
        string input = SynthModels.Write(_folder, "a.gguf"), output = _folder.File("b.gguf");
        long offset;
        using (GgufFile file = GgufFile.Open(input))
        {
            GgufTensor tensor = file.Find("blk.2.ffn_up.weight")!;
            byte[] all = File.ReadAllBytes(input);
            offset = all.AsSpan().IndexOf(tensor.Data.Span(0, 4096)) + 512L * 7 + 20; // row 7, BF16
        }

        using (FileStream stream = File.OpenWrite(input))
        {
            stream.Position = offset;
            stream.Write([0xC0, 0x7F]);
        }

        foreach (string mix in (string[])["Q4_K_M", "BF16"])
        {
            var error = Assert.Throws<BadModelFileException>(() => SynthModels.Convert(SynthModels.Request(input, output, mix)));
            Assert.Contains("blk.2.ffn_up.weight", error.Message, StringComparison.Ordinal);
            Assert.Contains("row 7", error.Message, StringComparison.Ordinal);
            Assert.Equal([input], Directory.GetFiles(_folder.Path));
        }
    }

    [Fact]
    public void ProgressEndsAtTheWhole()
    {
        string input = SynthModels.Write(_folder, "a.gguf");
        using ModelConversion conversion = ModelConversion.Prepare(SynthModels.Request(input, _folder.File("b.gguf"), "Q8_0"));
        var progress = new LastReport();
        ConversionResult result = conversion.Write(progress, default);
        Assert.Equal(result.ValueCount, progress.ValuesDone);
        Assert.Equal(8.0 * result.TensorBytes / result.ValueCount, result.BitsPerWeight);
    }

    // All codes but the two that are NaN.
    private static byte[] Fp8Codes(int count)
    {
        var codes = new byte[count];
        for (int i = 0; i < count; i++)
            codes[i] = (byte)(i * 7919 >> 3);
        return Array.ConvertAll(codes, code => (code & 0x7F) == 0x7F ? (byte)(code - 1) : code);
    }

    private static int[] Greedy(string path)
    {
        using Engine engine = Engine.Load(path, new EngineOptions { ExactArithmetic = true, KvType = KvType.F32, ContextLength = 128, ThreadCount = 2 });
        using Session session = engine.NewSession();
        session.Append([5, 17, 200, 3, 99]);
        var tokens = new List<int>();
        Task.Run(async () =>
        {
            await foreach (GeneratedToken token in session.GenerateAsync(new SamplingOptions { Temperature = 0, MaxTokens = 24 }))
                tokens.Add(token.Id);
        }).GetAwaiter().GetResult();
        return [.. tokens];
    }

    private static double RelativeError(float[] wanted, float[] found)
    {
        double error = 0, square = 0;
        for (int i = 0; i < wanted.Length; i++)
        {
            error += Math.Pow(wanted[i] - (double)found[i], 2);
            square += Math.Pow(wanted[i], 2);
        }

        return Math.Sqrt(error / square);
    }

    private sealed class LastReport : IProgress<ConversionProgress>
    {
        public long ValuesDone { get; private set; }

        public void Report(ConversionProgress value) => ValuesDone = value.ValuesDone;
    }
}
