using Qian.Inference.Runtime;

namespace Qian.Inference.Tests.Runtime.Sampling;

public sealed class SamplerTests
{
    private static readonly SamplingOptions _plain = new() { Temperature = 1, TopK = 0, TopP = 1, MinP = 0, Seed = 7 };

    private static Sampler Create(SamplingOptions options, int vocabularySize, int maxTokenCount = 200_000) =>
        new(options, VocabularyMask.All(vocabularySize), maxTokenCount);

    // Draws `count` tokens from the same logits, each at its own index.
    private static int[] Draw(SamplingOptions options, float[] logits, int count)
    {
        Sampler sampler = Create(options, logits.Length);
        var row = new float[logits.Length];
        var counts = new int[logits.Length];
        for (int i = 0; i < count; i++)
        {
            logits.CopyTo(row, 0);
            int token = sampler.Sample(row);
            counts[token]++;
            sampler.Accept(token);
        }

        return counts;
    }

    [Theory]
    [InlineData(1.0f, 0, 1f, 0f)]
    [InlineData(0.5f, 0, 1f, 0f)]
    [InlineData(1.0f, 20, 1f, 0f)]
    [InlineData(0.7f, 20, 0.8f, 0f)]
    [InlineData(1.0f, 20, 0.95f, 0f)]
    [InlineData(1.5f, 0, 0.9f, 0f)]
    [InlineData(1.0f, 0, 0.999f, 0.01f)]
    [InlineData(2.0f, 0, 1f, 0.2f)]
    [InlineData(1.0f, 40, 0.9f, 0.1f)]
    public void TokensFollowTheFilteredDistribution(float temperature, int topK, float topP, float minP)
    {
        foreach (int size in new[] { 12, 700 })
        {
            float[] logits = SamplerReference.Logits(size, seed: size);
            const int DrawCount = 20_000;
            int[] counts = Draw(_plain with { Temperature = temperature, TopK = topK, TopP = topP, MinP = minP }, logits, DrawCount);
            double[] expected = SamplerReference.Filtered(logits, temperature, topK, topP, minP);

            // Chi-square over the tokens expected five times or more, the rest as one class.
            double chi = 0, restExpected = 0, restCount = 0;
            int degrees = -1;
            for (int id = 0; id < size; id++)
            {
                if (expected[id] == 0)
                    Assert.Equal(0, counts[id]);
                double mean = expected[id] * DrawCount;
                if (mean < 5)
                {
                    restExpected += mean;
                    restCount += counts[id];
                    continue;
                }

                chi += (counts[id] - mean) * (counts[id] - mean) / mean;
                degrees++;
            }

            if (restExpected > 0)
            {
                chi += (restCount - restExpected) * (restCount - restExpected) / Math.Max(restExpected, 1);
                degrees++;
            }

            // Wilson-Hilferty: 4 standard deviations; a wrong temperature or filter is hundreds away.
            if (degrees > 0)
            {
                double z = (Math.Cbrt(chi / degrees) - (1 - (2.0 / (9 * degrees)))) / Math.Sqrt(2.0 / (9 * degrees));
                Assert.True(z < 4, $"size {size}: chi-square {chi:F1} at {degrees} degrees of freedom, z {z:F2}");
            }
        }
    }

    [Fact]
    public void GreedyTakesTheLowestIdOfTheGreatest()
    {
        foreach (int size in new[] { 1, 7, 31, 32, 33, 127, 128, 129, 255, 256, 257, 1000 })
        {
            Sampler sampler = Create(SamplingOptions.Greedy, size);
            var random = new Random(size);
            for (int repeat = 0; repeat < 50; repeat++)
            {
                var logits = new float[size];
                for (int i = 0; i < size; i++)
                    logits[i] = random.Next(-20, 3);
                Assert.Equal(Array.IndexOf(logits, logits.Max()), sampler.Sample(logits));
            }
        }
    }

    [Fact]
    public void TopKPrefersLowIdsOnTies()
    {
        var logits = new float[1000];
        logits[700] = 1;
        int[] counts = Draw(_plain with { TopK = 3 }, logits, 2000);
        Assert.Equal(2000, counts[0] + counts[1] + counts[700]);
        Assert.All(new[] { 0, 1, 700 }, id => Assert.True(counts[id] > 300));
    }

    [Fact]
    public void NegativeZeroTiesWithZero()
    {
        float[] logits = [-0f, 0f, -1, 0f];
        int[] counts = Draw(_plain with { TopK = 2 }, logits, 500);
        Assert.True(counts[0] > 150 && counts[1] > 150 && counts[0] + counts[1] == 500);
    }

    [Fact]
    public void TopPOfZeroKeepsTheMostProbable()
    {
        float[] logits = SamplerReference.Logits(5000, 3);
        int best = Array.IndexOf(logits, logits.Max());
        Assert.Equal(100, Draw(_plain with { TopP = 0 }, logits, 100)[best]);
        Assert.Equal(100, Draw(_plain with { TopP = 0, TopK = 50 }, logits, 100)[best]);
        Assert.Equal(100, Draw(_plain with { MinP = 1 }, logits, 100)[best]);
    }

    [Fact]
    public void KBeyondTheVocabularyKeepsAll()
    {
        float[] logits = SamplerReference.Logits(64, 5);
        Assert.Equal(Draw(_plain, logits, 500), Draw(_plain with { TopK = 1_000_000 }, logits, 500));
    }

    [Theory]
    [InlineData(1e-4f)]
    [InlineData(100f)]
    public void ExtremeTemperaturesStayFinite(float temperature)
    {
        float[] logits = SamplerReference.Logits(1000, 8);
        int[] counts = Draw(_plain with { Temperature = temperature }, logits, 200);
        if (temperature < 1)
            Assert.Equal(200, counts[Array.IndexOf(logits, logits.Max())]);
        else
            Assert.True(counts.Max() < 10);
    }

    [Fact]
    public void SameSeedSameTokensWhateverElseRuns()
    {
        float[] logits = SamplerReference.Logits(4000, 11);
        SamplingOptions options = _plain with { TopK = 40, TopP = 0.95f };
        int[] Tokens(ulong seed, SamplingScratch? scratch, bool disturbed, int from = 0)
        {
            var sampler = new Sampler(options with { Seed = seed }, VocabularyMask.All(4000), 1000, scratch);
            var mate = new Sampler(_plain with { Seed = 99 }, VocabularyMask.All(4000), 1000, scratch);
            int[] tokens = new int[60];
            // Replayed tokens count, whatever they were.
            for (int i = 0; i < from; i++)
                sampler.Accept(0);
            for (int i = from; i < 60; i++)
            {
                if (disturbed)
                    mate.Accept(mate.Sample(logits.AsSpan().ToArray()));
                tokens[i] = sampler.Sample(logits.AsSpan().ToArray());
                sampler.Accept(tokens[i]);
            }

            return tokens[from..];
        }

        int[] alone = Tokens(5, null, false);
        Assert.Equal(alone, Tokens(5, new SamplingScratch(4000), true));
        Assert.NotEqual(alone, Tokens(6, null, false));
        Assert.Equal(alone[25..], Tokens(5, null, false, from: 25));
    }

    [Fact]
    public void SamplingAgainBeforeAcceptingChoosesTheSame()
    {
        float[] logits = SamplerReference.Logits(4000, 12);
        Sampler sampler = Create(_plain, 4000);
        Assert.Equal(sampler.Sample([.. logits]), sampler.Sample([.. logits]));
    }

    [Fact]
    public void SeedNotGivenIsDrawnAndReported()
    {
        Sampler first = Create(_plain with { Seed = null }, 10), second = Create(_plain with { Seed = null }, 10);
        Assert.NotEqual(first.Seed, second.Seed);
        Assert.Equal(7UL, Create(_plain, 10).Seed);
    }

    [Fact]
    public void UniformNumbersAreUniformAcrossIndexesAndSeeds()
    {
        foreach (bool overSeeds in new[] { false, true })
        {
            var counts = new int[100];
            for (int i = 0; i < 100_000; i++)
                counts[(int)(100 * (overSeeds ? CounterRandom.Uniform((ulong)i, 0) : CounterRandom.Uniform(1, i)))]++;
            double chi = counts.Sum(c => (c - 1000.0) * (c - 1000.0) / 1000);
            // 99 degrees of freedom: mean 99, standard deviation 14.
            Assert.InRange(chi, 99 - 56, 99 + 56);
        }
    }

    [Theory]
    [InlineData(0f, 0, 1f)]
    [InlineData(1f, 0, 1f)]
    [InlineData(1f, 20, 0.95f)]
    [InlineData(1f, 0, 0.95f)]
    [InlineData(1f, 1024, 1f)]
    public void UndefinedIdsAreNeverProduced(float temperature, int topK, float topP)
    {
        const int Size = 700;
        var defined = new ulong[8]; // ids from 512 on have no bit at all
        defined[1] = 0b1011;
        defined[7] = 1UL << 63;
        VocabularyMask vocabulary = VocabularyMask.FromDefined(defined, Size);
        int[] definedIds = [64, 65, 67, 511];
        Assert.Equal(definedIds, Enumerable.Range(-1, Size + 2).Where(vocabulary.IsDefined));
        var bias = new Dictionary<int, float> { [3] = float.PositiveInfinity, [66] = 1e38f, [699] = float.PositiveInfinity };
        var sampler = new Sampler(_plain with { Temperature = temperature, TopK = topK, TopP = topP, LogitBias = bias }, vocabulary, 1000);
        var random = new Random(1);
        var seen = new HashSet<int>();
        for (int i = 0; i < 400; i++)
        {
            var logits = new float[Size];
            for (int id = 0; id < Size; id++)
                logits[id] = vocabulary.IsDefined(id) ? random.NextSingle() : 1e30f;
            logits[4] = float.NaN; // an undefined row may hold anything
            int token = sampler.Sample(logits);
            seen.Add(token);
            sampler.Accept(token);
        }

        Assert.Equal(definedIds, seen.Order());
    }

    [Fact]
    public void BiasForcesAndBans()
    {
        float[] logits = SamplerReference.Logits(500, 4);
        int best = Array.IndexOf(logits, logits.Max());
        Assert.Equal(50, Draw(_plain with { LogitBias = new Dictionary<int, float> { [5] = float.PositiveInfinity } }, logits, 50)[5]);
        Assert.Equal(0, Draw(_plain with { LogitBias = new Dictionary<int, float> { [best] = float.NegativeInfinity } }, logits, 300)[best]);
        int[] two = Draw(_plain with { TopK = 20, LogitBias = new Dictionary<int, float> { [5] = float.PositiveInfinity, [6] = float.PositiveInfinity } }, logits, 200);
        Assert.Equal(200, two[5] + two[6]);
        BadRequestException error = Assert.Throws<BadRequestException>(() => Create(_plain with { LogitBias = new Dictionary<int, float> { [500] = 1 } }, 500));
        Assert.Equal("LogitBias key: expected a token id below 500, found 500.", error.Message);
    }

    [Fact]
    public void AllowedIdsBoundTheChoice()
    {
        float[] logits = SamplerReference.Logits(300, 4);
        Sampler sampler = Create(_plain, 300);
        ulong[] allowed = [ulong.MaxValue, 0, 0b100, 0, 0]; // 0..63 and 130
        for (int i = 0; i < 500; i++)
        {
            int token = sampler.Sample([.. logits], allowed);
            Assert.True(token is < 64 or 130);
            sampler.Accept(token);
        }

        Assert.Equal(130, sampler.Sample([.. logits], [0, 0, 0b100]));
        InvalidOperationException error = Assert.Throws<InvalidOperationException>(() => sampler.Sample([.. logits], [0]));
        Assert.Contains("No token is allowed", error.Message);
    }

    [Fact]
    public void NotANumberIsAClearError()
    {
        foreach (SamplingOptions options in new[] { SamplingOptions.Greedy, _plain, _plain with { TopK = 5 } })
        {
            Sampler sampler = Create(options, 1000);
            foreach (int at in new[] { 0, 1, 7, 8, 255, 256, 767, 768, 991, 992, 999 })
            {
                var logits = new float[1000];
                logits[at] = float.NaN;
                Assert.StartsWith($"Logit of token {at} is NaN", Assert.Throws<InvalidOperationException>(() => sampler.Sample(logits)).Message);
                logits[at] = float.PositiveInfinity;
                Assert.StartsWith($"Logit of token {at} is +infinity", Assert.Throws<InvalidOperationException>(() => sampler.Sample(logits)).Message);
            }
        }

        Assert.Throws<ArgumentException>(() => Create(_plain, 10).Sample(new float[11]));
    }

    [Fact]
    public void ATokenAllocatesNothing()
    {
        const int Size = 5000;
        float[] logits = SamplerReference.Logits(Size, 9);
        SamplingOptions[] all =
        [
            SamplingOptions.Greedy,
            _plain,
            _plain with { TopP = 0.9f },
            _plain with { MinP = 0.1f },
            _plain with
            {
                TopK = 20, TopP = 0.95f, PresencePenalty = 1.5f, FrequencyPenalty = 0.1f, RepetitionPenalty = 1.1f, RepetitionWindow = 64,
                Dry = new DryOptions(), LogitBias = new Dictionary<int, float> { [1] = 2 }, LogProbs = 20,
            },
        ];
        var row = new float[Size];
        ulong[] allowed = [.. Enumerable.Repeat(ulong.MaxValue, 79)];
        foreach (SamplingOptions options in all)
        {
            Sampler sampler = Create(options, Size, 1000);
            sampler.Begin([1, 2, 3, 1, 2, 3]);
            long before = 0;
            for (int i = 0; i < 400; i++)
            {
                if (i == 100)
                    before = GC.GetAllocatedBytesForCurrentThread();
                logits.CopyTo(row, 0);
                sampler.Accept(sampler.Sample(row, allowed));
            }

            Assert.Equal(before, GC.GetAllocatedBytesForCurrentThread());
        }
    }
}
