using Qian.Inference.Runtime;

namespace Qian.Inference.Tests.Runtime;

// Drafts change when tokens come, never which: against plain decoding, token for token, state for state, to the last bit.
[Trait("Tier", "All")]
public sealed class SpeculationTests(DraftModels models) : IClassFixture<DraftModels>
{
    private static readonly SamplingOptions s_plain = DraftModels.Repetitive with { DraftTokens = 0 };

    [Theory]
    [InlineData(true, 1)]
    [InlineData(true, 3)]
    [InlineData(true, 8)]
    [InlineData(false, 3)]
    [InlineData(false, 15)]
    [InlineData(true, null)]
    public async Task GreedyTokensAndStateAreThoseOfPlainDecoding(bool mtp, int? draftTokens)
    {
        using Engine engine = models.Load(mtp);
        long acceptedCount = 0;
        foreach (int length in new[] { 1, 2, 17, 90 })
        {
            using var plain = new Timeline(engine.Model.NewSequence());
            using var drafted = new Timeline(engine.Model.NewSequence());
            plain.Append(DraftModels.Prompt(length, length));
            drafted.Append(DraftModels.Prompt(length, length));
            List<GeneratedToken> expected = await DraftModels.Generate(engine, plain, s_plain);
            List<GeneratedToken> tokens = await DraftModels.Generate(engine, drafted, s_plain with { DraftTokens = draftTokens });
            AssertSame(expected, tokens);
            if (draftTokens is not null)
            {
                Assert.InRange(tokens[^1].DraftedCount, 10, 2000);
                Assert.InRange(tokens[^1].AcceptedCount, 1, tokens.Count);
                acceptedCount += tokens[^1].AcceptedCount;
            }

            Assert.Equal(plain.ComputedCount, drafted.ComputedCount);
            Assert.Equal(DraftModels.LinearState(engine, plain.State), DraftModels.LinearState(engine, drafted.State));
            AssertSame(await DraftModels.Generate(engine, plain, s_plain), await DraftModels.Generate(engine, drafted, s_plain with { DraftTokens = draftTokens }));
        }

        Assert.True(draftTokens is null || acceptedCount >= 20, $"{acceptedCount} accepted");
    }

    [Fact]
    public async Task ManyRequestsAtOnceGiveWhatEachGivesAloneWithoutDrafts()
    {
        using Engine engine = models.Load(options: new EngineOptions { MaxBatchRows = 128 });
        int[] lengths = [3, 70, 200, 129, 64, 17, 40, 1, 33, 90, 5, 12];
        int?[] drafts = [3, null, 0, 15, 1, null];
        SamplingOptions[] options = [.. lengths.Select((_, i) => s_plain with { Temperature = i % 3 == 0 ? 1 : 0, TopK = 10, Seed = (ulong)i, MaxTokens = 20 + i })];
        var alone = new List<int[]>();
        for (int i = 0; i < lengths.Length; i++)
        {
            using Session session = engine.NewSession();
            session.Append(DraftModels.Prompt(lengths[i], i));
            alone.Add(Ids(await DraftModels.Collect(session.GenerateAsync(options[i]))));
        }

        Session[] sessions = [.. lengths.Select(_ => engine.NewSession())];
        int[][] together = await Task.WhenAll(lengths.Select((length, i) => Task.Run(async () =>
        {
            sessions[i].Append(DraftModels.Prompt(length, i));
            return Ids(await DraftModels.Collect(sessions[i].GenerateAsync(options[i] with { DraftTokens = drafts[i % drafts.Length] })));
        })));
        Assert.Equal(alone, together);
        foreach (Session session in sessions)
            session.Dispose();
    }

    [Fact]
    public async Task AForkAndItsOriginalBothGoOnAsPlainDecodingWould()
    {
        using Engine engine = models.Load();
        using Session session = engine.NewSession(), plain = engine.NewSession();
        session.Append(DraftModels.Prompt(63, 1));
        plain.Append(DraftModels.Prompt(63, 1));
        SamplingOptions drafted = s_plain with { DraftTokens = 4, MaxTokens = 25 };
        int[] first = Ids(await DraftModels.Collect(plain.GenerateAsync(drafted with { DraftTokens = 0 })));
        Assert.Equal(first, Ids(await DraftModels.Collect(session.GenerateAsync(drafted))));
        using Session fork = session.Fork(), plainFork = plain.Fork();
        fork.Append(7, 8, 9);
        plainFork.Append(7, 8, 9);
        Assert.Equal(Ids(await DraftModels.Collect(plain.GenerateAsync(s_plain))), Ids(await DraftModels.Collect(session.GenerateAsync(drafted with { MaxTokens = 60 }))));
        Assert.Equal(Ids(await DraftModels.Collect(plainFork.GenerateAsync(s_plain))), Ids(await DraftModels.Collect(fork.GenerateAsync(drafted with { MaxTokens = 60 }))));
    }

    [Fact]
    public async Task ACancelledRunLeavesAStateThatGoesOnAsIfNothingHadHappened()
    {
        using Engine engine = models.Load();
        using Session plain = engine.NewSession();
        plain.Append(DraftModels.Prompt(30, 2));
        int[] expected = Ids(await DraftModels.Collect(plain.GenerateAsync(s_plain with { MaxTokens = 1500 })));
        for (int stopAfter = 3; stopAfter < 40; stopAfter += 9)
        {
            using Session session = engine.NewSession();
            session.Append(DraftModels.Prompt(30, 2));
            using var cancel = new CancellationTokenSource();
            int count = 0;
            try
            {
                await foreach (GeneratedToken _ in session.GenerateAsync(s_plain with { DraftTokens = 6, MaxTokens = 1500 }, cancel.Token))
                {
                    if (++count == stopAfter)
                        cancel.Cancel();
                }
            }
            catch (OperationCanceledException)
            {
                // What was asked for; a fast machine may finish first.
            }

            int generated = session.TokenCount - 30;
            Assert.InRange(generated, stopAfter, 1500);
            Assert.Equal(expected[..generated], session.Tokens.Skip(30));
            // The penalty's window starts from the prompt, which is longer now, but holds the same last tokens.
            int more = Math.Min(20, 1500 - generated);
            if (more > 0)
                Assert.Equal(expected.Skip(generated).Take(more), Ids(await DraftModels.Collect(session.GenerateAsync(s_plain with { DraftTokens = 6, MaxTokens = more }))));
        }
    }

    [Fact]
    public async Task RepliesEndInsideAcceptedRunsWherePlainOnesDo()
    {
        using Engine engine = models.Load();
        List<GeneratedToken> all = await Reply(engine, s_plain, 48);
        string text = string.Concat(all.Select(token => token.Text));
        var cases = new List<SamplingOptions>();
        for (int count = 1; count < 24; count++)
            cases.Add(s_plain with { MaxTokens = count });
        for (int i = 5; i < 40; i += 3)
        {
            cases.Add(s_plain with { StopTokenIds = [all[i].Id] });
            if (i + 4 < text.Length)
                cases.Add(s_plain with { StopStrings = [text.Substring(i, 4)] });
        }

        foreach (SamplingOptions options in cases)
        {
            List<GeneratedToken> plain = await Reply(engine, options, 48);
            AssertSame(plain, await Reply(engine, options with { DraftTokens = 7 }, 48));
        }
    }

    [Fact]
    public async Task TheContextEndsInsideAnAcceptedRunWhereItDoesWithoutDrafts()
    {
        using Engine engine = models.Load(options: new EngineOptions { ContextLength = 80 });
        List<GeneratedToken> plain = await Reply(engine, s_plain with { MaxTokens = 500 }, 30);
        Assert.Equal(FinishReason.ContextFull, plain[^1].Finish);
        Assert.Equal(50, plain.Count);
        AssertSame(plain, await Reply(engine, s_plain with { MaxTokens = 500, DraftTokens = 15 }, 30));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(5)]
    [InlineData(11)]
    public async Task AThinkingBudgetClosesThinkingAtTheSameToken(int budget)
    {
        using Engine engine = models.Load();
        async Task<List<GeneratedToken>> Think(int drafts)
        {
            using var timeline = new Timeline(engine.Model.NewSequence());
            timeline.Append(DraftModels.Prompt(40, 4));
            Generation generation = engine.NewGeneration(timeline, s_plain with { ThinkingBudget = budget, DraftTokens = drafts, MaxTokens = 160 }, CancellationToken.None, insideThinking: true);
            engine.Submit(generation);
            return await DraftModels.Collect(generation.Output.Reader.ReadAllAsync());
        }

        List<GeneratedToken> plain = await Think(0);
        Assert.True(engine.Tokenizer.TryGetId("</think>", out int close));
        Assert.Contains(plain, token => token.Id == close);
        AssertSame(plain, await Think(6));
    }

    [Fact]
    public async Task LogProbabilitiesAreThoseOfPlainDecoding()
    {
        using Engine engine = models.Load();
        List<GeneratedToken> plain = await Reply(engine, s_plain with { LogProbs = 2 }, 20), drafted = await Reply(engine, s_plain with { LogProbs = 2, DraftTokens = 5 }, 20);
        AssertSame(plain, drafted);
        Assert.Equal(plain.Select(token => token.LogProbability), drafted.Select(token => token.LogProbability));
        Assert.Equal(plain.SelectMany(token => token.Alternatives!), drafted.SelectMany(token => token.Alternatives!));
    }

    [Fact]
    public async Task OffMeansNoDraftsAndNoMtpHead()
    {
        using Engine engine = models.Load(options: new EngineOptions { Speculation = Speculation.Off });
        Assert.False(engine.Model.Network.HasMtp);
        Assert.Equal(0, (await Reply(engine, s_plain with { DraftTokens = 5 }, 20))[^1].DraftedCount);
        using Engine lookup = models.Load(options: new EngineOptions { Speculation = Speculation.PromptLookup });
        Assert.False(lookup.Model.Network.HasMtp);
        Assert.InRange((await Reply(lookup, s_plain with { DraftTokens = 5 }, 20))[^1].AcceptedCount, 1, 60);
        using Engine auto = models.Load();
        Assert.True(auto.Model.Network.HasMtp);
        Assert.InRange(auto.Memory.TotalBytes(64), engine.Memory.TotalBytes(64) + 1, long.MaxValue);
    }

    private static async Task<List<GeneratedToken>> Reply(Engine engine, SamplingOptions options, int promptLength)
    {
        using Session session = engine.NewSession();
        session.Append(DraftModels.Prompt(promptLength, 3));
        List<GeneratedToken> tokens = await DraftModels.Collect(session.GenerateAsync(options));
        Assert.Equal(session.TokenCount, session.ComputedCount + 1);
        return tokens;
    }

    private static int[] Ids(List<GeneratedToken> tokens) => [.. tokens.Select(token => token.Id)];

    private static void AssertSame(List<GeneratedToken> expected, List<GeneratedToken> tokens) =>
        Assert.Equal(expected.Select(token => (token.Id, token.Text, token.Finish)), tokens.Select(token => (token.Id, token.Text, token.Finish)));
}
