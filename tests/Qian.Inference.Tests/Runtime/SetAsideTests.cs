using Qian.Inference.Runtime;

namespace Qian.Inference.Tests.Runtime;

// What happens when memory for keys and values is short, and what is free when requests are gone.
[Trait("Tier", "All")]
public sealed class SetAsideTests(DraftModels models) : IClassFixture<DraftModels>
{
    private static readonly SamplingOptions s_greedy = SamplingOptions.Greedy with { MaxTokens = 200, IgnoreEos = true };

    // One context of 1024 tokens fits, and 64 tokens more.
    private Engine LoadTight(long prefixBytes = 0, bool mtp = true)
    {
        var options = new EngineOptions { ContextLength = 1024, MaxBatchRows = 64, ThreadCount = 1, PrefixCacheBytes = prefixBytes };
        using Engine probe = models.Load(mtp, options);
        return models.Load(mtp, options with { MemoryLimitBytes = probe.Memory.FixedBytes(1) + 1088 * probe.Memory.KvBytesPerToken });
    }

    private static async Task<int[]> Run(Engine engine, int[] prompt, SamplingOptions options, CancellationToken cancellation = default)
    {
        using Session session = engine.NewSession();
        session.Append(prompt);
        var ids = new List<int>();
        await foreach (GeneratedToken token in session.GenerateAsync(options, cancellation))
            ids.Add(token.Id);
        return [.. ids];
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1 << 20)]
    public async Task RequestsThatDoNotFitTogetherAllEndAsTheyWouldAlone(int prefixBytes)
    {
        using Engine engine = LoadTight(prefixBytes);
        using Engine roomy = models.Load();
        int[][] prompts = [.. Enumerable.Range(0, 5).Select(i => DraftModels.Prompt(300 + 20 * i, i))];
        var alone = new List<int[]>();
        foreach (int[] prompt in prompts)
            alone.Add(await Run(roomy, prompt, s_greedy));
        int[][] together = await Task.WhenAll(prompts.Select(prompt => Task.Run(() => Run(engine, prompt, s_greedy))));
        Assert.Equal(alone, together);
        Assert.True(engine.SetAsideCount > 0);
        while (engine.Prefixes.TryEvict())
        {
        }

        Assert.Equal(0, engine.Model.Pool.UsedCount);
    }

    [Fact]
    public async Task ACancelledRequestIsGoneWithinAStep()
    {
        using Engine engine = LoadTight();
        using var cancel = new CancellationTokenSource();
        int step = 0, usedCount = 0;
        Session[] sessions = [.. Enumerable.Range(0, 3).Select(_ => engine.NewSession())];
        Task[] running = [.. sessions.Select((session, i) => Task.Run(async () =>
        {
            session.Append(DraftModels.Prompt(250, i));
            await foreach (GeneratedToken _ in session.GenerateAsync(s_greedy with { MaxTokens = 700 }, cancel.Token))
            {
                if (Interlocked.Increment(ref step) != 20)
                    continue;
                usedCount = engine.Model.Pool.UsedCount;
                cancel.Cancel();
            }
        }))];
        foreach (Task task in running)
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => task);
        Assert.InRange(usedCount, 4, 17);
        foreach (Session session in sessions)
            session.Dispose();
        Assert.Equal(0, engine.Model.Pool.UsedCount);
        Assert.Equal(17, engine.Model.Pool.FreeCount);
    }

    [Fact]
    public async Task IdleSessionsGiveWayAndGoOnAsIfNothingHadBeen()
    {
        using Engine engine = LoadTight(), roomy = models.Load();
        int[] text = DraftModels.Prompt(600, 1);
        using Session idle = engine.NewSession();
        idle.Append(text);
        await idle.PrefillAsync();
        int[] other = DraftModels.Prompt(700, 2);
        Assert.Equal(await Run(roomy, other, s_greedy), await Run(engine, other, s_greedy));
        Assert.Equal((0, 600), (idle.ComputedCount, idle.TokenCount));
        using Session fork = idle.Fork();
        var ids = new List<int>();
        await foreach (GeneratedToken token in fork.GenerateAsync(s_greedy))
            ids.Add(token.Id);
        Assert.Equal(await Run(roomy, text, s_greedy), ids);
    }

    [Fact]
    public async Task AReplyThatCirclesEnds()
    {
        using Engine engine = models.Load();
        int[] prompt = DraftModels.Prompt(20, 1);
        int id = 70;
        // One token that is always the most likely.
        SamplingOptions stuck = SamplingOptions.Greedy with { LogitBias = new Dictionary<int, float> { [id] = 1e6f }, MaxTokens = 500 };
        using Session session = engine.NewSession();
        session.Append(prompt);
        GeneratedToken last = default;
        await foreach (GeneratedToken token in session.GenerateAsync(stuck))
            last = token;
        Assert.Equal(FinishReason.Loop, last.Finish);
        Assert.Equal(prompt.Length + 384, session.TokenCount);
        Assert.Equal(500, (await Run(engine, prompt, stuck with { LoopGuard = false })).Length);
        Assert.Equal(500, (await Run(engine, prompt, stuck with { IgnoreEos = true })).Length);
    }

    [Fact]
    public async Task ThinkingThatCirclesIsClosed()
    {
        using Engine engine = models.Load();
        using var chat = new ChatSession(engine);
        SamplingOptions stuck = SamplingOptions.Greedy with { LogitBias = new Dictionary<int, float> { [70] = 1e6f }, MaxTokens = 3000 };
        ChatUsage? usage = null;
        FinishReason? finish = null;
        await foreach (ChatDelta delta in chat.SendAsync("Hello", stuck))
            (usage, finish) = (delta.Usage, delta.Finish);
        Assert.Equal(FinishReason.Loop, finish);
        Assert.InRange(usage!.ReasoningTokens, 384, 384 + engine.Tokenizer.Encode(ThinkingBudget.DefaultClosingText).Length);
        Assert.True(usage.OutputTokens >= 2 * 384);
        Assert.Contains(ThinkingBudget.DefaultClosingText.Trim()[..40], chat.Messages[1].ReasoningContent!, StringComparison.Ordinal);
    }

    [Fact]
    public void ThePaceFollowsWhatPassesCost()
    {
        var pace = new PrefillPace();
        Assert.Equal(16, pace.RowLimit);
        for (int i = 0; i < 60; i++)
        {
            pace.ObserveDecode(0.1);
            // A pass of the rows that it asks for, at a cost of a millisecond each.
            pace.ObserveMixed(pace.RowLimit, 0.1 + 0.001 * pace.RowLimit);
        }

        Assert.InRange(pace.RowLimit, 95, 100);
        for (int i = 0; i < 60; i++)
            pace.ObserveMixed(pace.RowLimit, 0.1 + 0.01 * pace.RowLimit);
        Assert.InRange(pace.RowLimit, 9, 10);
    }

    // Passes at the moment when a large body is read take several times as long; what they say must not hold for the whole prompt.
    [Fact]
    public void ASlowMomentDoesNotSetThePace()
    {
        var pace = new PrefillPace();
        for (int i = 0; i < 5; i++)
            pace.ObserveDecode(0.002);
        pace.ObserveDecode(0.02);
        pace.ObserveDecode(0.02);
        for (int i = 0; i < 30; i++)
            pace.ObserveMixed(pace.RowLimit, 0.002 + 0.0005 * pace.RowLimit);
        Assert.InRange(pace.RowLimit, 3, 5);
        // And even where most were slow, it is looked at again now and then.
        for (int i = 0; i < 5; i++)
            pace.ObserveDecode(0.02);
        int decodeCount = 0;
        for (int i = 0; i < 200; i++)
        {
            if (pace.WantsDecode)
            {
                decodeCount++;
                pace.ObserveDecode(0.002);
            }
            else
            {
                pace.ObserveMixed(pace.RowLimit, 0.002 + 0.0005 * pace.RowLimit);
            }
        }

        Assert.InRange(decodeCount, 5, 20);
        Assert.InRange(pace.RowLimit, 3, 5);
    }
}
