using Qian.Inference.Formats;
using Qian.Inference.Model;
using Qian.Inference.Tests.Formats;
using Qian.Inference.Verification;
using Qian.Kernels;

namespace Qian.Inference.Tests.Model;

// An adapter applied beside the weights is the adapter merged into them, whichever format either came from; and it touches
// nobody's rows but its own.
[Trait("Tier", "All")]
public sealed class AdapterTests
{
    private const double Tolerance = 1e-4;

    // The five projections that know the order of the value heads.
    public static TheoryData<int> OrderedRoles => [.. new[] { TensorRole.LinearQkv, TensorRole.LinearZ, TensorRole.LinearA, TensorRole.LinearB, TensorRole.LinearOutput }.Select(role => (int)role)];

    [Theory]
    [InlineData("text-dense-tiny")]
    [InlineData("text-moe-tiny")]
    [InlineData("mtp-tiny")]
    public void AppliedIsMergedInEveryPairOfFormats(string golden)
    {
        using var folder = new TempFolder();
        string source = ModelFolders.Named(golden), twin = folder.File("twin.gguf"), peft = folder.File("peft"), gguf = folder.File("adapter.gguf"), merged = folder.File("merged");
        Directory.CreateDirectory(merged);
        ModelConfig config;
        AdapterWeights adapter;
        using (Checkpoint checkpoint = Checkpoint.Open(source))
        {
            config = checkpoint.Config;
            adapter = AdapterSamples.Random(config, seed: 3);
            GgufExport.Write(checkpoint, twin, WeightType.F32);
            GgufExport.Write(checkpoint, folder.File("merged.gguf"), WeightType.F32, adapter: adapter);
        }

        PeftWriter.Write(adapter, config, peft);
        GgufAdapterWriter.Write(adapter, config, gguf);
        AdapterSamples.Merge(source, adapter, merged);
        bool mtp = config.MtpLayerCount > 0;
        int[] prompt = AdaptedModel.Prompt(70);
        float[] expected, unadapted;
        using (var model = new AdaptedModel(merged, mtp: mtp))
            expected = model.Run(null, prompt);
        using (var model = new AdaptedModel(source, mtp: mtp))
            unadapted = model.Run(null, prompt);
        Assert.True(Compare.MaxAbsolute(unadapted, expected) > 0.5, "the adapter should change the logits");
        using (var model = new AdaptedModel(folder.File("merged.gguf"), mtp: mtp))
            Assert.InRange(Compare.MaxAbsolute(model.Run(null, prompt), expected), 0, Tolerance);

        foreach (string path in (string[])[source, twin])
        {
            using var model = new AdaptedModel(path, mtp: mtp);
            foreach (string adapterPath in (string[])[peft, gguf])
                Assert.InRange(Compare.MaxAbsolute(model.Run(AdapterSamples.Read(adapterPath, model.Config), prompt), expected), 0, Tolerance);
        }
    }

    // What other tools do: the matrices are copied from format to format as they are.
    [Theory]
    [MemberData(nameof(OrderedRoles))]
    public void AnAdapterWhoseValueHeadsAreNotReorderedIsAnotherAdapter(int role)
    {
        using var folder = new TempFolder();
        string twin = folder.File("twin.gguf"), wrong = folder.File("wrong.gguf"), right = folder.File("right.gguf");
        ModelConfig config;
        using (Checkpoint checkpoint = Checkpoint.Open(ModelFolders.Dense))
        {
            config = checkpoint.Config;
            GgufExport.Write(checkpoint, twin, WeightType.F32);
        }

        AdapterWeights adapter = AdapterSamples.Random(config, seed: 5, keeps: (kept, _) => (int)kept == role);
        GgufAdapterWriter.Write(adapter, config, right);
        // Moved back before it is written, so that the file holds Hugging Face's order.
        GgufAdapterWriter.Write(adapter with { Targets = [.. adapter.Targets.Select(target => AdapterOrder.ToHuggingFace(config, target))] }, config, wrong);
        int[] prompt = AdaptedModel.Prompt(70);
        using var source = new AdaptedModel(ModelFolders.Dense);
        using var model = new AdaptedModel(twin);
        float[] expected = source.Run(adapter, prompt);
        Assert.InRange(Compare.MaxAbsolute(model.Run(AdapterSamples.Read(right, model.Config), prompt), expected), 0, Tolerance);
        Assert.True(Compare.MaxAbsolute(model.Run(AdapterSamples.Read(wrong, model.Config), prompt), expected) > 100 * Tolerance, "the order of the value heads should show");
    }

    // The number is the original implementation's (tests/data/adapters/README.md).
    [Fact]
    public void TheReferenceAdapterGivesTheReferenceLoss()
    {
        using GoldenTensors inputs = GoldenTensors.Open(Path.Combine(AdapterSamples.Reference, "inputs.safetensors"));
        int[] ids = inputs.Ids("input_ids");
        using var model = new AdaptedModel(ModelFolders.Dense);
        Assert.Equal(8.347259521484375, Loss(model.Run(null, ids), ids, model.Config.VocabularySize), 1e-4);
        AdapterWeights adapter = AdapterSamples.Read(AdapterSamples.Reference, model.Config);
        Assert.Equal(62, adapter.Targets.Count);
        Assert.Equal(8.27197551727295, Loss(model.Run(adapter, ids), ids, model.Config.VocabularySize), 1e-4);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void SequencesOfDifferentAdaptersAndOfNoneShareAPass(bool exact)
    {
        using var folder = new TempFolder();
        string path = folder.File("q8.gguf");
        using (Checkpoint checkpoint = Checkpoint.Open(ModelFolders.Dense))
            GgufExport.Write(checkpoint, path, WeightType.Q8_0);
        using var model = new AdaptedModel(path, exact);
        using LowRankAdapter first = model.Load(AdapterSamples.Random(model.Config, 1)), second = model.Load(AdapterSamples.Random(model.Config, 2, rank: 7));
        LowRankAdapter?[] adapters = [first, null, second, second, first];
        int[] lengths = [70, 3, 65, 1, 20];
        float[][] alone = new float[adapters.Length][], after = new float[adapters.Length][];
        for (int i = 0; i < adapters.Length; i++)
        {
            using SequenceState sequence = model.NewSequence(adapters[i]);
            model.Pass((sequence, AdaptedModel.Prompt(lengths[i], i)));
            alone[i] = model.Logits(lengths[i] - 1);
            model.Pass((sequence, [7]));
            after[i] = model.Next(sequence);
        }

        SequenceState[] sequences = [.. adapters.Select(model.NewSequence)];
        model.Pass([.. sequences.Select((sequence, i) => (sequence, AdaptedModel.Prompt(lengths[i], i)))]);
        int[] lastRows = [.. lengths.Select((_, i) => lengths.Take(i + 1).Sum() - 1)];
        Assert.Equal(alone.SelectMany(row => row), model.Logits(lastRows));
        model.Pass([.. sequences.Select(sequence => (sequence, new[] { 7 }))]);
        Assert.Equal(after.SelectMany(row => row), model.Next(sequences));
        // The head in another order than the pass.
        Assert.Equal(after.Reverse().SelectMany(row => row), model.Next([.. sequences.Reverse()]));
        Assert.NotEqual(alone[2], alone[3]);
        foreach (SequenceState sequence in sequences)
            sequence.Dispose();
    }

    [Fact]
    public void AForkKeepsItsAdapterAndItsMemory()
    {
        using var model = new AdaptedModel(ModelFolders.Dense);
        LowRankAdapter adapter = model.Load(AdapterSamples.Random(model.Config, 1));
        SequenceState sequence = model.NewSequence(adapter);
        model.Pass((sequence, AdaptedModel.Prompt(30)));
        SequenceState fork = sequence.Fork();
        Assert.Same(adapter, fork.Adapter);
        adapter.Release();
        model.Pass((sequence, [9]));
        float[] expected = model.Logits(0);
        sequence.Dispose();
        model.Pass((fork, [9]));
        Assert.Equal(expected, model.Logits(0));
        fork.Dispose();
        Assert.False(adapter.TryHold());
        Assert.Throws<ObjectDisposedException>(() => adapter.TryFind(0, TensorRole.LinearQkv, out _));
        Assert.Throws<ObjectDisposedException>(() => model.NewSequence(adapter));
    }

    [Fact]
    public void NothingIsAllocatedPerToken()
    {
        using var model = new AdaptedModel(ModelFolders.Moe, exact: false);
        using LowRankAdapter adapter = model.Load(AdapterSamples.Random(model.Config, 1));
        using SequenceState sequence = model.NewSequence(adapter), other = model.NewSequence();
        using NativeBuffer logits = NativeBuffer.AllocateFloats(2 * model.Config.VocabularySize);
        var batch = new ForwardBatch(8);
        LogitRow[] both = [new LogitRow(sequence, null), new LogitRow(other, null)];
        Assert.True(sequence.TryReserve(200) && other.TryReserve(200));
        for (int i = 0; i < 40; i++)
            Token();
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 40; i++)
            Token();
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);

        void Token()
        {
            batch.Clear();
            batch.Add(sequence, [5]);
            batch.Add(other, [6]);
            model.Network.Forward(batch);
            model.Network.NextLogits(both, logits.AllFloats);
        }
    }

    // Beside quantised weights the adapter stays float. In exact arithmetic that is the merged model of the decoded weights, to
    // rounding. Merging before quantising rounds the sum anew and is another model, about as far from the float one; and the tiny
    // model's random weights enlarge any rounding, so the distances are compared over several adapters.
    [Theory]
    [InlineData(WeightType.Q8_0)]
    [InlineData(WeightType.Q4_0)]
    public void BesideQuantisedWeightsItIsAsGoodAsMerged(WeightType type)
    {
        using var folder = new TempFolder();
        string quantised = folder.File("q.gguf"), merged = folder.File("merged.gguf"), both = folder.File("both.gguf");
        using Checkpoint source = Checkpoint.Open(ModelFolders.Dense);
        GgufExport.Write(source, quantised, type);
        using Checkpoint stored = Checkpoint.Open(quantised);
        using var model = new AdaptedModel(quantised);
        using var fast = new AdaptedModel(quantised, exact: false);
        using var original = new AdaptedModel(ModelFolders.Dense);
        int[] prompt = AdaptedModel.Prompt(70);
        double applied = 0, appliedFast = 0, requantised = 0;
        for (int seed = 0; seed < 3; seed++)
        {
            AdapterWeights adapter = AdapterSamples.Random(source.Config, seed);
            GgufExport.Write(stored, merged, WeightType.F32, adapter: adapter);
            GgufExport.Write(source, both, type, adapter: adapter);
            using var floats = new AdaptedModel(merged);
            using var rounded = new AdaptedModel(both);
            float[] truth = original.Run(adapter, prompt), logits = model.Run(adapter, prompt);
            Assert.InRange(Compare.RelativeL2(logits, floats.Run(null, prompt)), 0, 2e-5);
            applied += Deviation(logits, truth);
            appliedFast += Deviation(fast.Run(adapter, prompt), truth);
            requantised += Deviation(rounded.Run(null, prompt), truth);
        }

        Assert.InRange(applied / requantised, 0, 1.25);
        Assert.InRange(appliedFast / requantised, 0, 2);
    }

    private static double Deviation(float[] left, float[] right) => Math.Sqrt(left.Zip(right, (a, b) => (double)(a - b) * (a - b)).Average());

    // Mean cross-entropy of each next token.
    private static double Loss(float[] logits, int[] ids, int vocabularySize)
    {
        double sum = 0;
        for (int i = 0; i + 1 < ids.Length; i++)
        {
            float[] row = logits[(i * vocabularySize)..((i + 1) * vocabularySize)];
            double largest = row.Max();
            sum += largest + Math.Log(row.Sum(logit => Math.Exp(logit - largest))) - row[ids[i + 1]];
        }

        return sum / (ids.Length - 1);
    }
}
