using Qian.Kernels;

namespace Qian.Inference.Tests;

// The public waist on a tiny model: sessions, sampling, stops, cancellation, several sessions at once.
[Trait("Tier", "All")]
public sealed class SessionTests(TinyModel model) : IClassFixture<TinyModel>
{
    private static readonly SamplingOptions s_greedy = new() { Temperature = 0, MaxTokens = 24, IgnoreEos = true };

    private static async Task<List<GeneratedToken>> Collect(IAsyncEnumerable<GeneratedToken> tokens)
    {
        var list = new List<GeneratedToken>();
        await foreach (GeneratedToken token in tokens)
            list.Add(token);
        return list;
    }

    private static async Task<int[]> Ids(Session session, SamplingOptions options) => [.. (await Collect(session.GenerateAsync(options))).Select(token => token.Id)];

    private static int[] Prompt(int length, int seed)
    {
        var random = new Random(seed);
        return [.. Enumerable.Range(0, length).Select(_ => random.Next(400))];
    }

    [Fact]
    public async Task TextIsTheDecodedTokens()
    {
        using Engine engine = model.Load();
        using Session session = engine.NewSession();
        session.Append("The quick brown fox jumps over the lazy dog.");
        List<GeneratedToken> tokens = await Collect(session.GenerateAsync(s_greedy));
        Assert.Equal(24, tokens.Count);
        Assert.Equal(FinishReason.Length, tokens[^1].Finish);
        Assert.All(tokens.SkipLast(1), token => Assert.Null(token.Finish));
        Assert.Equal(engine.Tokenizer.Decode([.. tokens.Select(token => token.Id)], skipControlTokens: true), string.Concat(tokens.Select(token => token.Text)));
        Assert.Equal(session.TokenCount, session.ComputedCount + 1);
    }

    [Fact]
    public async Task ManySessionsAtOnceGiveWhatEachGivesAlone()
    {
        using Engine engine = model.Load(new EngineOptions { MaxBatchRows = 128 });
        int[] lengths = [3, 70, 200, 129, 64, 17];
        SamplingOptions[] options = [.. lengths.Select((_, i) => i % 2 == 0 ? s_greedy : s_greedy with { Temperature = 1, TopK = 50, Seed = (ulong)i })];
        var alone = new List<int[]>();
        for (int i = 0; i < lengths.Length; i++)
        {
            using Session session = engine.NewSession();
            session.Append(Prompt(lengths[i], i));
            alone.Add(await Ids(session, options[i]));
        }

        Session[] sessions = [.. lengths.Select(_ => engine.NewSession())];
        int[][] together = await Task.WhenAll(lengths.Select((length, i) => Task.Run(() =>
        {
            sessions[i].Append(Prompt(length, i));
            return Ids(sessions[i], options[i]);
        })));
        Assert.Equal(alone, together);
        foreach (Session session in sessions)
            session.Dispose();
    }

    [Fact]
    public async Task AForkContinuesAsTheOriginalWould()
    {
        using Engine engine = model.Load();
        using Session session = engine.NewSession();
        session.Append(Prompt(100, 1));
        await session.PrefillAsync();
        Assert.Equal(100, session.ComputedCount);
        using Session fork = session.Fork();
        int[] original = await Ids(session, s_greedy);
        Assert.Equal(original, await Ids(fork, s_greedy));
    }

    [Fact]
    public async Task TheSameSeedGivesTheSameTokensAndAnotherSeedOthers()
    {
        using Engine engine = model.Load();
        SamplingOptions options = s_greedy with { Temperature = 1.5f, TopK = 0, TopP = 1, Seed = 7 };
        int[][] runs = new int[3][];
        for (int i = 0; i < 3; i++)
        {
            using Session session = engine.NewSession();
            session.Append(Prompt(20, 3));
            runs[i] = await Ids(session, i < 2 ? options : options with { Seed = 8 });
        }

        Assert.Equal(runs[0], runs[1]);
        Assert.NotEqual(runs[0], runs[2]);
    }

    [Fact]
    public async Task UndefinedIdsAreNeverProduced()
    {
        using Engine engine = model.Load();
        using Session session = engine.NewSession();
        session.Append(Prompt(10, 4));
        SamplingOptions options = s_greedy with { Temperature = 5, TopK = 0, TopP = 1, MaxTokens = 400, Seed = 1 };
        Assert.All(await Ids(session, options), id => Assert.True(engine.Tokenizer.IsDefined(id)));
    }

    [Fact]
    public async Task StopStringsEndTheTextBeforeThem()
    {
        using Engine engine = model.Load();
        using Session first = engine.NewSession();
        first.Append(Prompt(30, 5));
        string text = string.Concat((await Collect(first.GenerateAsync(s_greedy))).Select(token => token.Text));
        string stop = text.Substring(text.Length / 2, 3);
        using Session second = engine.NewSession();
        second.Append(Prompt(30, 5));
        List<GeneratedToken> stopped = await Collect(second.GenerateAsync(s_greedy with { StopStrings = [stop] }));
        Assert.Equal(text[..text.IndexOf(stop, StringComparison.Ordinal)], string.Concat(stopped.Select(token => token.Text)));
        Assert.Equal(FinishReason.Stop, stopped[^1].Finish);
    }

    [Fact]
    public async Task LogProbabilitiesComeWithTheirAlternatives()
    {
        using Engine engine = model.Load();
        using Session session = engine.NewSession();
        session.Append(Prompt(30, 6));
        foreach (GeneratedToken token in await Collect(session.GenerateAsync(s_greedy with { LogProbs = 3, MaxTokens = 5 })))
        {
            Assert.Equal(3, token.Alternatives!.Count);
            Assert.Equal(token.Id, token.Alternatives[0].Id);
            Assert.Equal(token.LogProbability, token.Alternatives[0].LogProbability);
            Assert.InRange(token.LogProbability!.Value, -20, 0);
        }
    }

    [Fact]
    public async Task CancellationStopsAndLeavesTheSessionUsable()
    {
        // Room for more than is generated before the cancellation is heard, however late that is.
        using Engine engine = model.Load(new EngineOptions { ContextLength = 100_000 });
        using Session session = engine.NewSession();
        session.Append(Prompt(10, 7));
        using var cancel = new CancellationTokenSource();
        int count = 0;
        await Assert.ThrowsAnyAsync<OperationCanceledException>(async () =>
        {
            await foreach (GeneratedToken _ in session.GenerateAsync(s_greedy with { MaxTokens = 100_000 }, cancel.Token))
            {
                if (++count == 5)
                    cancel.Cancel();
            }
        });
        Assert.InRange(session.TokenCount, 15, 99_000);
        Assert.Equal(24, (await Ids(session, s_greedy)).Length);
    }

    [Fact]
    public async Task AConsumerThatLeavesEarlyLeavesTheSessionUsable()
    {
        using Engine engine = model.Load();
        using Session session = engine.NewSession();
        session.Append(Prompt(10, 8));
        await foreach (GeneratedToken _ in session.GenerateAsync(s_greedy with { MaxTokens = 1000 }))
            break;
        session.Append(1, 2, 3);
        Assert.Equal(24, (await Ids(session, s_greedy)).Length);
    }

    [Fact]
    public async Task TheContextLimitIsAnErrorForPromptsAndAFinishForReplies()
    {
        using Engine engine = model.Load(new EngineOptions { ContextLength = 64 });
        using Session session = engine.NewSession();
        var error = Assert.Throws<BadRequestException>(() => session.Append(Prompt(65, 9)));
        Assert.Contains("64", error.Message, StringComparison.Ordinal);
        session.Append(Prompt(60, 9));
        List<GeneratedToken> tokens = await Collect(session.GenerateAsync(s_greedy with { MaxTokens = 100 }));
        Assert.Equal(4, tokens.Count);
        Assert.Equal(FinishReason.ContextFull, tokens[^1].Finish);
    }

    [Fact]
    public async Task AnEmptySessionSaysWhatIsMissing()
    {
        using Engine engine = model.Load();
        using Session session = engine.NewSession();
        var error = await Assert.ThrowsAsync<BadRequestException>(() => Collect(session.GenerateAsync(s_greedy)));
        Assert.Contains("append", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AModelThatWouldNotFitIsRefusedWithWhatWould()
    {
        var error = Assert.Throws<BadRequestException>(() => Engine.Load(model.Path, new EngineOptions { ContextLength = 100_000, MemoryLimitBytes = 20 << 20 }));
        Assert.Contains("would not fit", error.Message, StringComparison.Ordinal);
        Assert.Contains("tokens fits", error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(KvType.F32)]
    [InlineData(KvType.BF16)]
    [InlineData(KvType.Q8_0)]
    public async Task EveryKvTypeRuns(KvType type)
    {
        using Engine engine = model.Load(new EngineOptions { KvType = type });
        using Session session = engine.NewSession();
        session.Append(Prompt(90, 10));
        Assert.Equal(24, (await Ids(session, s_greedy)).Length);
    }

    [Fact]
    public async Task ComputeAllocatesNothingPerToken()
    {
        using Engine engine = model.Load();
        var batch = new Qian.Inference.Model.ForwardBatch(engine.Model.Network.MaxRows);
        using Qian.Inference.Model.SequenceState state = engine.Model.NewSequence();
        using NativeBuffer logits = NativeBuffer.AllocateFloats(engine.Config.VocabularySize);
        Assert.True(state.TryReserve(512));
        for (int i = 0; i < 40; i++)
            Token();
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 40; i++)
            Token();
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
        await Task.CompletedTask;

        void Token()
        {
            batch.Clear();
            batch.Add(state, [5]);
            engine.Model.Network.Forward(batch);
            engine.Model.Network.Logits([0], logits.AllFloats);
        }
    }
}
