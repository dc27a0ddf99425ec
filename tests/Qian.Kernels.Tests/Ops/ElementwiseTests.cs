namespace Qian.Kernels.Tests.Ops;

public class ElementwiseTests
{
    [Theory]
    [MemberData(nameof(Arena.FastTiers), MemberType = typeof(Arena))]
    public void FastTiersAreTheScalarOneAtOddSizes(Isa isa)
    {
        using var arena = new Arena();
        using var team = new ThreadTeam(3);
        foreach (int count in new[] { 1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100, 40_001 })
        {
            FloatView x = arena.Random(count, 8), up = arena.Random(count), expected = arena.Copy(x), y = arena.Copy(x);
            Residual.Add(Isa.Scalar, expected, up, count, team);
            Residual.Add(isa, y, up, count, team);
            Near.Bits(expected.Span, y.Span, $"residual {count}");

            SwiGlu.Apply(Isa.Scalar, x, up, expected, count, team);
            SwiGlu.Apply(isa, x, up, y, count, team);
            Near.Each(expected.Span, y.Span, 1e-5, 1e-30, $"swiglu {count}");
            SwiGlu.Apply(isa, x, up, x, count, team);
            Near.Bits(y.Span, x.Span, "in place");
        }
    }

    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void AnElementDoesNotDependOnItsPlace(Isa isa)
    {
        using var arena = new Arena();
        using var one = new ThreadTeam(1);
        using var three = new ThreadTeam(3);
        const int Count = 33_333;
        FloatView gate = arena.Random(Count, 20), up = arena.Random(Count), whole = arena.Zeros(Count), part = arena.Zeros(Count);
        SwiGlu.Apply(isa, gate, up, whole, Count, three);
        for (int start = 0; start < Count; start += 1111)
        {
            int count = Math.Min(1111, Count - start);
            SwiGlu.Apply(isa, gate.Slice(start, count), up.Slice(start, count), part.Slice(start, count), count, one);
        }

        Near.Bits(whole.Span, part.Span);
    }

    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void OutputGateTakesTheSecondHalfOfEachHead(Isa isa)
    {
        using var arena = new Arena();
        using var one = new ThreadTeam(1);
        using var three = new ThreadTeam(3);
        foreach ((int rows, int heads, int headDim) in new[] { (3, 2, 8), (5, 3, 20), (9, 24, 256), (2, 1, 1) })
        {
            FloatView y = arena.Random(rows * heads * headDim), qGate = arena.Random(rows * heads * 2 * headDim, 5);
            float[] expected = new float[y.Length];
            for (int i = 0; i < expected.Length; i++)
            {
                float gate = qGate.Span[i / headDim * 2 * headDim + headDim + i % headDim];
                expected[i] = (float)(y.Span[i] / (1 + Math.Exp(-gate)));
            }

            FloatView rowByRow = arena.Copy(y);
            OutputGate.Apply(isa, y, qGate, rows, heads, headDim, three);
            Near.Each(expected, y.Span, 1e-6, 1e-30);

            int width = heads * headDim;
            for (int t = 0; t < rows; t++)
                OutputGate.Apply(isa, rowByRow.Slice(t * width, width), qGate.Slice(t * 2 * width, 2 * width), 1, heads, headDim, one);
            Near.Bits(y.Span, rowByRow.Span);
        }
    }

    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void DeltaGatesFollowTheirFormula(Isa isa)
    {
        using var arena = new Arena();
        using var team = new ThreadTeam(3);
        foreach ((int rows, int heads) in new[] { (1, 48), (5, 3), (900, 41) })
        {
            FloatView alpha = arena.Random(rows * heads, 10), b = arena.Random(rows * heads, 10);
            FloatView decay = arena.Random(heads, 4), bias = arena.Random(heads, 3);
            FloatView g = arena.Zeros(rows * heads), beta = arena.Zeros(rows * heads);
            DeltaGates.Apply(isa, alpha, b, decay, bias, g, beta, rows, heads, team);
            for (int i = 0; i < rows * heads; i++)
            {
                double biased = alpha.Span[i] + bias.Span[i % heads];
                double expected = decay.Span[i % heads] * Math.Log(1 + Math.Exp(biased));
                Assert.Equal(expected, g.Span[i], Math.Abs(expected) * 1e-6 + 1e-12);
                Assert.Equal(1 / (1 + Math.Exp(-b.Span[i])), beta.Span[i], 1e-6);
            }
        }
    }

    [Fact]
    public void RowsMove()
    {
        using var arena = new Arena();
        FloatView source = arena.Of(0, 1, 10, 11, 20, 21), picked = arena.Zeros(8);
        Rows.Gather(source, 2, [2, 0, 0, 1], picked);
        Assert.Equal([20, 21, 0, 1, 0, 1, 10, 11], picked.Span.ToArray());

        FloatView scattered = arena.Zeros(6);
        Rows.Scatter(arena.Of(7, 8, 9, 10), 2, [2, 0], scattered);
        Assert.Equal([9, 10, 0, 0, 7, 8], scattered.Span.ToArray());

        FloatView both = arena.Zeros(8);
        Rows.Concatenate(source, scattered, both, 2, 2);
        Assert.Equal([0, 1, 9, 10, 10, 11, 0, 0], both.Span.ToArray());

        Assert.Throws<ArgumentException>(() => Rows.Gather(source, 2, [3], picked));
        Assert.Throws<ArgumentException>(() => Rows.Gather(source, 2, [-1], picked));
        Assert.Throws<ArgumentException>(() => Rows.Scatter(source, 2, [3], scattered));
        Assert.Throws<ArgumentException>(() => Rows.Concatenate(source, source, both, 3, 2));
    }
}
