namespace Qian.Kernels.Tests.Ops;

public class CrossEntropyTests
{
    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void LossAndGradientAreTheDefinition(Isa isa)
    {
        using var team = new ThreadTeam(2);
        foreach ((int rows, int vocabulary) in new[] { (3, 1), (5, 2), (4, 33), (7, 4096), (3, 12_345), (1, 248_320) })
        {
            using var arena = new Arena(vocabulary);
            FloatView logits = arena.Random(rows * vocabulary, 12), untouched = arena.Copy(logits), loss = arena.Random(rows), lossAlone = arena.Random(rows);
            int[] labels = [.. Enumerable.Range(0, rows).Select(t => t == 1 ? CrossEntropy.Ignored : t * 7919 % vocabulary)];
            float[] gradient = new float[rows * vocabulary], losses = new float[rows];
            const double Scale = 0.37f;
            for (int t = 0; t < rows; t++)
            {
                if (labels[t] == CrossEntropy.Ignored)
                    continue;
                double[] p = [.. logits.Slice(t * vocabulary, vocabulary).Span.ToArray().Select(l => Math.Exp(l))];
                double sum = p.Sum();
                for (int i = 0; i < vocabulary; i++)
                    gradient[t * vocabulary + i] = (float)(Scale * (p[i] / sum - (i == labels[t] ? 1 : 0)));
                losses[t] = (float)(Math.Log(sum) - logits.Span[t * vocabulary + labels[t]]);
            }

            CrossEntropy.Run(isa, logits, rows, vocabulary, labels, (float)Scale, loss, withGradient: true, team);
            Near.Each(gradient, logits.Span, 3e-6, 1e-9, $"gradient {vocabulary}");
            Near.Each(losses, loss.Span, 1e-6, 0.1, $"loss {vocabulary}");

            FloatView evaluated = arena.Copy(untouched);
            CrossEntropy.Run(isa, evaluated, rows, vocabulary, labels, 0, lossAlone, withGradient: false, team);
            Near.Bits(untouched.Span, evaluated.Span, "logits of an evaluation");
            Near.Bits(loss.Span, lossAlone.Span, "loss of an evaluation");
        }
    }

    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void TheGradientIsTheDifferenceOfTheLoss(Isa isa)
    {
        using var arena = new Arena();
        using var team = new ThreadTeam(1);
        FloatView logits = arena.Random(2 * 21, 3), loss = arena.Zeros(2);
        int[] labels = [20, 4];
        double[] ls = logits.Doubles();
        float[] expected = Slope.Of(ls, () => Enumerable.Range(0, 2).Sum(t =>
            Math.Log(ls.Skip(t * 21).Take(21).Sum(Math.Exp)) - ls[t * 21 + labels[t]]));
        CrossEntropy.Run(isa, logits, 2, 21, labels, 1, loss, withGradient: true, team);
        Near.Scaled(expected, logits.Span, 1e-6);
    }

    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void ExtremeLogits(Isa isa)
    {
        using var arena = new Arena();
        using var team = new ThreadTeam(1);
        const int V = 40;
        FloatView logits = arena.Zeros(5 * V), loss = arena.Zeros(5);
        logits.Slice(0, V).Span.Fill(3e38f);            // All equal and as large as they get.
        logits.Span[V] = 1e4f;                          // Certain and right.
        logits.Span[2 * V + 1] = 1e4f;                  // Certain and wrong.
        logits.Span[3 * V + 7] = float.NaN;
        logits.Slice(4 * V, V).Span.Fill(float.NegativeInfinity);
        logits.Span[4 * V + 3] = -5;                    // Everything else is forbidden.
        CrossEntropy.Run(isa, logits, 5, V, [0, 0, 0, 0, 3], 1, loss, withGradient: true, team);
        Assert.Equal(Math.Log(V), loss.Span[0], 5);
        Assert.Equal(1f / V - 1, logits.Span[0], 6);
        Assert.Equal(0, loss.Span[1]);
        Assert.All(logits.Slice(V, V).Span.ToArray(), g => Assert.Equal(0f, g));
        Assert.Equal(1e4f, loss.Span[2]);
        Assert.Equal([-1f, 1f, 0f], logits.Slice(2 * V, 3).Span.ToArray());
        Assert.True(float.IsNaN(loss.Span[3]));
        Assert.Equal(0, loss.Span[4]);
        Assert.All(logits.Slice(4 * V, V).Span.ToArray(), g => Assert.Equal(0f, g));
    }

    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void ThreadsChangeNoBit(Isa isa)
    {
        const int Rows = 37, V = 3001;
        using var arena = new Arena();
        using var one = new ThreadTeam(1);
        using var two = new ThreadTeam(2);
        FloatView alone = arena.Random(Rows * V, 9), shared = arena.Copy(alone), lossAlone = arena.Zeros(Rows), lossShared = arena.Zeros(Rows);
        int[] labels = [.. Enumerable.Range(0, Rows)];
        CrossEntropy.Run(isa, alone, Rows, V, labels, 0.1f, lossAlone, withGradient: true, one);
        CrossEntropy.Run(isa, shared, Rows, V, labels, 0.1f, lossShared, withGradient: true, two);
        Near.Bits(alone.Span, shared.Span);
        Near.Bits(lossAlone.Span, lossShared.Span);
    }

    [Fact]
    public void BadLabelsAndShortViewsAreRefusedBeforeAnythingIsWritten()
    {
        using var arena = new Arena();
        using var team = new ThreadTeam(1);
        FloatView logits = arena.Random(20), before = arena.Copy(logits), loss = arena.Zeros(2);
        ArgumentException error = Assert.Throws<ArgumentException>(() => CrossEntropy.Apply(logits, 2, 10, [3, 10], 1, loss, team));
        Assert.StartsWith("labels: row 1 has 10: expected 0 to 9, or -100 for none", error.Message);
        error = Assert.Throws<ArgumentException>(() => CrossEntropy.Loss(logits, 2, 10, [-1, 3], loss, team));
        Assert.StartsWith("labels: row 0 has -1", error.Message);
        error = Assert.Throws<ArgumentException>(() => CrossEntropy.Apply(logits, 2, 10, [3], 1, loss, team));
        Assert.StartsWith("labels: expected at least 2, found 1", error.Message);
        error = Assert.Throws<ArgumentException>(() => CrossEntropy.Apply(logits, 2, 11, [3, 3], 1, loss, team));
        Assert.StartsWith("logits: expected at least 22 floats, found 20", error.Message);
        error = Assert.Throws<ArgumentException>(() => CrossEntropy.Apply(logits, 2, 10, [3, 3], 1, loss.Slice(1), team));
        Assert.StartsWith("rowLoss: expected at least 2 floats, found 1", error.Message);
        Near.Bits(before.Span, logits.Span);
    }
}
