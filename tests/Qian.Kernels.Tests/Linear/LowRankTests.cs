using Qian.Kernels.Tests.Ops;

namespace Qian.Kernels.Tests.Linear;

public class LowRankTests
{
    // Around the tiles of 4 and 2, the vectors of 8 and 16, and the blocks of 64.
    private static readonly (int Rank, int Input, int Output)[] s_shapes =
        [(1, 1, 1), (1, 7, 9), (2, 8, 16), (3, 17, 63), (4, 32, 64), (5, 33, 65), (8, 100, 129), (16, 128, 256), (64, 40, 200), (9, 257, 31)];

    private static readonly int[] s_rowCounts = [1, 2, 3, 8, 17];

    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void TheProductIsAddedToEveryRow(Isa isa)
    {
        using var team = new ThreadTeam(2);
        foreach ((int rank, int input, int output) in s_shapes)
        {
            foreach (int rows in s_rowCounts)
            {
                using var arena = new Arena(rank + rows);
                int xStride = input + 3, yStride = output + 5;
                FloatView x = arena.Random(rows * xStride), y = arena.Random(rows * yStride), before = arena.Copy(y), inner = arena.Zeros(rows * rank);
                LowRankFactors factors = Factors(arena, rank, input, output);
                LowRank.Apply(isa, factors, x, xStride, y, yStride, rows, inner, team);
                Near.Scaled(Expected(factors, x, xStride, before, yStride, rows), y.Span, 2e-6, $"{rank}/{input}/{output}, {rows} rows");
            }
        }
    }

    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void ARowIsTheSameAloneAmongManyAndOnAnyThreads(Isa isa)
    {
        using var one = new ThreadTeam(1);
        using var three = new ThreadTeam(3);
        using var arena = new Arena(7);
        const int Rows = 33, Rank = 11, Input = 515, Output = 1027;
        LowRankFactors factors = Factors(arena, Rank, Input, Output);
        FloatView x = arena.Random(Rows * Input), start = arena.Random(Rows * Output), together = arena.Copy(start), alone = arena.Copy(start);
        FloatView inner = arena.Zeros(Rows * Rank);
        LowRank.Apply(isa, factors, x, Input, together, Output, Rows, inner, three);
        for (int row = 0; row < Rows; row++)
            LowRank.Apply(isa, factors, x.Slice(row * Input), Input, alone.Slice(row * Output), Output, 1, inner, one);
        Near.Bits(alone.Span, together.Span, "rows");
    }

    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void NothingIsAllocated(Isa isa)
    {
        using var team = new ThreadTeam(2);
        using var arena = new Arena();
        LowRankFactors factors = Factors(arena, 16, 1024, 2048);
        FloatView x = arena.Random(9 * 1024), y = arena.Random(9 * 2048), inner = arena.Zeros(9 * 16);
        LowRank.Apply(isa, factors, x, 1024, y, 2048, 9, inner, team);
        long before = GC.GetAllocatedBytesForCurrentThread();
        LowRank.Apply(isa, factors, x, 1024, y, 2048, 9, inner, team);
        Assert.Equal(before, GC.GetAllocatedBytesForCurrentThread());
    }

    [Fact]
    public void ViewsThatAreTooShortAreRefused()
    {
        using var team = new ThreadTeam(1);
        using var arena = new Arena();
        LowRankFactors factors = Factors(arena, 4, 8, 16);
        FloatView x = arena.Zeros(2 * 8), y = arena.Zeros(2 * 16), inner = arena.Zeros(2 * 4);
        LowRank.Apply(factors, x, 8, y, 16, 2, inner, team);
        LowRank.Apply(factors, x, 8, y, 16, 0, inner, team);
        Assert.Throws<ArgumentException>(() => LowRank.Apply(factors, x, 8, y, 16, 3, inner, team));
        Assert.Throws<ArgumentException>(() => LowRank.Apply(factors, x, 8, y.Slice(1), 16, 2, inner, team));
        Assert.Throws<ArgumentException>(() => LowRank.Apply(factors, x, 8, y, 16, 2, inner.Slice(1), team));
        Assert.Throws<ArgumentException>(() => LowRank.Apply(factors with { Rank = 5 }, x, 8, y, 16, 2, arena.Zeros(10), team));
        Assert.Throws<ArgumentOutOfRangeException>(() => LowRank.Apply(factors, x, 7, y, 16, 2, inner, team));
        Assert.Throws<ArgumentOutOfRangeException>(() => LowRank.Apply(factors, x, 8, y, 15, 2, inner, team));
    }

    private static LowRankFactors Factors(Arena arena, int rank, int input, int output) => new(arena.Random(rank * input), arena.Random(rank * output), rank, input, output);

    // In double throughout, gaps between rows as they were.
    private static float[] Expected(in LowRankFactors factors, FloatView x, int xStride, FloatView y, int yStride, int rows)
    {
        float[] expected = y.Span.ToArray();
        for (int row = 0; row < rows; row++)
        {
            var inner = new double[factors.Rank];
            for (int k = 0; k < factors.Rank; k++)
            {
                for (int i = 0; i < factors.InputCount; i++)
                    inner[k] += (double)factors.Down.Span[k * factors.InputCount + i] * x.Span[row * xStride + i];
            }

            for (int o = 0; o < factors.OutputCount; o++)
            {
                double sum = 0;
                for (int k = 0; k < factors.Rank; k++)
                    sum += inner[k] * factors.Up.Span[k * factors.OutputCount + o];
                expected[row * yStride + o] = (float)(expected[row * yStride + o] + sum);
            }
        }

        return expected;
    }
}
