using Qian.Inference.Model;
using Qian.Inference.Runtime;
using Qian.Kernels;

namespace Qian.Inference.Tests.Runtime;

// The MTP layer's keys and values keep in step with the text, however it came: read in passes, decoded, drafted, forked.
[Trait("Tier", "All")]
public sealed class MtpFollowTests(DraftModels models) : IClassFixture<DraftModels>
{
    private static readonly EngineOptions s_exact = new() { ExactArithmetic = true, KvType = KvType.F32, MaxBatchRows = 128 };

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(5)]
    [InlineData(15)]
    [InlineData(null)]
    public async Task EntriesAfterGenerationAreThoseOfAFreshRead(int? draftTokens)
    {
        using Engine engine = models.Load(options: s_exact);
        using var timeline = new Timeline(engine.Model.NewSequence());
        foreach (int length in new[] { 300, 1, 30 })
        {
            // A turn: read, generate, read on.
            timeline.Append(DraftModels.Prompt(length, length));
            await DraftModels.Generate(engine, timeline, DraftModels.Repetitive with { DraftTokens = draftTokens, MaxTokens = 45 });
        }

        AssertFresh(engine, timeline);
    }

    [Fact]
    public async Task AForkAndItsOriginalHaveEachTheirOwnEntries()
    {
        using Engine engine = models.Load(options: s_exact);
        using var original = new Timeline(engine.Model.NewSequence());
        // The fork is taken at a block's border, where the entry of the last token is still to be made on both sides.
        original.Append(DraftModels.Prompt(128, 1));
        await Read(engine, original);
        using Timeline fork = original.Fork();
        original.Append(DraftModels.Prompt(5, 2));
        fork.Append(DraftModels.Prompt(70, 3));
        await DraftModels.Generate(engine, original, DraftModels.Repetitive with { DraftTokens = 3 });
        await DraftModels.Generate(engine, fork, DraftModels.Repetitive with { DraftTokens = 8 });
        AssertFresh(engine, original);
        AssertFresh(engine, fork);
    }

    // Of a head that reads what it should, drafts are those of the reference: the golden's own, from the same prompt.
    [Fact]
    public async Task DraftsAreTheHeadsOwnChoice()
    {
        using Engine engine = models.Load(options: s_exact);
        using var timeline = new Timeline(engine.Model.NewSequence());
        timeline.Append(DraftModels.Prompt(75, 9));
        await Read(engine, timeline);
        Generation generation = engine.NewGeneration(timeline, new SamplingOptions { Temperature = 0, DraftTokens = 4, IgnoreEos = true }, CancellationToken.None);
        timeline.Append(17);
        using var drafter = new MtpDrafter(engine.Model.Network, VocabularyMask.All(engine.Config.VocabularySize));
        Assert.True(drafter.CanDraft(timeline.State));
        DraftSlot slot = generation.Drafts!;
        slot.Begin(timeline.AllTokens, 100, hasMtp: true);
        slot.Source = DraftSource.Mtp;
        slot.Count = 4;
        Assert.Equal(4, drafter.Draft([generation]).Steps);
        int[] first = slot.Tokens[..4];

        // By hand: every row of the head over the whole text, then its own normed row.
        Network network = engine.Model.Network;
        using SequenceState state = engine.Model.NewSequence();
        int[] tokens = [.. timeline.Tokens];
        Assert.True(state.TryReserve(96));
        var batch = new ForwardBatch(128);
        batch.Add(state, tokens.AsSpan(0, 75));
        network.Forward(batch);
        batch.Clear();
        batch.AddMtp(state, 0, tokens.AsSpan(1, 75));
        network.MtpForward(batch, network.Hidden);
        using NativeBuffer logits = NativeBuffer.AllocateFloats(engine.Config.VocabularySize);
        using NativeBuffer hidden = NativeBuffer.AllocateFloats(engine.Config.HiddenSize);
        for (int i = 0, row = 74; i < 4; i++, row = 0)
        {
            network.MtpLogits([row], logits.AllFloats);
            int best = Inference.Verification.Compare.ArgMax(logits.AllFloats.Span);
            Assert.Equal(best, first[i]);
            hidden.AllFloats.CopyFrom(network.MtpHidden.Slice((long)row * engine.Config.HiddenSize, engine.Config.HiddenSize));
            batch.Clear();
            batch.AddMtp(state, 75 + i, [best]);
            network.MtpForward(batch, hidden.AllFloats);
        }

        // Drafting once more from the same place, as after a pass that failed, changes nothing.
        slot.Count = 4;
        drafter.Draft([generation]);
        Assert.Equal(first, slot.Tokens[..4]);
    }

    [Fact]
    public async Task DecodingWithDraftsAllocatesNothing()
    {
        using Engine engine = models.Load();
        using var timeline = new Timeline(engine.Model.NewSequence());
        timeline.Append(DraftModels.Prompt(20, 1));
        await Read(engine, timeline);
        Generation generation = engine.NewGeneration(timeline, DraftModels.Repetitive with { DraftTokens = 3, MaxTokens = 1000 }, CancellationToken.None);
        using var speculator = new Speculator(engine.Model.Network, VocabularyMask.All(engine.Config.VocabularySize));
        using NativeBuffer logits = NativeBuffer.AllocateFloats((long)Network.LogitRows * engine.Config.VocabularySize);
        var sampler = new Sampler(new SamplingOptions { Temperature = 0 }, VocabularyMask.All(engine.Config.VocabularySize), 2048);
        var batch = new ForwardBatch(engine.Model.Network.MaxRows);
        var active = new List<Generation> { generation };
        var rows = new LogitRow[Network.LogitRows];
        var trial = new int[Network.MaxTrialRun];
        timeline.Append(3);
        int drafted = 0;
        for (int i = 0; i < 60; i++)
            Pass();
        Assert.True(timeline.State.TryReserve(1024));
        long before = GC.GetAllocatedBytesForCurrentThread();
        drafted = 0;
        for (int i = 0; i < 30; i++)
            Pass();
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
        Assert.InRange(drafted, 30, 90);

        // A pass as the scheduler drives it, without the channel that hands tokens out.
        void Pass()
        {
            speculator.Propose(active);
            DraftSlot slot = generation.Drafts!;
            int count = slot.Count;
            drafted += count;
            trial[0] = timeline.PendingTokens[0];
            slot.Tokens.AsSpan(0, count).CopyTo(trial.AsSpan(1));
            Assert.True(timeline.State.TryReserve(timeline.State.TokenCount + 1 + count));
            batch.Clear();
            batch.AddTrial(timeline.State, trial.AsSpan(0, 1 + count));
            engine.Model.Network.Forward(batch);
            for (int i = 0; i <= count; i++)
                rows[i] = new LogitRow(timeline.State, i);
            engine.Model.Network.NextLogits(rows.AsSpan(0, 1 + count), logits.AllFloats);
            int picked = 0;
            bool goesOn = true;
            while (goesOn && picked <= count)
            {
                int token = sampler.Sample(logits.Span<float>((long)picked * engine.Config.VocabularySize * sizeof(float), engine.Config.VocabularySize));
                sampler.Accept(token);
                timeline.Append(token);
                picked++;
                goesOn = slot.Take(token);
            }

            engine.Model.Network.Commit(batch.Segments[0], picked);
            speculator.Keep(batch.Segments[0], picked);
            speculator.Observe(1, batch.RowCount, 0.001);
        }
    }

    private static async Task Read(Engine engine, Timeline timeline)
    {
        var generation = new Generation(timeline, CancellationToken.None);
        engine.Submit(generation);
        await DraftModels.Collect(generation.Output.Reader.ReadAllAsync());
    }

    private static void AssertFresh(Engine engine, Timeline timeline)
    {
        using var fresh = new Timeline(engine.Model.NewSequence());
        fresh.Append([.. timeline.Tokens]);
        Read(engine, fresh).GetAwaiter().GetResult();
        int count = timeline.State.MtpCount;
        Assert.InRange(timeline.State.TokenCount - count, 0, 32);
        Assert.Equal(fresh.State.TokenCount - 1, fresh.State.MtpCount);
        (float[] keys, float[] values) = Entries(engine, timeline.State, count);
        (float[] freshKeys, float[] freshValues) = Entries(engine, fresh.State, count);
        Assert.Contains(keys, value => MathF.Abs(value) > 0.1f);
        for (int i = 0; i < keys.Length; i++)
        {
            Assert.Equal(freshKeys[i], keys[i], 2e-3f);
            Assert.Equal(freshValues[i], values[i], 2e-3f);
        }
    }

    private static (float[] Keys, float[] Values) Entries(Engine engine, SequenceState state, int count)
    {
        KvShape shape = engine.Model.Pool.Shape;
        long floats = (long)count * shape.KvHeads * shape.HeadDim;
        using NativeBuffer keys = NativeBuffer.AllocateFloats(floats), values = NativeBuffer.AllocateFloats(floats);
        KvCache.Read(shape, state.Blocks, engine.Config.FullAttentionLayerCount, 0, count, keys.AllFloats, values.AllFloats);
        return (keys.AllFloats.Span.ToArray(), values.AllFloats.Span.ToArray());
    }
}
