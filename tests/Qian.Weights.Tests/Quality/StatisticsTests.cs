namespace Qian.Weights.Tests;

public sealed class StatisticsTests
{
    // By hand: mean 2.5, deviation 1.2910, t(3) = 3.1824, half width 3.1824 * 1.2910 / 2.
    [Fact]
    public void OnePieceTakesItsTokensAsIndependent()
    {
        Interval interval = Interval.Of([1, 2, 3, 4], [0, 0, 0, 0]);
        Assert.Equal(2.5, interval.Mean, 12);
        Assert.Equal(2.0542, interval.High - interval.Mean, 4);
        Assert.Equal(2.0542, interval.Mean - interval.Low, 4);
    }

    // Two pieces that agree within themselves are two observations, 1 and 3, whatever their length: deviation 1.4142 / sqrt(2) = 1.
    [Fact]
    public void TokensOfOnePieceCountOnce()
    {
        Interval interval = Interval.Of([1, 1, 1, 3, 3, 3], [0, 0, 0, 1, 1, 1]);
        Assert.Equal(2, interval.Mean, 12);
        Assert.Equal(12.7062, interval.High - interval.Mean, 4);
    }

    [Fact]
    public void EqualValuesLeaveNoDoubt()
    {
        Assert.Equal(new Interval(7, 7, 7), Interval.Of([7, 7, 7, 7], [0, 0, 1, 1]));
        Assert.Equal(new Interval(7, 7, 7), Interval.Of([7], [0]));
        Assert.Throws<ArgumentException>(() => Interval.Of([], []));
    }

    // 95 of 100 intervals hold the true mean, also when pieces shift as a whole: 2000 draws, so 3 standard errors are 1.5 %.
    [Fact]
    public void IntervalsHoldTheTrueMeanAsOftenAsTheySay()
    {
        var random = new Random(3);
        int held = 0;
        const int drawCount = 2000, pieceCount = 12, perPiece = 20;
        var values = new double[pieceCount * perPiece];
        var pieces = new int[values.Length];
        for (int draw = 0; draw < drawCount; draw++)
        {
            for (int piece = 0; piece < pieceCount; piece++)
            {
                double shift = Gaussian(random);
                for (int i = 0; i < perPiece; i++)
                {
                    values[piece * perPiece + i] = 5 + shift + Gaussian(random);
                    pieces[piece * perPiece + i] = piece;
                }
            }

            Interval interval = Interval.Of(values, pieces);
            held += interval.Low <= 5 && interval.High >= 5 ? 1 : 0;
        }

        Assert.InRange(held / (double)drawCount, 0.935, 0.965);
    }

    [Theory]
    [InlineData(1, 12.7062)]
    [InlineData(30, 2.0423)]
    [InlineData(31, 2.0395)]
    [InlineData(60, 2.0003)]
    [InlineData(1000, 1.9623)]
    public void QuantilesAreThoseOfTheTables(int freedom, double expected) => Assert.Equal(expected, Interval.StudentQuantile(freedom), 1.2e-4);

    [Fact]
    public void PercentilesLieBetweenNeighbours()
    {
        double[] sorted = [0, 10, 20, 30, 40];
        Assert.Equal([20, 36, 39.96, 40, 0], new double[] { 50, 90, 99.9, 100, 0 }.Select(percent => Math.Round(Interval.Percentile(sorted, percent), 10)));
        Assert.Equal(3, Interval.Percentile([3], 99));
    }

    // p = (1/2, 1/4, 1/8, 1/8), q = (1/4, 1/2, 1/8, 1/8): KL = 1/2 ln 2 - 1/4 ln 2.
    [Fact]
    public void DivergenceOfKnownDistributions()
    {
        float[] p = [MathF.Log(4), MathF.Log(2), 0, 0, -100, -100], q = [MathF.Log(2) + 3, MathF.Log(4) + 3, 3, 3, -100, -100];
        TokenScore score = TokenComparison.Compare(p, q, 1);
        Assert.Equal(0.25 * Math.Log(2), score.Divergence, 1e-6);
        Assert.Equal(Math.Log(0.25), score.ReferenceLogProb, 1e-6);
        Assert.Equal(Math.Log(0.5), score.CandidateLogProb, 1e-6);
        Assert.Equal(0.25, score.ProbabilityDifference, 1e-6);
        Assert.Equal((0, 1, 5), (score.ReferenceTop, score.CandidateTop, score.SharedOfTopFive));
        Assert.Equal(Math.Log(0.5), score.ReferenceTopLogProb, 1e-6);
    }

    [Fact]
    public void EqualPredictionsDivergeByExactlyZeroInEitherForm()
    {
        var random = new Random(5);
        for (int round = 0; round < 20; round++)
        {
            float[] logits = Logits(random, 3000, 1 + round);
            int target = random.Next(logits.Length);
            TokenScore full = TokenComparison.Compare(logits, logits, target);
            TokenScore kept = TokenComparison.Compare(KeptPrediction.From(logits, target), logits, target);
            foreach (TokenScore score in (TokenScore[])[full, kept])
            {
                Assert.Equal(0, score.Divergence);
                Assert.Equal(score.ReferenceLogProb, score.CandidateLogProb);
                Assert.Equal(score.ReferenceTop, score.CandidateTop);
                Assert.Equal(5, score.SharedOfTopFive);
            }
        }
    }

    // Lumping what was not kept can only hide divergence, and hides little of it.
    [Fact]
    public void AKeptPredictionLosesLittle()
    {
        var random = new Random(6);
        for (int round = 0; round < 20; round++)
        {
            float[] reference = Logits(random, 5000, 2 + round % 7), candidate = [.. reference.Select(logit => logit + 0.3f * (float)Gaussian(random))];
            KeptPrediction kept = KeptPrediction.From(reference, 17);
            TokenScore full = TokenComparison.Compare(reference, candidate, 17), stored = TokenComparison.Compare(kept, candidate, 17);
            Assert.InRange(kept.RestMass, 0, 1e-4);
            Assert.InRange(kept.Ids.Length, KeptPrediction.FewestKept, reference.Length);
            Assert.Equal(kept.Ids.Length, kept.Ids.Distinct().Count());
            Assert.InRange(stored.Divergence, full.Divergence - 1e-4, full.Divergence + 1e-6);
            Assert.Equal(full.ReferenceLogProb, stored.ReferenceLogProb, 1e-7 * Math.Abs(full.ReferenceLogProb)); // one float32 rounding
            Assert.Equal((full.ReferenceTop, full.CandidateTop, full.SharedOfTopFive), (stored.ReferenceTop, stored.CandidateTop, stored.SharedOfTopFive));
        }
    }

    [Fact]
    public void TiesGoToTheSmallerIdInEitherForm()
    {
        float[] logits = [1, 2, 2, -3, 2, 1, 0, 0];
        TokenScore score = TokenComparison.Compare(logits, logits, 0);
        Assert.Equal(1, score.ReferenceTop);
        Assert.Equal([1, 2, 4, 0, 5, 6, 7, 3], KeptPrediction.From(logits, 0).Ids);
    }

    [Fact]
    public void LogitsThatAreNotFiniteAreAnError() =>
        Assert.Throws<InvalidOperationException>(() => TokenComparison.Compare([1, float.NaN, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6], 0));

    [Fact]
    public void TheSecondHalfOfEveryWholePieceIsScored()
    {
        var pieces = new TextPieces([.. Enumerable.Range(0, 35)], 16);
        Assert.Equal((16, 2, 8, 7, 14), (pieces.Length, pieces.Count, pieces.FirstScored, pieces.ScoredPerPiece, pieces.ScoredCount));
        Assert.Equal(16, pieces.Piece(1)[0]);
        var shorter = new TextPieces([.. Enumerable.Range(0, 9)], 16);
        Assert.Equal((9, 1, 4, 4), (shorter.Length, shorter.Count, shorter.FirstScored, shorter.ScoredPerPiece));
    }

    private static float[] Logits(Random random, int count, double deviation) => [.. Enumerable.Range(0, count).Select(_ => (float)(deviation * Gaussian(random)))];

    private static double Gaussian(Random random) => Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(2 * Math.PI * random.NextDouble());
}
