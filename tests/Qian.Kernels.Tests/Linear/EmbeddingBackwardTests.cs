using Qian.Kernels.Tests.Ops;

namespace Qian.Kernels.Tests.Linear;

public class EmbeddingBackwardTests
{
    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void RowsOfOneTokenAddUpInOrder(Isa isa)
    {
        using var one = new ThreadTeam(1);
        using var three = new ThreadTeam(3);
        foreach ((int tokens, int vocabulary, int width) in new[] { (0, 3, 4), (5, 1, 1), (40, 7, 19), (900, 50, 130) })
        {
            using var arena = new Arena(width);
            var random = new Random(tokens);
            int[] ids = [.. Enumerable.Range(0, tokens).Select(_ => random.Next(vocabulary))];
            FloatView dy = arena.Random(tokens * width), table = arena.Random(vocabulary * width), shared = arena.Copy(table);
            float[] expected = table.Span.ToArray();
            for (int i = 0; i < tokens * width; i++)
                expected[ids[i / width] * width + i % width] += dy.Span[i];
            Embedding.ScatterAdd(isa, ids, dy, table, width, vocabulary, one);
            Embedding.ScatterAdd(isa, ids, dy, shared, width, vocabulary, three);
            Near.Bits(expected, table.Span);
            Near.Bits(expected, shared.Span);
        }
    }

    [Fact]
    public void BadArgumentsAreRefused()
    {
        using var arena = new Arena();
        using var team = new ThreadTeam(1);
        FloatView dy = arena.Zeros(6), table = arena.Zeros(9);
        ArgumentException error = Assert.Throws<ArgumentException>(() => Embedding.ScatterAdd([0, 3], dy, table, 3, 3, team));
        Assert.StartsWith("tokenIds: 3 at 1: expected 0 to 2", error.Message);
        Assert.Throws<ArgumentException>(() => Embedding.ScatterAdd([-1], dy, table, 3, 3, team));
        error = Assert.Throws<ArgumentException>(() => Embedding.ScatterAdd([0, 1, 2], dy, table, 3, 3, team));
        Assert.StartsWith("dy: expected at least 9 floats, found 6", error.Message);
        error = Assert.Throws<ArgumentException>(() => Embedding.ScatterAdd([0], dy, table, 3, 4, team));
        Assert.StartsWith("dTable: expected at least 12 floats, found 9", error.Message);
    }
}
