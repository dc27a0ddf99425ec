using Qian.Kernels.Tests.Ops;

namespace Qian.Kernels.Tests;

// The scalar tier against mathematics: a plain forward in double, and its finite differences.
public sealed class CausalAttentionTests
{
    private static readonly AttentionShape[] s_shapes = [new(1, 1, 8), new(4, 2, 16), new(3, 1, 24), new(2, 2, 32)];

    [Fact]
    public void Scalar_forward_is_textbook_attention()
    {
        foreach (AttentionShape shape in s_shapes)
        {
            using var c = new CausalAttentionCase(shape, CausalAttentionCase.BordersOf(1, 2, 0, 17, 70));
            CausalAttentionCase.Outcome found = c.Run(Isa.Scalar);
            (double[] y, double[] logSumExp) = Textbook(c, Doubles(c.Q), Doubles(c.K), Doubles(c.V));
            AssertNear(y, found.Y, 1e-7, $"{shape} y");
            AssertNear(logSumExp, found.LogSumExp, 1e-7, $"{shape} logSumExp");
        }
    }

    // Central differences of sum(y · dy) in double: their own error is about 1e-9. What is left is the rounding of y and
    // logSumExp to float on their way from the forward to the backward, a few 1e-7.
    [Fact]
    public void Scalar_backward_is_the_slope_of_the_forward()
    {
        foreach (AttentionShape shape in s_shapes)
        {
            using var c = new CausalAttentionCase(shape, CausalAttentionCase.BordersOf(1, 2, 9, 6));
            CausalAttentionCase.Outcome found = c.Run(Isa.Scalar);
            double[] q = Doubles(c.Q), k = Doubles(c.K), v = Doubles(c.V), dy = Doubles(c.DY);
            AssertNear(Slopes(q), found.DQ, 1e-5, $"{shape} dq");
            AssertNear(Slopes(k), found.DK, 1e-5, $"{shape} dk");
            AssertNear(Slopes(v), found.DV, 1e-5, $"{shape} dv");

            double[] Slopes(double[] input)
            {
                const double Step = 1e-5;
                double[] slopes = new double[input.Length];
                for (int i = 0; i < input.Length; i++)
                {
                    double at = input[i];
                    input[i] = at + Step;
                    double above = Objective();
                    input[i] = at - Step;
                    slopes[i] = (above - Objective()) / (2 * Step);
                    input[i] = at;
                }

                return slopes;
            }

            double Objective()
            {
                double[] y = Textbook(c, q, k, v).Y;
                double sum = 0;
                for (int i = 0; i < y.Length; i++)
                    sum += y[i] * dy[i];
                return sum;
            }
        }
    }

    [Fact]
    public void Views_that_are_too_short_are_refused()
    {
        var shape = new AttentionShape(4, 2, 16);
        int[] borders = [0, 3, 8];
        using var arena = new Arena();
        using var team = new ThreadTeam(1);
        using var scratch = new CausalAttentionScratch(shape, 8, 1);
        int[] needed = [8 * 64, 8 * 32, 8 * 32, 8 * 64, 8 * 4, 8 * 64, 8 * 64, 8 * 32, 8 * 32];
        for (int tooShort = 0; tooShort < needed.Length; tooShort++)
        {
            FloatView[] views = [.. needed.Select((count, i) => arena.Zeros(i == tooShort ? count - 1 : count))];
            if (tooShort < 5)
                Assert.Throws<ArgumentException>(() => CausalAttention.Forward(shape, views[0], views[1], views[2], views[3], views[4], borders, scratch, team));
            Assert.Throws<ArgumentException>(() =>
                CausalAttention.Backward(shape, views[0], views[1], views[2], views[3], views[4], views[5], views[6], views[7], views[8], borders, scratch, team));
        }
    }

    [Fact]
    public void Overlaps_bad_borders_and_foreign_scratch_are_refused()
    {
        var shape = new AttentionShape(2, 1, 8);
        using var arena = new Arena();
        using var team = new ThreadTeam(1);
        using var scratch = new CausalAttentionScratch(shape, 8, 1);
        using var foreign = new CausalAttentionScratch(new AttentionShape(2, 2, 8), 8, 1);
        FloatView q = arena.Random(9 * 16), k = arena.Random(9 * 8), v = arena.Random(9 * 8), y = arena.Zeros(9 * 16), logSumExp = arena.Zeros(9 * 2);
        FloatView dk = arena.Zeros(9 * 8);
        CausalAttention.Forward(shape, q, k, v, y, logSumExp, [0, 8], scratch, team);
        foreach (int[] borders in new int[][] { [], [1, 8], [0, 5, 4, 8], [0, 9] })
            Assert.Throws<ArgumentException>(() => CausalAttention.Forward(shape, q, k, v, y, logSumExp, borders, scratch, team));
        Assert.Throws<ArgumentException>(() => CausalAttention.Forward(shape, q, k, v, y, logSumExp, [0, 8], foreign, team));
        Assert.Throws<ArgumentException>(() => CausalAttention.Forward(shape, q, k, v, q, logSumExp, [0, 8], scratch, team));
        Assert.Throws<ArgumentException>(() => CausalAttention.Backward(shape, q, k, v, y, logSumExp, q, y, dk, arena.Zeros(9 * 8), [0, 8], scratch, team));
        Assert.Throws<ArgumentException>(() => CausalAttention.Backward(shape, q, k, v, y, logSumExp, q, arena.Zeros(9 * 16), dk, dk, [0, 8], scratch, team));
    }

    private static (double[] Y, double[] LogSumExp) Textbook(CausalAttentionCase c, double[] q, double[] k, double[] v)
    {
        int heads = c.Shape.Heads, kvHeads = c.Shape.KvHeads, headDim = c.Shape.HeadDim;
        double[] y = new double[q.Length], logSumExp = new double[c.RowCount * heads];
        for (int sample = 0; sample + 1 < c.Borders.Length; sample++)
        {
            for (int row = c.Borders[sample]; row < c.Borders[sample + 1]; row++)
            {
                for (int head = 0; head < heads; head++)
                {
                    int kvHead = head / (heads / kvHeads);
                    int count = row - c.Borders[sample] + 1;
                    double[] scores = new double[count];
                    for (int j = 0; j < count; j++)
                    {
                        for (int d = 0; d < headDim; d++)
                            scores[j] += q[(row * heads + head) * headDim + d] * k[((c.Borders[sample] + j) * kvHeads + kvHead) * headDim + d] / Math.Sqrt(headDim);
                    }

                    double max = scores.Max(), total = scores.Sum(score => Math.Exp(score - max));
                    logSumExp[row * heads + head] = max + Math.Log(total);
                    for (int j = 0; j < count; j++)
                    {
                        for (int d = 0; d < headDim; d++)
                            y[(row * heads + head) * headDim + d] += Math.Exp(scores[j] - max) / total * v[((c.Borders[sample] + j) * kvHeads + kvHead) * headDim + d];
                    }
                }
            }
        }

        return (y, logSumExp);
    }

    private static double[] Doubles(FloatView view) => [.. view.Span.ToArray().Select(value => (double)value)];

    // Within tolerance of the largest.
    private static void AssertNear(double[] expected, float[] actual, double tolerance, string what)
    {
        Assert.Equal(expected.Length, actual.Length);
        double bound = tolerance * expected.Max(Math.Abs);
        for (int i = 0; i < expected.Length; i++)
            Assert.True(Math.Abs(actual[i] - expected[i]) <= bound, $"{what}[{i}]: expected {expected[i]:R}, found {actual[i]:R}");
    }
}
