using Qian.Inference.Formats;
using Qian.Inference.Model;
using Qian.Inference.Verification;
using Qian.Kernels;

namespace Qian.Inference.Tests.Verification;

// Every golden folder of the repository, through the same code as `qian verify`. Run on every tier.
[Trait("Tier", "All")]
public sealed class GoldenTests
{
    public static TheoryData<string> Folders()
    {
        var data = new TheoryData<string>();
        foreach (VerificationTarget target in Targets())
            data.Add(Path.GetFileName(target.Path));
        return data;
    }

    // Gradients are the training project's to verify.
    private static List<VerificationTarget> Targets() => [.. VerificationTarget.Find([GoldenFolders.Goldens]).Where(target => target.Kind != TargetKind.NotCovered)];

    [Theory]
    [MemberData(nameof(Folders))]
    public void EverythingLiesWithinTheFoldersBounds(string folder)
    {
        VerificationTarget target = Assert.Single(VerificationTarget.Find([Path.Combine(GoldenFolders.Goldens, folder)]));
        List<VerificationResult> results = target.Run(new VerificationOptions { Kv = KvType.F32 }, progress: null);
        Assert.NotEmpty(results);
        Assert.All(results, result => Assert.True(result.Passed, $"{result.Subject}: {result.Quantity}: {result.Value:g3} exceeds {result.Bound:g3} {result.Detail}"));
    }

    [Fact]
    public void EveryKindOfGoldenIsThere()
    {
        TargetKind[] kinds = [.. Targets().Select(target => target.Kind).Distinct().Order()];
        Assert.Equal([TargetKind.ModelGoldens, TargetKind.GgufGoldens, TargetKind.OpGoldens, TargetKind.BlockGoldens], kinds);
    }

    [Theory]
    [InlineData(KvType.F16)]
    [InlineData(KvType.Q8_0)]
    public void InvariantsHoldOnAQuantisedFile(KvType kv)
    {
        List<VerificationResult> results = Invariants.Run(Path.Combine(GoldenFolders.Goldens, "gguf-tiny", "Q4_K_M.gguf"), "gguf-tiny", new VerificationOptions { Kv = kv });
        Assert.All(results, result => Assert.True(result.Passed, $"{result.Quantity}: {result.Value:g3} exceeds {result.Bound:g3}"));
    }

    [Theory]
    [InlineData("text-dense-tiny")]
    [InlineData("text-moe-tiny")]
    public void InvariantsHoldOnAFloatFolder(string folder)
    {
        List<VerificationResult> results = Invariants.Run(Path.Combine(GoldenFolders.Goldens, folder), folder, new VerificationOptions());
        Assert.All(results, result => Assert.True(result.Passed, $"{result.Quantity}: {result.Value:g3} exceeds {result.Bound:g3}"));
    }

    // Two halves of the layers, as two machines would hold them, hidden rows handed over: the same bits as in one piece.
    [Fact]
    public void ALayerRangeAfterAnotherIsTheWholeNetwork()
    {
        string folder = GoldenFolders.TextDenseTiny;
        int[] prompt = [.. Enumerable.Range(0, 90).Select(i => i * 7 % 500)];
        ModelConfig config;
        using (Checkpoint probe = Checkpoint.Open(folder))
            config = probe.Config;
        int middle = config.LayerCount / 2;
        float[] whole = RunRange(new LayerRange(0, config.LayerCount, true, true), prompt, null);
        float[] hidden = RunRange(new LayerRange(0, middle, true, false), prompt, null);
        Assert.Equal(whole, RunRange(new LayerRange(middle, config.LayerCount, false, true), prompt, hidden));
    }

    // Hidden rows of a range over token ids, or over hidden rows of an earlier range.
    private static float[] RunRange(LayerRange range, int[] prompt, float[]? rows)
    {
        using Checkpoint checkpoint = Checkpoint.Open(GoldenFolders.TextDenseTiny);
        using var team = new ThreadTeam(2);
        using NetworkWeights weights = WeightLoader.Load(checkpoint, range, new LoadPolicy(true, null, false), team);
        KvShape kv = MemoryEstimate.CacheShape(checkpoint.Config, range, mtp: false);
        using var network = new Network(weights, kv, null, 128, 128, exact: true, team);
        using var pool = new KvPool(kv, KvType.F32, 8);
        using var sequence = new SequenceState(StateShape.Of(checkpoint.Config, range), pool);
        Assert.True(sequence.TryReserve(prompt.Length));
        var batch = new ForwardBatch(128);
        int width = checkpoint.Config.HiddenSize;
        using NativeBuffer input = NativeBuffer.AllocateFloats((long)prompt.Length * width);
        if (rows is null)
        {
            batch.Add(sequence, prompt);
        }
        else
        {
            rows.CopyTo(input.AllFloats.Span);
            int[] positions = [.. Enumerable.Range(0, prompt.Length)];
            batch.AddEmbeddings(sequence, input.AllFloats, [.. positions, .. positions, .. positions]);
        }

        network.Forward(batch);
        return network.Hidden.Slice(0, (long)prompt.Length * width).Span.ToArray();
    }
}
