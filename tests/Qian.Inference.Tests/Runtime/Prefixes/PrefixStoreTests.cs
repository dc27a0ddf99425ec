using Qian.Inference.Formats;
using Qian.Inference.Runtime;
using Qian.Kernels;

namespace Qian.Inference.Tests.Runtime.Prefixes;

// What the store gives back is what it was given, to the bit, and it takes no more than it may.
[Trait("Tier", "All")]
public sealed class PrefixStoreTests(DraftModels models) : IClassFixture<DraftModels>
{
    private static readonly SamplingOptions s_greedy = SamplingOptions.Greedy with { MaxTokens = 12, IgnoreEos = true };

    private Engine Load(long budget, KvType kvType = KvType.F16, Speculation speculation = Speculation.Auto) =>
        models.Load(mtp: true, new EngineOptions { PrefixCacheBytes = budget, KvType = kvType, Speculation = speculation, MaxBatchRows = 64, ThreadCount = 1 });

    private static async Task<(int[] Ids, PrefixUse Use)> Run(Engine engine, int[] prompt, SamplingOptions? options = null)
    {
        using Session session = engine.NewSession();
        session.Append(prompt);
        var ids = new List<int>();
        await foreach (GeneratedToken token in session.GenerateAsync(options ?? s_greedy))
            ids.Add(token.Id);
        return ([.. ids], session.PrefixUse);
    }

    [Theory]
    [InlineData(KvType.F16, Speculation.Auto)]
    [InlineData(KvType.Q8_0, Speculation.Auto)]
    [InlineData(KvType.F16, Speculation.Off)]
    [InlineData(KvType.Q8_0, Speculation.Off)]
    public async Task AHitGivesWhatAColdRunGives(KvType kvType, Speculation speculation)
    {
        using Engine cold = Load(0, kvType, speculation), warm = Load(64 << 20, kvType, speculation);
        int[] prompt = DraftModels.Prompt(700, 3);
        int[] expected = (await Run(cold, prompt)).Ids;
        (int[] first, PrefixUse unknown) = await Run(warm, prompt);
        Assert.Equal((0, PrefixMissReason.Unknown), (unknown.CachedCount, unknown.Reason));
        Assert.Equal(expected, first);

        // The same again; what the first one wrote and more; the same with another end.
        (int[] again, PrefixUse whole) = await Run(warm, prompt);
        Assert.Equal((700, PrefixMissReason.None), (whole.CachedCount, whole.Reason));
        Assert.Equal(expected, again);
        int[] longer = [.. prompt, .. expected, .. DraftModels.Prompt(90, 4)];
        (int[] continued, PrefixUse use) = await Run(warm, longer);
        Assert.Equal(711, use.CachedCount);
        Assert.Equal((await Run(cold, longer)).Ids, continued);
        int[] other = [.. prompt.AsSpan(0, 650), .. DraftModels.Prompt(40, 5)];
        (int[] diverged, use) = await Run(warm, other);
        Assert.Equal((PrefixMissReason.Diverged, 650), (use.Reason, use.TokenIndex));
        Assert.InRange(use.CachedCount, 256, 650);
        Assert.Equal((await Run(cold, other)).Ids, diverged);
    }

    [Fact]
    public async Task TheBudgetHoldsAndWhatIsUsedStays()
    {
        using Engine probe = Load(0);
        long state = probe.Memory.SequenceStateBytes, block = probe.Model.Pool.BlockBytes;
        long budget = 6 * (state + 4 * block);
        using Engine engine = Load(budget);
        int[] often = DraftModels.Prompt(150, 1);
        await Run(engine, often);
        for (int i = 2; i < 30; i++)
        {
            await Run(engine, DraftModels.Prompt(100 + i, i));
            Assert.Equal(150, (await Run(engine, often)).Use.CachedCount);
            Assert.InRange(engine.Prefixes.Size.Bytes, 1, budget);
        }

        Assert.InRange(engine.Prefixes.Size.Count, 4, 30);
        Assert.Equal(0, (await Run(engine, DraftModels.Prompt(102, 2))).Use.CachedCount);
        while (engine.Prefixes.TryEvict())
        {
        }

        Assert.Equal((0, 0L), engine.Prefixes.Size);
        Assert.Equal(0, engine.Model.Pool.UsedCount);
        Assert.Equal(engine.Model.Pool.MaxBlocks, engine.Model.Pool.FreeCount);
    }

    [Fact]
    public async Task TheSamePromptAtTheSameTimeIsReadOnce()
    {
        using Engine engine = Load(64 << 20);
        int[] prompt = DraftModels.Prompt(1500, 8);
        using Engine cold = Load(0);
        int[] expected = (await Run(cold, prompt)).Ids;
        (int[] Ids, PrefixUse Use)[] runs = await Task.WhenAll(Enumerable.Range(0, 6).Select(i => Task.Run(() => Run(engine, [.. prompt, i]))));
        // One reads; who begins after it was done with the common part has at least that.
        Assert.Equal(5, runs.Count(run => run.Use.CachedCount >= 1000));
        Assert.Equal(expected, (await Run(engine, prompt)).Ids);
    }

    [Fact]
    public async Task AnUnloadedAdapterLeavesNothing()
    {
        using var folder = new TempFolder();
        using Engine engine = Load(64 << 20);
        await Run(engine, DraftModels.Prompt(80, 1));
        int plain = engine.Prefixes.Size.Count;
        PeftWriter.Write(AdapterSamples.Random(engine.Config, 1), engine.Config, folder.File("adapter"));
        Adapter adapter = engine.LoadAdapter(folder.File("adapter"));
        int[] prompt = DraftModels.Prompt(80, 1);
        for (int i = 0; i < 2; i++)
        {
            using Session session = engine.NewSession(adapter);
            session.Append(prompt);
            await session.PrefillAsync();
            // Another adapter's states are not its own.
            Assert.Equal(i == 0 ? 0 : 80, session.PrefixUse.CachedCount);
        }

        Assert.True(engine.Prefixes.Size.Count > plain);
        adapter.Dispose();
        Assert.Equal(plain, engine.Prefixes.Size.Count);
    }

    [Fact]
    public void AVolatileLineIsNamed()
    {
        using Engine engine = Load(0);
        PrefixUse Use(string before, string now, string known) => engine.Describe(
            new PrefixMatch(PrefixMissReason.Diverged, 40) { Before = engine.Tokenizer.Encode(before), Now = engine.Tokenizer.Encode(now), Known = engine.Tokenizer.Encode(known) }, 0);
        PrefixUse date = Use("You are an agent.\nToday's date: 2026-11-2", "2\nBe brief.", "1\nBe brief.");
        Assert.Equal("Today's date", date.VolatileLine);
        Assert.Contains("⟨2\\nBe brief.⟩ was ⟨1\\nBe brief.⟩", date.Around, StringComparison.Ordinal);
        Assert.Equal("x-anthropic-billing-header", Use("x-anthropic-billing-header: cc_version=1; cch=", "a1;", "b2;").VolatileLine);
        Assert.Null(Use("Write a function that ", "adds", "multiplies").VolatileLine);
    }
}
