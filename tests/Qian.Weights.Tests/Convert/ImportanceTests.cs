using System.Text;
using Qian.Inference;
using Qian.Inference.Formats;
using Qian.Inference.Model;
using Qian.Inference.Verification;
using Qian.Kernels;

namespace Qian.Weights.Tests;

public sealed class ImportanceTests : IDisposable
{
    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void TheGgufFormComesBack()
    {
        ImportanceMatrix matrix = Sample();
        ImportanceFile.Write(_folder.File("i.gguf"), matrix);
        using (GgufFile file = GgufFile.Open(_folder.File("i.gguf")))
        {
            Assert.Equal("imatrix", file.Text("general.type"));
            Assert.Equal(["a.txt", "b.txt"], Enumerable.Range(0, 2).Select(i => file.OptionalStrings("imatrix.datasets")!.StringAt(i)));
            Assert.Equal((7, 512), (file.Integer("imatrix.chunk_count", 0, 100), file.Integer("imatrix.chunk_size", 0, 1000)));
            Assert.Equal([4, 3], file.Find("blk.0.ffn_up_exps.weight.in_sum2")!.Sizes.ToArray());
            Assert.Equal([1, 3], file.Find("blk.0.ffn_up_exps.weight.counts")!.Sizes.ToArray());
            Assert.All(file.Tensors, tensor => Assert.Equal(WeightType.F32, tensor.Type));
        }

        ImportanceMatrix read = ImportanceFile.Read(_folder.File("i.gguf"));
        Assert.Equal(matrix.Entries.Select(entry => entry.Name), read.Entries.Select(entry => entry.Name));
        foreach ((ImportanceEntry wanted, ImportanceEntry found) in matrix.Entries.Zip(read.Entries))
        {
            Assert.Equal(wanted.Sums, found.Sums);
            Assert.Equal(wanted.Counts, found.Counts);
        }

        Assert.Equal((7, 512, 2), (read.ChunkCount, read.ChunkSize, read.Datasets.Count));
    }

    // The older form keeps mean squares times calls: means come back, sums do not; what was never seen weighs 1.
    [Fact]
    public void TheOlderFormKeepsTheMeans()
    {
        ImportanceFile.Write(_folder.File("i.dat"), Sample());
        ImportanceMatrix read = ImportanceFile.Read(_folder.File("i.dat"));
        Assert.Equal([0.1f, 0.2f, 0.3f, 0.4f], Means(read, "blk.0.attn_q.weight", 4, 0, 1)!, Near);
        Assert.Equal([0.5f, 1, 1.5f, 2], Means(read, "blk.0.ffn_up_exps.weight", 4, 0, 3)!, Near);
        Assert.Equal([1, 1, 1, 1], Means(read, "blk.0.ffn_up_exps.weight", 4, 1, 3)!, Near);
        Assert.Equal((7, "b.txt"), (read.ChunkCount, read.Datasets[0]));
    }

    // Byte for byte as the form is published: count, then name length, name, calls, value count, values.
    [Fact]
    public void AnOlderFileWithoutAnEndIsRead()
    {
        using (var writer = new BinaryWriter(File.Create(_folder.File("i.dat"))))
        {
            writer.Write(1);
            writer.Write(3);
            writer.Write(Encoding.UTF8.GetBytes("a.b"));
            writer.Write(5);
            writer.Write(2);
            writer.Write(10f);
            writer.Write(2.5f);
        }

        Assert.Equal([2, 0.5f], Means(ImportanceFile.Read(_folder.File("i.dat")), "a.b", 2, 0, 1)!, Near);
    }

    [Fact]
    public void EveryTruncationOfEitherFormIsAnError()
    {
        foreach (string name in (string[])["i.gguf", "i.dat"])
        {
            ImportanceFile.Write(_folder.File(name), Sample());
            byte[] whole = File.ReadAllBytes(_folder.File(name));
            // What may be missing: padding behind the last three counts; the older form's end (chunks, length, "b.txt"), which
            // is taken for missing as long as its two numbers are not there.
            (int First, int Count) optional = name == "i.gguf" ? (whole.Length - 20, 20) : (whole.Length - 13, 8);
            for (int length = 0; length < whole.Length; length++)
            {
                if (length >= optional.First && length < optional.First + optional.Count)
                    continue;
                File.WriteAllBytes(_folder.File("cut"), whole[..length]);
                Assert.Throws<BadModelFileException>(() => ImportanceFile.Read(_folder.File("cut")));
            }
        }
    }

    [Theory]
    [InlineData(float.NaN)]
    [InlineData(float.PositiveInfinity)]
    [InlineData(-1f)]
    public void NumbersThatNoEncoderCanUseAreRefusedByName(float bad)
    {
        foreach (string name in (string[])["i.gguf", "i.dat"])
        {
            var matrix = new ImportanceMatrix { ChunkSize = 1 };
            matrix.Add(new ImportanceEntry("blk.0.attn_q.weight", [1, bad, 2], [1]));
            ImportanceFile.Write(_folder.File(name), matrix);
            var error = Assert.Throws<BadModelFileException>(() => ImportanceFile.Read(_folder.File(name)));
            Assert.Contains("blk.0.attn_q.weight", error.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void AMatrixOfAnotherModelIsRefused()
    {
        string input = SynthModels.Write(_folder, "hf/");
        ConversionRequest request = SynthModels.Request(input, _folder.File("m.gguf"), "Q4_K_M");
        var strange = new ImportanceMatrix();
        strange.Add(new ImportanceEntry("model.layers.0.weight", [1], [1]));
        Assert.Throws<BadRequestException>(() => ModelConversion.Prepare(request with { Importance = strange }));
        var narrow = new ImportanceMatrix();
        narrow.Add(new ImportanceEntry("blk.0.ffn_up.weight", [1, 2, 3], [1]));
        var error = Assert.Throws<BadModelFileException>(() => ModelConversion.Prepare(request with { Importance = narrow }));
        Assert.Contains("256 columns", error.Message, StringComparison.Ordinal);
    }

    // What is collected for the first layer's input is the sum of squares of the normed residual stream, and counts are tokens.
    [Fact]
    public void CollectedSumsAreThoseOfTheInputs()
    {
        string model = SynthModels.Write(_folder, "hf/");
        File.WriteAllText(_folder.File("t.txt"), string.Concat(Enumerable.Range(0, 400).Select(i => $"line {i * i} of text\n")));
        ImportanceMatrix matrix = Collect(model);
        var options = new EngineOptions { ExactArithmetic = true, KvType = KvType.F32, ContextLength = 512, ThreadCount = 2 };
        using Engine engine = Engine.Load(model, options);
        int[] tokens = SampleText.Tokens([_folder.File("t.txt")], engine);
        Assert.True(tokens.Length > 2 * 512);
        Assert.Equal((tokens.Length + 511) / 512, matrix.ChunkCount);
        var expected = new double[256];
        using (var tap = new ActivationTap(engine.Model.Network))
        using (SequenceState sequence = engine.Model.NewSequence())
        using (NativeBuffer normed = NativeBuffer.AllocateFloats(512 * 256))
        {
            var batch = new ForwardBatch(engine.Model.Network.MaxRows);
            for (int first = 0; first < tokens.Length; first += 512)
            {
                int count = Math.Min(512, tokens.Length - first);
                sequence.Reset();
                Assert.True(sequence.TryReserve(count));
                batch.Clear();
                batch.Add(sequence, tokens.AsSpan(first, count));
                engine.Model.Network.Forward(batch);
                using NativeBuffer input = NativeBuffer.AllocateFloats(count * 256);
                tap.Get("layer_input", 0).AsSpan(0, count * 256).CopyTo(input.AllFloats.Span);
                RmsNorm.Apply(input.AllFloats, engine.Model.Weights.Layers[0].InputNorm, engine.Config.NormEpsilon, normed.AllFloats, count, 256, engine.Model.Team);
                ReadOnlySpan<float> values = normed.AllFloats.Span;
                for (int i = 0; i < count * 256; i++)
                    expected[i % 256] += (double)values[i] * values[i];
            }
        }

        foreach (string name in (string[])["blk.0.attn_qkv.weight", "blk.0.attn_gate.weight", "blk.0.ssm_alpha.weight"])
        {
            ImportanceEntry entry = matrix.Entries.Single(entry => entry.Name == name);
            Assert.Equal([tokens.Length], entry.Counts);
            for (int i = 0; i < 256; i++)
                Assert.Equal(expected[i], entry.Sums[i], 1e-3 * expected[i]);
        }

        // Every matrix of the file that is multiplied has an entry; those of the MTP layer see one row less per piece.
        using ModelConversion conversion = ModelConversion.Prepare(SynthModels.Request(model, _folder.File("m.gguf"), "Q4_K_M"));
        string[] multiplied = [.. conversion.Tensors.Where(tensor => !tensor.StaysFloat && tensor.Role != TensorRole.TokenEmbedding).Select(tensor => tensor.Name).Order(StringComparer.Ordinal)];
        Assert.Equal(multiplied, matrix.Entries.Select(entry => entry.Name));
        Assert.Equal([tokens.Length - matrix.ChunkCount], matrix.Entries.Single(entry => entry.Name == "blk.4.ffn_up.weight").Counts);
    }

    // Columns stand as in the file that is written, wherever the model was loaded from.
    [Fact]
    public void BothFormatsCollectTheSame()
    {
        string folder = SynthModels.Write(_folder, "hf/"), file = _folder.File("m.gguf");
        SynthModels.Convert(SynthModels.Request(folder, file, "BF16"));
        File.WriteAllText(_folder.File("t.txt"), "Some text to read, twice over. Some text to read, twice over.");
        ImportanceMatrix left = Collect(folder), right = Collect(file);
        foreach ((ImportanceEntry wanted, ImportanceEntry found) in left.Entries.Zip(right.Entries))
        {
            Assert.Equal(wanted.Name, found.Name);
            double scale = wanted.Sums.Average();
            for (int i = 0; i < wanted.Sums.Length; i++)
                Assert.Equal(wanted.Sums[i], found.Sums[i], 0.02 * wanted.Sums[i] + 1e-4 * scale);
        }
    }

    [Fact]
    public void AnExpertCountsTheTokensThatChoseIt()
    {
        string model = SynthModels.Write(_folder, "moe/", "tiny-moe", withMtp: false);
        File.WriteAllText(_folder.File("t.txt"), "Some text to read by sixteen experts, four of them a token.");
        ImportanceMatrix matrix = Collect(model);
        float tokens = matrix.Entries.Single(entry => entry.Name == "output.weight").Counts[0];
        for (int layer = 0; layer < 4; layer++)
        {
            ImportanceEntry up = matrix.Entries.Single(entry => entry.Name == $"blk.{layer}.ffn_up_exps.weight");
            Assert.Equal(4 * tokens, up.Counts.Sum());
            Assert.Equal(16 * 256, up.Sums.Length);
            Assert.Equal([tokens], matrix.Entries.Single(entry => entry.Name == $"blk.{layer}.ffn_up_shexp.weight").Counts);
        }
    }

    // Where one column in sixteen does all the work, precision goes there.
    [Fact]
    public void EncodersUseTheMatrix()
    {
        string input = SynthModels.Write(_folder, "hf/", withMtp: false), plain = _folder.File("plain.gguf"), weighted = _folder.File("weighted.gguf");
        var importance = new ImportanceMatrix { SourcePath = "some/where/i.gguf", ChunkCount = 3, Datasets = ["d.txt"] };
        float[] sums = [.. Enumerable.Range(0, 256).Select(i => i % 16 == 5 ? 1000f : 1f)];
        importance.Add(new ImportanceEntry("blk.0.ffn_up.weight", sums, [1]));
        SynthModels.Convert(SynthModels.Request(input, plain, "Q3_K_S"));
        SynthModels.Convert(SynthModels.Request(input, weighted, "Q3_K_S") with { Importance = importance });
        float[] wanted = SynthModels.Values(input)["FfnUp 0 0"];
        double before = WeightedError(wanted, SynthModels.Values(plain)["FfnUp 0 0"], sums), after = WeightedError(wanted, SynthModels.Values(weighted)["FfnUp 0 0"], sums);
        Assert.True(after < 0.5 * before, $"{after} against {before}");
        Assert.Equal(SynthModels.Values(plain)["FfnUp 1 0"], SynthModels.Values(weighted)["FfnUp 1 0"]);
        using GgufFile file = GgufFile.Open(weighted);
        Assert.Equal("i.gguf", file.Text("quantize.imatrix.file"));
        Assert.Equal("d.txt", file.Text("quantize.imatrix.dataset"));
        Assert.Equal((1, 3), (file.Integer("quantize.imatrix.entries_count", 0, 10), file.Integer("quantize.imatrix.chunks_count", 0, 10)));
    }

    // Mixes that are refused without a matrix are written with one; what it does not know is said. Errors count less than half where they matter.
    [Theory]
    [InlineData("IQ2_XXS")]
    [InlineData("IQ2_XS")]
    [InlineData("IQ2_S")]
    public void TwoBitMixesTakeAMatrix(string name)
    {
        string input = SynthModels.Write(_folder, "hf/", withMtp: false), output = _folder.File("m.gguf");
        var importance = new ImportanceMatrix { SourcePath = "i.gguf", ChunkCount = 1 };
        float[] sums = [.. Enumerable.Range(0, 256).Select(i => i % 16 == 5 ? 1000f : 1f)];
        importance.Add(new ImportanceEntry("blk.0.ffn_up.weight", sums, [1]));
        ConversionRequest request = SynthModels.Request(input, output, name);
        Assert.Throws<BadRequestException>(() => ModelConversion.Prepare(request));
        ModelConversion.Prepare(request with { ImportanceFollows = true }).Dispose();
        using (ModelConversion conversion = ModelConversion.Prepare(request with { Importance = importance }))
        {
            Assert.Contains(conversion.Notes, note => note.Contains("two-bit types", StringComparison.Ordinal));
            conversion.Write(null, default);
        }

        using GgufFile file = GgufFile.Open(output);
        Assert.Equal(QuantMix.Find(name).Default, file.Find("blk.0.ffn_up.weight")!.Type);
        float[] wanted = SynthModels.Values(input)["FfnUp 0 0"], found = SynthModels.Values(output)["FfnUp 0 0"];
        Assert.InRange(WeightedError(wanted, found, sums), 0, 0.5 * WeightedError(wanted, found, [.. Enumerable.Repeat(sums.Average(), 256)]));
    }

    [Theory]
    [InlineData("IQ4_XS", WeightType.Q5_K, WeightType.IQ4_XS)]
    [InlineData("IQ4_NL", WeightType.Q5_K, WeightType.IQ4_NL)]
    [InlineData("Q4_0", WeightType.Q4_0, WeightType.Q4_1)]
    [InlineData("Q5_0", WeightType.Q5_0, WeightType.Q5_1)]
    [InlineData("Q4_K_M", WeightType.Q6_K, WeightType.Q6_K)]
    public void SomeMixesChooseOtherTypesWithAMatrix(string name, WeightType without, WeightType with)
    {
        ModelConfig config = SynthShape.Find("qwen3.6-27b").ToConfig(null, withMtp: false, 248320);
        QuantMix mix = QuantMix.Find(name);
        Assert.Equal(without, mix.TypeOf(TensorRole.FfnDown, 0, 17408, config));
        Assert.Equal(with, (mix with { WithImportance = true }).TypeOf(TensorRole.FfnDown, 0, 17408, config));
    }

    private ImportanceMatrix Collect(string model) =>
        ImportanceCollector.Collect(model, [_folder.File("t.txt")], new EngineOptions { ExactArithmetic = true, KvType = KvType.F32, ThreadCount = 2 }, null, default);

    private static ImportanceMatrix Sample()
    {
        var matrix = new ImportanceMatrix { Datasets = ["a.txt", "b.txt"], ChunkCount = 7, ChunkSize = 512 };
        matrix.Add(new ImportanceEntry("blk.0.ffn_up_exps.weight", [500, 1000, 1500, 2000, 0, 0, 0, 0, 1, 2, 3, 4], [1000, 0, 1]));
        matrix.Add(new ImportanceEntry("blk.0.attn_q.weight", [100, 200, 300, 400], [1000]));
        return matrix;
    }

    private static float[]? Means(ImportanceMatrix matrix, string name, int columns, int index, int count)
    {
        var row = new float[columns];
        return matrix.Find(name, columns, index, count)!.TryRead(row) ? row : null;
    }

    private static bool Near(float left, float right) => MathF.Abs(left - right) < 1e-5f;

    private static double WeightedError(float[] wanted, float[] found, float[] weights)
    {
        double error = 0;
        for (int i = 0; i < wanted.Length; i++)
            error += weights[i % weights.Length] * Math.Pow(wanted[i] - (double)found[i], 2);
        return error;
    }
}
