namespace Qian.Kernels.Tests.Ops;

public class AdamWTests
{
    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void StepsAreTheDefinition(Isa isa)
    {
        using var team = new ThreadTeam(2);
        foreach (int count in new[] { 1, 19, 64, 40_003 })
        {
            using var arena = new Arena(count);
            FloatView value = arena.Random(count), gradient = arena.Zeros(count), m = arena.Zeros(count), v = arena.Zeros(count);
            double[] values = value.Doubles(), ms = new double[count], vs = new double[count];
            var random = new Random(count);
            for (int t = 1; t <= 12; t++)
            {
                for (int i = 0; i < count; i++)
                    gradient.Span[i] = (random.NextSingle() - 0.4f) * MathF.Pow(10, i % 7 - 3);
                var step = new AdamWStep(3e-3 / t, 0.9, 0.98, 1e-8, 0.1, t, 0.25);
                AdamW.Step(isa, value, gradient, m, v, step, team);
                for (int i = 0; i < count; i++)
                {
                    double g = gradient.Span[i] * 0.25;
                    values[i] *= 1 - step.LearningRate * step.WeightDecay;
                    ms[i] = 0.9 * ms[i] + 0.1 * g;
                    vs[i] = 0.98 * vs[i] + 0.02 * g * g;
                    double mean = ms[i] / (1 - Math.Pow(0.9, t)), square = vs[i] / (1 - Math.Pow(0.98, t));
                    values[i] -= step.LearningRate * mean / (Math.Sqrt(square) + 1e-8);
                }
            }

            Near.Each([.. values.Select(x => (float)x)], value.Span, 1e-6, 1, $"value {count}");
            for (int i = 0; i < count; i++)
            {
                // The mean of a gradient that changes sign cancels; its scale is the root of the squares.
                Assert.Equal(ms[i], m.Span[i], Math.Sqrt(vs[i]) * 1e-6);
                Assert.Equal(vs[i], v.Span[i], vs[i] * 2e-6);
            }
        }
    }

    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void TheFirstStepIsTheRateAgainstTheSign(Isa isa)
    {
        using var arena = new Arena();
        using var team = new ThreadTeam(1);
        FloatView value = arena.Of(1, 1, 1, 2), gradient = arena.Of(1e-3f, -50, 0, 0), m = arena.Zeros(4), v = arena.Zeros(4);
        AdamW.Step(isa, value, gradient, m, v, new AdamWStep(0.01, 0.9, 0.999, 1e-12, 0, 1), team);
        Near.Each([0.99f, 1.01f, 1, 2], value.Span, 1e-6, 1);

        // No gradient at all: the value only decays.
        value.Span.Fill(2);
        gradient.Clear();
        m.Clear();
        v.Clear();
        AdamW.Step(isa, value, gradient, m, v, new AdamWStep(0.01, 0.9, 0.999, 1e-8, 0.5, 1), team);
        Near.Each([1.99f, 1.99f, 1.99f, 1.99f], value.Span, 1e-6, 1);
    }

    [Theory]
    [MemberData(nameof(Arena.FastTiers), MemberType = typeof(Arena))]
    public void AnElementDoesNotDependOnItsPlaceOrTheThreads(Isa isa)
    {
        const int Count = 50_001;
        using var arena = new Arena();
        using var one = new ThreadTeam(1);
        using var two = new ThreadTeam(2);
        FloatView gradient = arena.Random(Count), value = arena.Random(Count), m = arena.Random(Count, 0.1f), v = arena.Zeros(Count);
        FloatView value2 = arena.Copy(value), m2 = arena.Copy(m), v2 = arena.Copy(v);
        var step = new AdamWStep(1e-3, 0.9, 0.99, 1e-8, 0.1, 5);
        AdamW.Step(isa, value, gradient, m, v, step, two);
        for (int start = 0; start < Count; start += 7_777)
        {
            int count = Math.Min(7_777, Count - start);
            AdamW.Step(isa, value2.Slice(start, count), gradient.Slice(start, count), m2.Slice(start, count), v2.Slice(start, count), step, one);
        }

        Near.Bits(value.Span, value2.Span);
        Near.Bits(m.Span, m2.Span);
        Near.Bits(v.Span, v2.Span);
    }

    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void SquaredSumIsTheSumWhateverTheThreads(Isa isa)
    {
        using var one = new ThreadTeam(1);
        using var three = new ThreadTeam(3);
        foreach (int count in new[] { 0, 1, 17, 5_000, 32_768, 32_769, 200_003 })
        {
            using var arena = new Arena(count);
            FloatView x = arena.Random(count, 5);
            double expected = x.Doubles().Sum(value => value * value), alone = SquaredSum.Of(isa, x, one);
            Assert.Equal(expected, alone, expected * 1e-6);
            Assert.Equal(alone, SquaredSum.Of(isa, x, three));
        }
    }

    [Fact]
    public void ImpossibleStepsAreRefused()
    {
        using var arena = new Arena();
        using var team = new ThreadTeam(1);
        FloatView four = arena.Zeros(4), three = arena.Zeros(3);
        var good = new AdamWStep(1e-3, 0.9, 0.99, 1e-8, 0.1, 1);
        ArgumentException error = Assert.Throws<ArgumentException>(() => AdamW.Step(four, four, three, four, good, team));
        Assert.StartsWith("4 values with 4 gradients and means of 3 and 4: expected equal lengths", error.Message);
        AdamWStep[] bad = [good with { StepIndex = 0 }, good with { Beta2 = 1 }, good with { Beta1 = -0.1 }, good with { Epsilon = double.NaN }, good with { LearningRate = double.PositiveInfinity }];
        Assert.All(bad, step => Assert.Throws<ArgumentException>(() => AdamW.Step(four, four, four, four, step, team)));
    }
}
