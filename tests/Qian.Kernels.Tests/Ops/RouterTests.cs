namespace Qian.Kernels.Tests.Ops;

public class RouterTests
{
    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void TakesTheMostProbableInOrder(Isa isa)
    {
        using var arena = new Arena();
        foreach ((int rows, int experts, int k) in new[] { (5, 8, 2), (3, 256, 8), (4, 13, 13), (2, 1, 1), (1, 4096, 16) })
        {
            FloatView logits = arena.Random(rows * experts, 4), weights = arena.Zeros(rows * k), probabilities = arena.Zeros(rows * experts);
            int[] indices = new int[rows * k];
            Router.TopK(isa, logits, rows, experts, k, indices, weights, probabilities);
            for (int t = 0; t < rows; t++)
            {
                double[] exact = [.. logits.Slice(t * experts, experts).Span.ToArray().Select(l => Math.Exp(l))];
                double sum = exact.Sum();
                for (int e = 0; e < experts; e++)
                    Assert.Equal(exact[e] / sum, probabilities.Span[t * experts + e], exact[e] / sum * 2e-6);
                int[] order = [.. Enumerable.Range(0, experts).OrderByDescending(e => exact[e]).Take(k)];
                Assert.Equal(order, indices[(t * k)..(t * k + k)]);
                double top = order.Sum(e => exact[e]);
                for (int j = 0; j < k; j++)
                    Assert.Equal(exact[order[j]] / top, weights.Span[t * k + j], 2e-6);
            }

            int[] again = new int[rows * k];
            FloatView weightsAgain = arena.Zeros(rows * k);
            Router.TopK(isa, logits, rows, experts, k, again, weightsAgain, default);
            Assert.Equal(indices, again);
            Near.Bits(weights.Span, weightsAgain.Span);
        }
    }

    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void TiesGoToTheLowerIndexAndNaNGivesDistinctExperts(Isa isa)
    {
        using var arena = new Arena();
        FloatView weights = arena.Zeros(6);
        int[] indices = new int[6];
        FloatView logits = arena.Of(1, 2, 2, 2, 0, float.NaN, float.NaN, float.NaN, float.NaN, float.NaN);
        Router.TopK(isa, logits, 2, 5, 3, indices, weights, default);
        Assert.Equal([1, 2, 3, 0, 1, 2], indices);
        Assert.Equal(1f / 3, weights.Span[0], 6);

        // Far apart: the rest underflows to exactly zero and still ranks by index.
        Router.TopK(isa, arena.Of(-1e4f, -1e4f, 1e4f, -1e4f), 1, 4, 3, indices, weights, default);
        Assert.Equal([2, 0, 1], indices[..3]);
        Assert.Equal([1, 0, 0], weights.Span[..3].ToArray());
    }

    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void CombinesExpertsThenTheSharedOne(Isa isa)
    {
        using var one = new ThreadTeam(1);
        using var three = new ThreadTeam(3);
        foreach ((int rows, int k, int width) in new[] { (3, 2, 5), (2, 8, 100), (30, 4, 517) })
        {
            using var arena = new Arena();
            FloatView experts = arena.Random(rows * k * width), weights = arena.Random(rows * k), shared = arena.Random(rows * width);
            FloatView gate = arena.Random(rows, 3), y = arena.Zeros(rows * width);
            Router.Combine(isa, experts, weights, shared, gate, y, rows, k, width, three);
            for (int t = 0; t < rows; t++)
            {
                for (int i = 0; i < width; i++)
                {
                    double expected = shared.Span[t * width + i] / (1 + Math.Exp(-gate.Span[t]));
                    for (int j = 0; j < k; j++)
                        expected += (double)weights.Span[t * k + j] * experts.Span[(t * k + j) * width + i];
                    Assert.Equal(expected, y.Span[t * width + i], 2e-6);
                }
            }

            FloatView rowByRow = arena.Zeros(rows * width);
            for (int t = 0; t < rows; t++)
            {
                Router.Combine(isa, experts.Slice(t * k * width), weights.Slice(t * k), shared.Slice(t * width), gate.Slice(t), rowByRow.Slice(t * width, width),
                    1, k, width, one);
            }

            Near.Bits(y.Span, rowByRow.Span);
        }
    }

    [Fact]
    public void BadArgumentsAreRefused()
    {
        using var arena = new Arena();
        FloatView eight = arena.Zeros(8);
        Assert.Throws<ArgumentOutOfRangeException>(() => Router.TopK(eight, 1, 4, 5, new int[5], eight, default));
        Assert.Throws<ArgumentOutOfRangeException>(() => Router.TopK(eight, 1, 5000, 5, new int[5], eight, default));
        Assert.Throws<ArgumentException>(() => Router.TopK(eight, 2, 4, 2, new int[3], eight, default));
        Assert.Throws<ArgumentException>(() => Router.TopK(eight, 3, 4, 2, new int[6], eight, default));
    }
}
