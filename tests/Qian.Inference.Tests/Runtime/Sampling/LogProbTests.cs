using Qian.Inference.Runtime;

namespace Qian.Inference.Tests.Runtime.Sampling;

public sealed class LogProbTests
{
    [Theory]
    [InlineData(10)]
    [InlineData(1000)]
    [InlineData(248_320)]
    public void AreTheLogSoftmaxOfTheModel(int size)
    {
        float[] logits = SamplerReference.Logits(size, size, spread: 4);
        logits[3] = logits[7] = logits.Max();
        var defined = new ulong[(size + 63) / 64];
        Array.Fill(defined, ulong.MaxValue);
        defined[0] &= ~0b10UL;
        // Everything that changes the choice, to show that it does not change what is reported.
        var options = new SamplingOptions
        {
            Temperature = 0.3f,
            TopK = 5,
            PresencePenalty = 2,
            RepetitionPenalty = 3,
            LogitBias = new Dictionary<int, float> { [4] = float.PositiveInfinity },
            LogProbs = 9,
            Seed = 1,
        };
        var sampler = new Sampler(options, VocabularyMask.FromDefined(defined, size), 100);
        sampler.Begin([0, 2, 3]);
        sampler.Accept(3);

        logits[1] = 50;
        int token = sampler.Sample([.. logits]);
        Assert.Equal(4, token);

        double[] expected = SamplerReference.Filtered([.. logits.Select((x, id) => id == 1 ? float.NegativeInfinity : x)]);
        Assert.Equal(Math.Log(expected[4]), sampler.LogProbs!.LogProbOf(4), 2e-5);
        Assert.Equal(float.NegativeInfinity, sampler.LogProbs.LogProbOf(1));
        int[] best = [.. Enumerable.Range(0, size).Where(id => id != 1).OrderByDescending(id => logits[id]).ThenBy(id => id).Take(9)];
        TokenLogProb[] top = sampler.LogProbs.Top.ToArray();
        Assert.Equal(best, top.Select(t => t.TokenId));
        Assert.All(top, t => Assert.Equal(Math.Log(expected[t.TokenId]), t.LogProb, 2e-5));
        double sum = Enumerable.Range(0, size).Sum(id => Math.Exp(sampler.LogProbs.LogProbOf(id)));
        Assert.Equal(1, sum, 1e-5);
    }

    [Fact]
    public void ForcedTokensAreScoredToo()
    {
        var sampler = new Sampler(new() { LogProbs = 2 }, VocabularyMask.All(3), 10);
        sampler.Score([0, MathF.Log(2), 0]);
        Assert.Equal(Math.Log(0.25), sampler.LogProbs!.LogProbOf(2), 1e-6);
        Assert.Equal([1, 0], sampler.LogProbs.Top.ToArray().Select(t => t.TokenId));
    }

    [Fact]
    public void NoAlternativesStillGiveTheChosenOne()
    {
        var sampler = new Sampler(new() { Temperature = 0, LogProbs = 0 }, VocabularyMask.All(2), 10);
        Assert.Equal(1, sampler.Sample([1, 1.5f]));
        Assert.True(sampler.LogProbs!.Top.IsEmpty);
        Assert.Equal(-Math.Log(1 + Math.Exp(-0.5)), sampler.LogProbs.LogProbOf(1), 1e-6);
        Assert.Null(new Sampler(new(), VocabularyMask.All(2), 10).LogProbs);
    }
}
