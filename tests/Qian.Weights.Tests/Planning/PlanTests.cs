using Qian.Inference;
using Qian.Inference.Formats;
using Qian.Inference.Measurement;
using Qian.Inference.Model;
using Qian.Kernels;

namespace Qian.Weights.Tests.Planning;

public sealed class PlanTests : IDisposable
{
    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    // What is planned without a file is what the engine adds up for the file, class by class, to the byte.
    [Theory]
    [InlineData("tiny", "Q4_K_M", false)]
    [InlineData("tiny", "Q2_K", true)]
    [InlineData("tiny", "BF16", true)]
    [InlineData("tiny-moe", "Q4_K_M", true)]
    [InlineData("tiny-moe", "Q8_0", false)]
    public void AShapeTakesWhatItsFileTakes(string shape, string mix, bool mtp)
    {
        string path = SynthModels.Write(_folder, "m.gguf", shape, mix, withMtp: mtp);
        using Checkpoint file = Checkpoint.Open(path);
        using var planned = new ShapeCheckpoint(file.Config, QuantMix.Find(mix));
        foreach (KvType kv in (KvType[])[KvType.F16, KvType.Q8_0])
        {
            var options = new EngineOptions { KvType = kv, LoadMtp = mtp, MemoryLimitBytes = 1 << 30 };
            MemoryPlan wanted = MemoryEstimate.For(file, options, LayerRange.All(file.Config));
            Assert.Equal(wanted, MemoryEstimate.For(planned, options, LayerRange.All(planned.Config)));
            PassCost one = PassCost.Of(file, options, wanted.KvBytesPerToken), other = PassCost.Of(planned, options, wanted.KvBytesPerToken);
            Assert.Equal((one.DecodeBytes(3, 100), one.PrefillMacs(7)), (other.DecodeBytes(3, 100), other.PrefillMacs(7)));
        }

        Assert.Equal(file.WeightBytes, planned.WeightBytes);
    }

    [Fact]
    public void ThePlanIsTheLoadedEnginesOwn()
    {
        string path = SynthModels.Write(_folder, "m.gguf", "tiny", "Q4_K_M", withMtp: true);
        using Engine engine = Engine.Load(path, new EngineOptions { ContextLength = 512, ThreadCount = 1, LoadMtp = true, KvType = KvType.Q8_0 });
        using Checkpoint file = Checkpoint.Open(path);
        ModelPlan plan = ModelPlan.Of(file, new PlanRequest { ContextLength = 512, ParallelCount = 3, Kv = KvType.Q8_0, WithMtp = true, CheckpointCount = 2 });
        MemoryPlan memory = engine.Memory;
        Assert.Equal(memory.FixedBytes(3) + 3 * 512 * memory.KvBytesPerToken + 6 * memory.SequenceStateBytes, plan.TotalBytes);
        Assert.Equal((3 * memory.SequenceStateBytes, 6 * memory.SequenceStateBytes, 3 * 512 * memory.KvBytesPerToken), (plan.StateBytes, plan.CheckpointBytes, plan.KvBytes));
        Assert.Equal(memory.OwnedWeightBytes + memory.MappedWeightBytes + memory.ScratchBytes, plan.WeightBytes + plan.MtpBytes + plan.ScratchBytes);
        Assert.True(plan.MtpBytes > 0);
        // What the accounting says is what is there: the matrices that were packed, and the state of a sequence.
        Assert.Equal(memory.OwnedWeightBytes, Packed(engine.Model.Weights));
        using SequenceState sequence = engine.Model.NewSequence();
        Assert.Equal(memory.SequenceStateBytes, 4 * (StateShape.Of(file.Config, LayerRange.All(file.Config)).LayerFloats * 3 + sequence.LastHidden.Length * (1 + sequence.MtpTailCapacity)));
    }

    [Fact]
    public void AnAdapterCountsAsItIsLoaded()
    {
        using var shape = new ShapeCheckpoint(SynthShape.Find("tiny").ToConfig(null, false, 512), QuantMix.Find("Q8_0"));
        var adapter = new AdapterWeights { Name = "a", Targets = [new AdapterTarget(TensorRole.FfnUp, 1, 3, 6, new float[3 * 256], new float[768 * 3])] };
        using var loaded = new LowRankAdapter(adapter, shape.Config, new EngineOptions().MaxBatchRows);
        var request = new PlanRequest { ContextLength = 64, Adapters = [adapter, adapter] };
        Assert.Equal(2 * loaded.Bytes, ModelPlan.Of(shape, request).AdapterBytes);
    }

    [Fact]
    public void ItFitsToTheByteAndTheAdviceHolds()
    {
        using var shape = new ShapeCheckpoint(SynthShape.Find("qwen3.6-27b").ToConfig(null, false, 248320), QuantMix.Find("Q4_K_M"));
        var request = new PlanRequest { ContextLength = 65536, ParallelCount = 2 };
        ModelPlan plan = ModelPlan.Of(shape, request);
        Assert.True(plan.Fits(Of(plan.TotalBytes)));
        Machine small = Of(plan.TotalBytes - 1);
        Assert.False(plan.Fits(small));
        int context = plan.LargestContext(small);
        Assert.Equal(65536 - 64, context);
        Assert.True(ModelPlan.Of(shape, request with { ContextLength = context }).Fits(small));
        List<string> advice = PlanAdvice.For(shape, request, small);
        Assert.Equal(["--context 65472", "--kv q8_0", "--parallel 1"], advice.Take(3));
        Assert.StartsWith("the IQ4_XS file", advice[3], StringComparison.Ordinal);

        // Where nothing alone is enough, all of it together; where that is not, the truth.
        Assert.StartsWith("all of these: the Q3_K_M file", Assert.Single(PlanAdvice.For(shape, request with { ContextLength = 262144, ParallelCount = 8 }, Of(14L << 30))), StringComparison.Ordinal);
        Assert.StartsWith("a smaller model", Assert.Single(PlanAdvice.For(shape, request, Of(4L << 30))), StringComparison.Ordinal);
    }

    // 27B, Q4_K_M: 15.4 GiB of tensors of which the embedding stays in the file; 16 attention layers of 4 KiB a token.
    [Fact]
    public void The27BTakesWhatIsKnown()
    {
        using var shape = new ShapeCheckpoint(SynthShape.Find("qwen3.6-27b").ToConfig(null, false, 248320), QuantMix.Find("Q4_K_M"));
        ModelPlan plan = ModelPlan.Of(shape, new PlanRequest { ContextLength = 32768 });
        Assert.Equal(32768L * 16 * 2 * 4 * 256 * 2, plan.KvBytes);
        Assert.Equal(48L * (48 * 128 * 128 + 3 * 10240) * 4 + 5120 * 4, plan.StateBytes);
        Assert.InRange(plan.WeightBytes / (double)(1L << 30), 14.5, 15.5);
    }

    [Fact]
    public void RatesFollowTheMachine()
    {
        using var shape = new ShapeCheckpoint(SynthShape.Find("qwen3.6-27b").ToConfig(null, false, 248320), QuantMix.Find("Q4_K_M"));
        ModelPlan plan = ModelPlan.Of(shape, new PlanRequest { ContextLength = 4096 });
        Machine machine = Of(64L << 30);
        double rate = plan.DecodeRate(machine, 0);
        PassCost cost = PassCost.Of(shape, new EngineOptions(), plan.Memory.KvBytesPerToken);
        Assert.Equal(100e9 * 0.5 / cost.DecodeBytes(1, 0), rate, 6);
        Assert.Equal(2 * rate, plan.DecodeRate(machine with { ReadGigabytesPerSecond = 200 }, 0), 6);
        Assert.True(plan.DecodeRate(machine, 4096) < rate);
        Assert.True(plan.DecodeRate(machine with { ProductGmacsPerSecond = 400 }, 0) < rate);
        Assert.Null(plan.PrefillRate(machine, 512));
        // Bound by the products: as many tokens as they allow, and not more.
        double prefill = plan.PrefillRate(machine with { ProductGmacsPerSecond = 400, ProductShare = 0.5 }, 512)!.Value;
        Assert.InRange(prefill, 0.95 * 200e9 * 512 / cost.PrefillMacs(512), 200e9 * 512 / cost.PrefillMacs(512));
    }

    // Runs of SPEED.md of 2026-11-22: their ceilings in, their rates out. Kernels have changed since the first, which decoded at 80 % of reading.
    [Fact]
    public void ThePlanOfThe27BAgreesWithWhatWasMeasured()
    {
        using var shape = new ShapeCheckpoint(SynthShape.Find("qwen3.6-27b").ToConfig(null, false, 248320), QuantMix.Find("Q4_K_M"));
        ModelPlan plan = ModelPlan.Of(shape, new PlanRequest { ContextLength = 4096 });
        Machine machine = Of(20L << 30) with { ReadGigabytesPerSecond = 45.4, ReadShare = Machine.MeasuredReadShare, ProductGmacsPerSecond = 978, ProductShare = Machine.ProductShareOf("vpdpbusd, 512 bits") };
        Agrees(2.59, plan.DecodeRate(machine, 0));
        Agrees(2.15, plan.DecodeRate(machine, 32768));
        Agrees(22.96, plan.PrefillRate(machine, 128)!.Value);
        Agrees(22.74, plan.PrefillRate(machine, 512)!.Value);
        Agrees(21.7, plan.PrefillRate(machine with { ProductGmacsPerSecond = 958 }, 128)!.Value);
        Agrees(2.66, plan.DecodeRate(machine with { ReadGigabytesPerSecond = 46.9 }, 0));

        static void Agrees(double measured, double planned) => Assert.InRange(planned, measured * 0.85, measured * 1.15);
    }

    [Fact]
    public void PresetsAreSoundAndNameTheirSources()
    {
        Assert.InRange(Machine.Presets.Count, 10, 100);
        Assert.Equal(Machine.Presets.Count, Machine.Presets.Select(preset => preset.Name).Distinct(StringComparer.OrdinalIgnoreCase).Count());
        Assert.All(Machine.Presets, preset =>
        {
            Assert.True(preset.Source.Length > 20 && preset.Title.Length > 0, preset.Name);
            Assert.Contains(preset.Kind, (string[])["cpu", "gpu", "unified"]);
            Assert.Same(preset, Machine.Find(preset.Name.ToUpperInvariant(), 1, 1));
        });
        Assert.Equal(1008, Machine.Find("rtx-4090", 1, 1).ReadGigabytesPerSecond);
    }

    [Fact]
    public void AFileOfAMachineIsReadStrictly()
    {
        string path = _folder.File("m.json");
        const string good = """{"name":"m","title":"M","kind":"cpu","memory_gib":16,"usable_share":0.5,"read_gb_per_s":100,"read_share":0.9,"source":"me","int8_tops":2}""";
        File.WriteAllText(path, good);
        Machine machine = Machine.Find(path, 1, 1);
        Assert.Equal((8L << 30, 100.0, 1000.0), (machine.UsableBytes, machine.ReadGigabytesPerSecond, machine.ProductGmacsPerSecond));
        foreach ((string bad, string named) in (ReadOnlySpan<(string, string)>)
        [
            (good.Replace("\"memory_gib\":16", "\"memory_gib\":-1", StringComparison.Ordinal), "memory_gib"), (good.Replace("read_share", "read_part", StringComparison.Ordinal), "read_part"),
            (good.Replace("\"source\":\"me\",", "", StringComparison.Ordinal), "source"), ("[1]", "m.json"), ("{", "m.json"), ("null", "null"),
        ])
        {
            File.WriteAllText(path, bad);
            Assert.Contains(named, Assert.Throws<BadRequestException>(() => Machine.Find(path, 1, 1)).Message, StringComparison.Ordinal);
        }

        Assert.Contains("rtx-4090", Assert.Throws<BadRequestException>(() => Machine.Find("no-such", 1, 1)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void ThisMachineIsMeasured()
    {
        Machine machine = Machine.Find("auto", 1, 1L << 30);
        Assert.Equal(1L << 30, machine.UsableBytes);
        Assert.True(machine.ReadGigabytesPerSecond > 0 && machine.ProductGmacsPerSecond > 0);
    }

    private static Machine Of(long usableBytes) => new() { Name = "m", Title = "M", Kind = "cpu", UsableBytes = usableBytes, ReadGigabytesPerSecond = 100, ReadShare = 0.5, Source = "made up" };

    private static long Packed(NetworkWeights weights)
    {
        var matrices = new List<WeightMatrix> { weights.Head!, weights.Mtp!.Projection };
        foreach (LayerWeights layer in (LayerWeights[])[.. weights.Layers, weights.Mtp.Layer])
        {
            matrices.AddRange(layer.Attention is { } a ? [a.Q, a.K, a.V, a.Output] : [layer.DeltaNet!.Qkv, layer.DeltaNet.Z, layer.DeltaNet.A, layer.DeltaNet.B, layer.DeltaNet.Output]);
            matrices.AddRange([layer.Mlp!.Gate, layer.Mlp.Up, layer.Mlp.Down]);
        }

        return matrices.Sum(matrix => WeightMatrix.PackedBytes(matrix.Type, matrix.RowCount, matrix.ColumnCount));
    }
}
