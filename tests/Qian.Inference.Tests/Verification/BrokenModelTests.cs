using Qian.Inference.Formats;
using Qian.Inference.Verification;
using Qian.Kernels;

namespace Qian.Inference.Tests.Verification;

// A good file passes; the same file broken in one way fails, and the report names that way.
public sealed class BrokenModelTests : IClassFixture<BrokenModelTests.GoodModel>, IDisposable
{
    private const string Matrix = "blk.2.ffn_up.weight";   // Q8_0 [768, 256]: 8 blocks of 34 bytes a row
    private const int RowBytes = 8 * 34;

    private readonly GoodModel _good;
    private readonly string _path = Path.Combine(Path.GetTempPath(), $"qian-broken-{Guid.NewGuid():n}.gguf");

    public BrokenModelTests(GoodModel good) => _good = good;

    public void Dispose() => File.Delete(_path);

    [Fact]
    public void AGoodFilePasses()
    {
        List<VerificationResult> results = Check(_good.Path);
        Assert.Equal(15, results.Count);
        Assert.All(results, result => Assert.True(result.Passed, $"{result.Quantity}: {result.Value} {result.Detail}"));
    }

    [Fact]
    public void TheFolderItCameFromPasses() => Assert.All(Check(GoodModel.Nano), result => Assert.True(result.Passed, $"{result.Quantity}: {result.Value} {result.Detail}"));

    [Fact]
    public void AMissingTensor() => Fails("tensors missing", "blk.3.attn_k.weight", new GgufRewrite { Name = tensor => tensor.Name == "blk.3.attn_k.weight" ? "blk.3.attn_key.weight" : tensor.Name });

    [Fact]
    public void ATransposedTensor() => Fails("tensors of a wrong shape", Matrix, new GgufRewrite { Sizes = tensor => tensor.Name == Matrix ? [tensor.Sizes[1], tensor.Sizes[0]] : tensor.Sizes.ToArray() });

    [Fact]
    public void AQuantisedNorm() => Fails("vectors and taps of a quantised type", "blk.1.attn_norm.weight", new GgufRewrite
    {
        Type = tensor => tensor.Name == "blk.1.attn_norm.weight" ? WeightType.Q8_0 : tensor.Type,
        Bytes = (tensor, bytes) =>
        {
            if (tensor.Name != "blk.1.attn_norm.weight")
                return bytes;
            var values = new float[tensor.ColumnCount];
            Buffer.BlockCopy(bytes, 0, values, 0, bytes.Length);
            var quantised = new byte[WeightFormat.RowBytes(WeightType.Q8_0, values.Length)];
            WeightFormat.Encode(WeightType.Q8_0, values, quantised);
            return quantised;
        },
    });

    [Fact]
    public void NormsWithoutTheOne() => Fails("norms that are not around one", "attn_norm", new GgufRewrite { Bytes = GgufRewrite.Values(name => name.EndsWith("attn_norm.weight", StringComparison.Ordinal), value => value - 1) });

    [Fact]
    public void DecaysAsLogarithms() => Fails("decays that do not decay", "ssm_a", new GgufRewrite { Bytes = GgufRewrite.Values(name => name.EndsWith("ssm_a", StringComparison.Ordinal), value => MathF.Log(-value)) });

    [Fact]
    public void AScaleThatIsNotANumber() => Fails("tensors with values that are not finite", Matrix, InMatrix(bytes => (bytes[34 * 100], bytes[34 * 100 + 1]) = (0x01, 0x7e)));

    [Fact]
    public void AHoleOfZeros() => Fails("matrices with holes", Matrix, InMatrix(bytes => bytes.AsSpan(5 * RowBytes, 60 * RowBytes).Clear()));

    [Fact]
    public void APieceThatRepeats() => Fails("matrices with repeated rows", Matrix, InMatrix(bytes =>
    {
        for (int row = 1; row < 16; row++)
            bytes.AsSpan(0, RowBytes).CopyTo(bytes.AsSpan(row * RowBytes));
    }));

    // Garbage: other bytes in the place of a few rows.
    [Fact]
    public void APieceOfOtherData() => Fails("matrices with rows far larger", Matrix, InMatrix(bytes =>
    {
        for (int block = 0; block < 64; block++)
            (bytes[34 * block], bytes[34 * block + 1]) = (0x00, 0x70);
    }));

    [Fact]
    public void AMatrixOfAnotherScale() => Fails("tensors whose size is not that of their kind", Matrix, InMatrix(bytes =>
    {
        for (int block = 0; block < bytes.Length / 34; block++)
        {
            var scale = BitConverter.ToHalf(bytes, 34 * block);
            BitConverter.TryWriteBytes(bytes.AsSpan(34 * block), (Half)(100 * (float)scale));
        }
    }));

    [Fact]
    public void AnEndOfTextThatIsOrdinaryText() => Fails("faults of the tokenizer", "end of text is token 65", new GgufRewrite { Key = Replace("tokenizer.ggml.eos_token_id", (writer, key) => writer.Add(key, 65u)) });

    [Fact]
    public void ATemplateCutShort() => Fails("faults of the chat template", "a question", new GgufRewrite { Key = Replace("tokenizer.chat_template", (writer, key) => writer.Add(key, File.ReadAllText(Path.Combine(GoodModel.Nano, "chat_template.jinja"))[..4000])) });

    [Fact]
    public void ATemplateThatForgetsTheMessages() => Fails("faults of the chat template", "the last message is not in the prompt", new GgufRewrite { Key = Replace("tokenizer.chat_template", (writer, key) => writer.Add(key, "<|im_start|>{{ messages[0].role }}<|im_end|>")) });

    [Fact]
    public void AnEpsilonOutOfRange() => Fails("metadata out of the usual range", "norm epsilon", new GgufRewrite { Key = Replace("qwen35.attention.layer_norm_rms_epsilon", (writer, key) => writer.Add(key, 0.5f)) });

    [Fact]
    public void ADownloadCutShort()
    {
        using (FileStream source = File.OpenRead(_good.Path), cut = File.Create(_path))
        {
            var bytes = new byte[source.Length * 2 / 3];
            source.ReadExactly(bytes);
            cut.Write(bytes);
        }

        var error = Assert.Throws<BadModelFileException>(() => Check(_path));
        Assert.Contains("incomplete", error.Message, StringComparison.Ordinal);
    }

    // Converted without moving the value heads: loads, runs, and every other check is content with it.
    [Fact]
    public void ValueHeadsInTheOtherOrder()
    {
        using (Checkpoint folder = Checkpoint.Open(GoodModel.Nano))
        {
            var order = new ValueHeadOrder(folder.Config);
            using Checkpoint good = Checkpoint.Open(_good.Path);
            Dictionary<string, TensorRole> roles = good.Tensors.ToDictionary(tensor => tensor.Name, tensor => tensor.Role!.Value);
            new GgufRewrite { Bytes = (tensor, bytes) => MovedBack(tensor, roles[tensor.Name], bytes, order) }.Write(_good.Path, _path);
        }

        List<VerificationResult> results = Run(_path, fileOnly: false), sound = Run(_good.Path, fileOnly: false);
        VerificationResult failed = Assert.Single(results, result => !result.Passed);
        Assert.Contains("value heads stand in the wrong order", failed.Quantity, StringComparison.Ordinal);
        Assert.True(failed.Value > ValueHeadEvidence.Bound);
        Assert.All(sound, result => Assert.True(result.Passed, $"{result.Quantity}: {result.Value} {result.Detail}"));
    }

    // Without training there is nothing to see, and nothing is claimed.
    [Theory]
    [InlineData("text-dense-tiny")]
    [InlineData("text-moe-tiny")]
    public void RandomWeightsGiveNoEvidence(string golden)
    {
        using Checkpoint checkpoint = Checkpoint.Open(Path.Combine(GoldenFolders.Goldens, golden));
        Assert.InRange(Math.Abs(ValueHeadEvidence.FromWeights(checkpoint, default).Score), 0, ValueHeadEvidence.Bound);
    }

    private void Fails(string quantity, string named, GgufRewrite rewrite)
    {
        rewrite.Write(_good.Path, _path);
        VerificationResult[] failed = [.. Check(_path).Where(result => !result.Passed)];
        Assert.Contains(failed, result => result.Quantity.StartsWith(quantity, StringComparison.Ordinal) && result.Detail.Contains(named, StringComparison.Ordinal));
    }

    private static List<VerificationResult> Check(string path) => ModelFileChecks.Run(path, "model", everyRow: false, threadCount: 1, null, default);

    private static List<VerificationResult> Run(string path, bool fileOnly) =>
        Assert.Single(VerificationTarget.Find([path])).Run(new VerificationOptions { FileOnly = fileOnly, ThreadCount = 1 }, null);

    private static GgufRewrite InMatrix(Action<byte[]> change) => new()
    {
        Bytes = (tensor, bytes) =>
        {
            if (tensor.Name == Matrix)
                change(bytes);
            return bytes;
        },
    };

    private static Func<GgufWriter, string, bool> Replace(string wanted, Action<GgufWriter, string> add) => (writer, key) =>
    {
        if (key != wanted)
            return false;
        add(writer, key);
        return true;
    };

    // Heads of 128 values are whole blocks, so rows, entries and column blocks move as bytes.
    private static byte[] MovedBack(GgufTensor tensor, TensorRole role, byte[] bytes, ValueHeadOrder order)
    {
        var moved = (byte[])bytes.Clone();
        if (role is TensorRole.LinearDecay or TensorRole.LinearDtBias)
        {
            for (int i = 0; i < tensor.ColumnCount; i++)
                bytes.AsSpan(4 * i, 4).CopyTo(moved.AsSpan(4 * order.SourceRow(TensorRole.LinearA, i)));
            return moved;
        }

        int rowBytes = bytes.Length / tensor.RowCount;
        for (int row = 0; row < tensor.RowCount; row++)
        {
            Span<byte> target = moved.AsSpan(order.SourceRow(role, row) * rowBytes, rowBytes);
            if (role != TensorRole.LinearOutput)
            {
                bytes.AsSpan(row * rowBytes, rowBytes).CopyTo(target);
                continue;
            }

            for (int column = 0; column < tensor.ColumnCount; column += 32)
                bytes.AsSpan(row * rowBytes + column / 32 * 34, 34).CopyTo(target[(order.SourceColumn(role, column) / 32 * 34)..]);
        }

        return moved;
    }

    // The embedded model as a Q8_0 file.
    public sealed class GoodModel : IDisposable
    {
        public GoodModel()
        {
            using Checkpoint checkpoint = Checkpoint.Open(Nano);
            GgufExport.Write(checkpoint, Path, WeightType.Q8_0);
        }

        public static string Nano { get; } = System.IO.Path.GetFullPath(System.IO.Path.Combine(GoldenFolders.Data, "..", "..", "models", "nano"));

        public string Path { get; } = System.IO.Path.Combine(System.IO.Path.GetTempPath(), $"qian-good-{Guid.NewGuid():n}.gguf");

        public void Dispose() => File.Delete(Path);
    }
}
