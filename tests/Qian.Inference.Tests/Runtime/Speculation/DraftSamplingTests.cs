using Qian.Inference.Runtime;

namespace Qian.Inference.Tests.Runtime;

// Sampling with drafts: the distribution of what comes out, and the very tokens of a seed.
public sealed class DraftSamplingTests(DraftModels models) : IClassFixture<DraftModels>
{
    private const int SeedCount = 700;
    private const int TokenCount = 4;

    // Three tokens that leave the others no chance, in a prompt of them alone: whatever comes has come before, so there are
    // drafts all the time, and they are right now and then.
    private static readonly int[] s_alphabet = [11, 12, 13];

    private static SamplingOptions Options(ulong seed, int draftTokens) => new()
    {
        Temperature = 3,
        TopK = 0,
        TopP = 0.98f,
        PresencePenalty = 0.3f,
        Seed = seed,
        MaxTokens = TokenCount,
        IgnoreEos = true,
        DraftTokens = draftTokens,
        LogitBias = s_alphabet.ToDictionary(token => token, _ => 120f),
    };

    [Fact]
    public async Task TheDistributionIsThatOfPlainSampling()
    {
        using Engine engine = models.Load(options: new EngineOptions { ThreadCount = 1 });
        using Session prompt = engine.NewSession();
        prompt.Append([.. DraftModels.Prompt(90, 1, below: 3).Select(i => s_alphabet[i])]);
        await prompt.PrefillAsync();

        // Seeds of their own for either side: what is compared is two samples, not two runs of the same dice.
        (double[] plain, long none) = await Counts(prompt, 0, firstSeed: 1_000_000);
        (double[] drafted, long accepted) = await Counts(prompt, 3, firstSeed: 1);
        Assert.Equal(0, none);
        Assert.InRange(accepted, SeedCount / 4, SeedCount * TokenCount);

        // Two-sample chi-square over the sequences of three tokens; rare ones together. The bound is the 99.9 % quantile
        // (Wilson-Hilferty), and seeds and sums are fixed, so this cannot come out otherwise another time.
        double statistic = 0, rarePlain = 0, rareDrafted = 0;
        int cells = 0;
        for (int i = 0; i < plain.Length; i++)
        {
            if (plain[i] + drafted[i] < 20)
            {
                rarePlain += plain[i];
                rareDrafted += drafted[i];
                continue;
            }

            statistic += Math.Pow(plain[i] - drafted[i], 2) / (plain[i] + drafted[i]);
            cells++;
        }

        if (rarePlain + rareDrafted > 0)
        {
            statistic += Math.Pow(rarePlain - rareDrafted, 2) / (rarePlain + rareDrafted);
            cells++;
        }

        double freedom = cells - 1, spread = 2 / (9 * freedom);
        Assert.InRange(cells, 12, 27);
        Assert.InRange(statistic, 0, freedom * Math.Pow(1 - spread + 3.09 * Math.Sqrt(spread), 3));
    }

    [Fact]
    public async Task TheTokensOfASeedAreTheSameWithAndWithoutDrafts()
    {
        using Engine engine = models.Load(options: new EngineOptions { ThreadCount = 1 });
        long accepted = 0;
        for (ulong seed = 0; seed < 40; seed++)
        {
            using Session plain = engine.NewSession(), drafted = engine.NewSession();
            int[] prompt = [.. Enumerable.Range(0, 30).Select(i => s_alphabet[i % 3])];
            plain.Append(prompt);
            drafted.Append(prompt);
            SamplingOptions options = Options(seed, 0) with { MaxTokens = 30, FrequencyPenalty = 0.05f, RepetitionPenalty = 1.1f };
            List<GeneratedToken> expected = await DraftModels.Collect(plain.GenerateAsync(options));
            List<GeneratedToken> tokens = await DraftModels.Collect(drafted.GenerateAsync(options with { DraftTokens = 1 + (int)seed % 7 }));
            Assert.Equal(expected.Select(token => token.Id), tokens.Select(token => token.Id));
            accepted += tokens[^1].AcceptedCount;
        }

        Assert.InRange(accepted, 50, 1200);
    }

    // How often each sequence of the last three of the four tokens came.
    private static async Task<(double[] Counts, long Accepted)> Counts(Session prompt, int draftTokens, ulong firstSeed)
    {
        var counts = new double[s_alphabet.Length * s_alphabet.Length * s_alphabet.Length];
        long accepted = 0;
        for (int i = 0; i < SeedCount; i++)
        {
            using Session session = prompt.Fork();
            List<GeneratedToken> tokens = await DraftModels.Collect(session.GenerateAsync(Options(firstSeed + (ulong)i, draftTokens)));
            int cell = 0;
            foreach (GeneratedToken token in tokens.Skip(1))
                cell = cell * s_alphabet.Length + Array.IndexOf(s_alphabet, token.Id);
            counts[cell]++;
            accepted += tokens[^1].AcceptedCount;
        }

        return (counts, accepted);
    }
}
