using Qian.Kernels.Tests.Ops;

namespace Qian.Kernels.Tests;

// The vector tiers against the scalar one, and what must hold in every tier to the bit.
public sealed class CausalAttentionTierTests
{
    // Within this part of the largest value. A score of 256 products rounded to float is off by about 1e-6 of its size (up to 30
    // here), and so is the weight e^score; sums over rows average that rather than add it. Measured: 1e-6.
    private const double Tolerance = 1e-5;

    [Theory]
    [MemberData(nameof(Arena.FastTiers), MemberType = typeof(Arena))]
    public void Every_sample_length_is_the_definition(Isa isa)
    {
        int[] borders = CausalAttentionCase.BordersOf(1, 2, 0, 63, 64, 65, 200, 7, 9, 129);
        foreach (AttentionShape shape in new AttentionShape[] { new(2, 1, 32), new(4, 4, 8), new(6, 2, 72), new(2, 1, 64) })
        {
            using var c = new CausalAttentionCase(shape, borders);
            CausalAttentionCase.Outcome.AssertNear(c.Run(Isa.Scalar), c.Run(isa), Tolerance, $"{shape}");
        }
    }

    [Theory]
    [MemberData(nameof(Arena.FastTiers), MemberType = typeof(Arena))]
    public void The_heads_of_the_models_are_the_definition(Isa isa)
    {
        foreach (AttentionShape shape in new AttentionShape[] { new(2, 1, 256), new(6, 2, 256) })
        {
            using var c = new CausalAttentionCase(shape, CausalAttentionCase.BordersOf(100, 37));
            CausalAttentionCase.Outcome.AssertNear(c.Run(Isa.Scalar), c.Run(isa), Tolerance, $"{shape}");
        }
    }

    // Every length up to beyond two tiles: each remainder of rows, panels and lanes. (The gradients of queries and keys of a sample
    // of one row are 0: they have no size of their own to measure by.)
    [Theory]
    [MemberData(nameof(Arena.FastTiers), MemberType = typeof(Arena))]
    public void Every_remainder_is_the_definition(Isa isa)
    {
        var shape = new AttentionShape(2, 1, 24);
        for (int length = 2; length <= 140; length += length < 70 ? 1 : 7)
        {
            using var c = new CausalAttentionCase(shape, [0, length], length);
            CausalAttentionCase.Outcome.AssertNear(c.Run(Isa.Scalar), c.Run(isa), Tolerance, $"{length} rows");
        }
    }

    // One long sample is cut into tiles for two and five threads and is one unit for one thread; some of many are cut, others not.
    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void Threads_do_not_change_the_bits(Isa isa)
    {
        foreach (int[] borders in new[] { CausalAttentionCase.BordersOf(300), CausalAttentionCase.BordersOf(40, 260, 1, 90), CausalAttentionCase.BordersOf(90, 90, 90) })
        {
            foreach (AttentionShape shape in new AttentionShape[] { new(2, 1, 32), new(6, 2, 16) })
            {
                using var c = new CausalAttentionCase(shape, borders);
                CausalAttentionCase.Outcome expected = c.Run(isa);
                foreach (int threadCount in new[] { 2, 5 })
                    CausalAttentionCase.Outcome.AssertSame(expected, c.Run(isa, threadCount), $"{shape}, {threadCount} threads");
            }
        }
    }

    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void A_sample_alone_gives_the_same_bits(Isa isa)
    {
        var shape = new AttentionShape(4, 2, 40);
        using var c = new CausalAttentionCase(shape, CausalAttentionCase.BordersOf(70, 1, 130, 64));
        CausalAttentionCase.Outcome together = c.Run(isa, 2);
        for (int sample = 0; sample + 1 < c.Borders.Length; sample++)
        {
            int first = c.Borders[sample], count = c.Borders[sample + 1] - first;
            using var alone = new CausalAttentionCase(shape, [0, count], 99);
            alone.Q.CopyFrom(Rows(c.Q));
            alone.K.CopyFrom(Rows(c.K));
            alone.V.CopyFrom(Rows(c.V));
            alone.DY.CopyFrom(Rows(c.DY));
            var part = new CausalAttentionCase.Outcome(Part(together.Y), Part(together.LogSumExp), Part(together.DQ), Part(together.DK), Part(together.DV));
            CausalAttentionCase.Outcome.AssertSame(part, alone.Run(isa), $"sample {sample}");

            FloatView Rows(FloatView all) => all.Slice(all.Length / c.RowCount * first, all.Length / c.RowCount * count);
            float[] Part(float[] all) => all.AsSpan(all.Length / c.RowCount * first, all.Length / c.RowCount * count).ToArray();
        }
    }

    // What lies after a row reaches neither its result nor its query's gradient; where the rows after it get no gradient, nor
    // its key's and value's.
    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void Masked_rows_contribute_exactly_nothing(Isa isa)
    {
        var shape = new AttentionShape(4, 2, 24);
        foreach (int seen in new[] { 1, 5, 50, 64, 83, 128, 131 })
        {
            using var c = new CausalAttentionCase(shape, [0, 150]);
            c.DY.Slice(c.DY.Length / 150 * seen).Clear();
            CausalAttentionCase.Outcome expected = c.Run(isa);
            foreach (FloatView view in new[] { c.Q, c.K, c.V })
            {
                foreach (ref float value in view.Slice(view.Length / 150 * seen).Span)
                    value = 1.5f - 3 * value;
            }

            CausalAttentionCase.Outcome changed = c.Run(isa);
            Assert.NotEqual(expected.Y, changed.Y);
            Near.Bits(Part(expected.Y), Part(changed.Y), $"{seen} y");
            Near.Bits(Part(expected.LogSumExp), Part(changed.LogSumExp), $"{seen} logSumExp");
            Near.Bits(Part(expected.DQ), Part(changed.DQ), $"{seen} dq");
            AssertEqual(Part(expected.DK), Part(changed.DK), $"{seen} dk");
            AssertEqual(Part(expected.DV), Part(changed.DV), $"{seen} dv");

            float[] Part(float[] all) => all.AsSpan(0, all.Length / 150 * seen).ToArray();
        }

        // Zero gradients of later rows are added, so only the sign of a zero may differ.
        static void AssertEqual(float[] expected, float[] actual, string what)
        {
            for (int i = 0; i < expected.Length; i++)
                Assert.True(expected[i] == actual[i], $"{what}[{i}]: expected {expected[i]:R}, found {actual[i]:R}");
        }
    }

    // Scores of thousands, in both directions: e^score alone would be infinite or zero everywhere. Such a softmax has one
    // weight near 1; the score's own rounding (1e-7 of some 5000) limits what a tier can know of the rest. Measured: 3e-4.
    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void Large_scores_stay_finite_and_right(Isa isa)
    {
        using var c = new CausalAttentionCase(new AttentionShape(2, 1, 32), CausalAttentionCase.BordersOf(150, 3), scoreScale: 600);
        CausalAttentionCase.Outcome expected = c.Run(Isa.Scalar), found = c.Run(isa);
        Assert.InRange(expected.LogSumExp.Max(), 2000, 100_000);
        Assert.InRange(expected.LogSumExp.Min(), -100_000, -200);
        foreach (float[] values in new[] { found.Y, found.LogSumExp, found.DQ, found.DK, found.DV })
            Assert.All(values, value => Assert.True(float.IsFinite(value)));
        CausalAttentionCase.Outcome.AssertNear(expected, found, 1e-3, "large");
    }

    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void Nothing_is_allocated(Isa isa)
    {
        var shape = new AttentionShape(4, 2, 16);
        using var arena = new Arena();
        using var team = new ThreadTeam(2);
        using var scratch = new CausalAttentionScratch(shape, 200, 2);
        FloatView q = arena.Random(200 * 64), k = arena.Random(200 * 32), v = arena.Random(200 * 32), y = arena.Zeros(200 * 64), logSumExp = arena.Zeros(200 * 4);
        FloatView dy = arena.Random(200 * 64), dq = arena.Zeros(200 * 64), dk = arena.Zeros(200 * 32), dv = arena.Zeros(200 * 32);
        int[] borders = [0, 20, 170, 200];
        Both();
        long before = GC.GetAllocatedBytesForCurrentThread();
        Both();
        Assert.Equal(before, GC.GetAllocatedBytesForCurrentThread());

        void Both()
        {
            CausalAttention.Forward(isa, shape, q, k, v, y, logSumExp, borders, scratch, team);
            CausalAttention.Backward(isa, shape, q, k, v, y, logSumExp, dy, dq, dk, dv, borders, scratch, team);
        }
    }
}
