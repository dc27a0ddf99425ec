namespace Qian.Kernels.Tests;

public sealed class AttentionTests
{
    private static readonly KvType[] s_types = [KvType.F32, KvType.F16, KvType.BF16, KvType.Q8_0];

    public static TheoryData<Isa> Tiers => [.. IsaTier.Available];

    public static TheoryData<Isa> FastTiers => [.. IsaTier.Available.Where(isa => isa != Isa.Scalar)];

    [Theory]
    [InlineData(1, 1, 8, 33)]
    [InlineData(6, 1, 16, 70)]
    [InlineData(24, 4, 256, 40)]
    [InlineData(5, 5, 72, 130)]
    [InlineData(4, 2, 64, 1100)]
    public void Scalar_equals_textbook_attention(int heads, int kvHeads, int headDim, int tokenCount)
    {
        using var team = new ThreadTeam(1);
        using var c = new AttentionCase(new AttentionShape(heads, kvHeads, headDim), tokenCount, 32, s_types);
        c.Write(0, tokenCount, team);
        int rowCount = Math.Min(tokenCount, 20);
        float[] y = c.Attend(Isa.Scalar, tokenCount - rowCount, rowCount);
        AssertNear(Textbook(c, tokenCount - rowCount, rowCount), y, 3e-6);
    }

    [Theory, MemberData(nameof(FastTiers))]
    public void Fast_tiers_equal_the_definition(Isa isa)
    {
        using var team = new ThreadTeam(2);
        (int Heads, int KvHeads, int HeadDim)[] shapes =
            [(1, 1, 8), (3, 1, 16), (6, 2, 32), (8, 1, 40), (24, 4, 64), (7, 7, 72), (4, 1, 128), (12, 2, 256), (20, 1, 24), (130, 1, 8)];
        foreach ((int heads, int kvHeads, int headDim) in shapes)
        {
            for (int variant = 0; variant <= s_types.Length; variant++)
            {
                KvType[] types = variant < s_types.Length ? [s_types[variant]] : s_types;
                int tokenCount = 530 + variant;
                using var c = new AttentionCase(new AttentionShape(heads, kvHeads, headDim), tokenCount, 16 << variant, types, seed: headDim + variant);
                c.Write(0, tokenCount, team);
                float[] expected = c.Attend(Isa.Scalar, tokenCount - 13, 13, 2);
                foreach (int rowCount in new[] { 1, 5, 13 })
                    AssertNear(expected[^(rowCount * c.QueryWidth)..], c.Attend(isa, tokenCount - rowCount, rowCount, 2), 1e-5);
            }
        }
    }

    [Theory, MemberData(nameof(Tiers))]
    public void Extreme_scores_stay_stable(Isa isa)
    {
        using var team = new ThreadTeam(1);
        foreach (float sign in new[] { 1f, -1f })
        {
            using var c = new AttentionCase(new AttentionShape(2, 1, 16), 700, 64, [KvType.F32]);
            // Scores 4 q k: about ±10,000, and exactly known, so that even the differences are.
            for (int token = 0; token < 700; token++)
            {
                c.Queries.Slice(token * 32, 32).Fill(sign);
                c.Keys.Slice(token * 16, 16).Fill(2500 - token % 7 * (token % 2 == 0 ? 1 : 1250));
            }

            c.Write(0, 700, team);
            float[] y = c.Attend(isa, 600, 100);
            Assert.All(y, value => Assert.True(float.IsFinite(value)));
            AssertNear(Textbook(c, 600, 100), y, 3e-6);
        }
    }

    [Theory, MemberData(nameof(FastTiers))]
    public void Long_contexts_equal_the_definition(Isa isa)
    {
        const int TokenCount = 262_144 + 3;
        using var team = new ThreadTeam(2);
        using var c = new AttentionCase(new AttentionShape(2, 1, 8), TokenCount, 256, s_types);
        c.Write(0, TokenCount, team);
        float[] expected = c.Attend(Isa.Scalar, TokenCount - 2, 2, 2);
        // Summing a quarter of a million weights in float: the tiers' orders within a partition differ.
        AssertNear(expected, c.Attend(isa, TokenCount - 2, 2, 2), 1e-5);
        Assert.Equal(c.Attend(isa, TokenCount - 1, 1, 1), c.Attend(isa, TokenCount - 2, 2, 2)[c.QueryWidth..]);
    }

    [Theory, MemberData(nameof(Tiers))]
    public void One_token_returns_its_value(Isa isa)
    {
        using var team = new ThreadTeam(1);
        using var c = new AttentionCase(new AttentionShape(4, 2, 24), 1, 16, [KvType.F32]);
        c.Write(0, 1, team);
        float[] y = c.Attend(isa, 0, 1);
        for (int head = 0; head < 4; head++)
            Assert.Equal(c.Values.Slice(head / 2 * 24, 24).ToArray(), y[(head * 24)..((head + 1) * 24)]);
    }

    [Theory, MemberData(nameof(Tiers))]
    public void A_call_allocates_nothing(Isa isa)
    {
        using var team = new ThreadTeam(2);
        using var c = new AttentionCase(new AttentionShape(6, 1, 32), 1100, 64, s_types);
        using var scratch = new AttentionScratch(c.Shape, 40, 1100, 2);
        using NativeBuffer y = NativeBuffer.AllocateFloats(40L * c.QueryWidth);
        c.Write(0, 1100, team);
        long least = long.MaxValue;
        for (int i = 0; i < 5; i++)
        {
            long before = GC.GetAllocatedBytesForCurrentThread();
            long nativeBefore = scratch.Bytes;
            c.Write(1060, 40, team);
            c.Attend(isa, 1060, 40, team, scratch, y.AllFloats);
            c.Attend(isa, 1099, 1, team, scratch, y.AllFloats);
            least = Math.Min(least, GC.GetAllocatedBytesForCurrentThread() - before);
            Assert.Equal(nativeBefore, scratch.Bytes);
        }

        Assert.Equal(0, least);
    }

    [Fact]
    public void Scratch_does_not_grow_with_the_context()
    {
        var shape = new AttentionShape(24, 4, 256);
        using var small = new AttentionScratch(shape, 512, 16384, 2);
        using var large = new AttentionScratch(shape, 512, 1 << 20, 2);
        Assert.Equal(small.Bytes, large.Bytes);
        Assert.InRange(large.Bytes, 1, 4 << 20);
    }

    [Fact]
    public void Misuse_is_refused()
    {
        using var team = new ThreadTeam(1);
        using var c = new AttentionCase(new AttentionShape(4, 2, 16), 40, 16, [KvType.F32]);
        using var scratch = new AttentionScratch(c.Shape, 8, 40, 1);
        using var other = new AttentionScratch(new AttentionShape(2, 2, 16), 8, 40, 1);
        using NativeBuffer y = NativeBuffer.AllocateFloats(40 * 64);
        using NativeBuffer q = NativeBuffer.AllocateFloats(40 * 64);
        FloatView result = y.AllFloats, queries = q.AllFloats;
        Attention.Apply(c.Shape, c.Kv, queries, c.Blocks, 0, 0, 0, result, scratch, team);
        Assert.Throws<ArgumentException>(() => Attention.Apply(c.Shape, c.Kv, queries, c.Blocks, 0, 0, 9, result, scratch, team));
        Assert.Throws<ArgumentException>(() => Attention.Apply(c.Shape, c.Kv, queries, c.Blocks, 0, 0, 1, result, other, team));
        Assert.Throws<ArgumentException>(() => Attention.Apply(c.Shape, c.Kv, queries, c.Blocks, 0, 0, 2, result.Slice(0, 64), scratch, team));
        Assert.Throws<ArgumentException>(() => Attention.Apply(c.Shape, c.Kv, queries, c.Blocks, 0, 0, 1, queries, scratch, team));
        Assert.Throws<ArgumentException>(() => Attention.Apply(c.Shape, c.Kv, queries, c.Blocks[..2], 0, 32, 1, result, scratch, team));
        Assert.Throws<ArgumentException>(() => Attention.Apply(new AttentionShape(3, 2, 16), c.Kv, queries, c.Blocks, 0, 0, 1, result, scratch, team));
        Assert.Throws<ArgumentException>(() => Attention.Apply(new AttentionShape(4, 1, 16), c.Kv, queries, c.Blocks, 0, 0, 1, result, scratch, team));
        Assert.Throws<ArgumentOutOfRangeException>(() => Attention.Apply(c.Shape, c.Kv, queries, c.Blocks, 2, 0, 1, result, scratch, team));
        Assert.Throws<ArgumentException>(() => new AttentionScratch(new AttentionShape(4, 3, 16), 1, 1, 1));
    }

    // softmax(q k / sqrt(d)) v in double, over what the blocks hold.
    private static double[] Textbook(AttentionCase c, int firstToken, int rowCount)
    {
        (float[] keys, float[] values) = c.Stored();
        int headDim = c.Shape.HeadDim;
        double[] y = new double[rowCount * c.QueryWidth];
        for (int row = 0; row < rowCount; row++)
        {
            for (int head = 0; head < c.Shape.Heads; head++)
            {
                int kvHead = head / (c.Shape.Heads / c.Shape.KvHeads);
                int keyCount = firstToken + row + 1;
                double[] scores = new double[keyCount];
                for (int token = 0; token < keyCount; token++)
                {
                    for (int d = 0; d < headDim; d++)
                        scores[token] += (double)c.Queries[(firstToken + row) * c.QueryWidth + head * headDim + d] * keys[token * c.KvWidth + kvHead * headDim + d];
                    scores[token] /= Math.Sqrt(headDim);
                }

                double max = scores.Max(), total = scores.Sum(score => Math.Exp(score - max));
                for (int token = 0; token < keyCount; token++)
                {
                    double weight = Math.Exp(scores[token] - max) / total;
                    for (int d = 0; d < headDim; d++)
                        y[row * c.QueryWidth + head * headDim + d] += weight * values[token * c.KvWidth + kvHead * headDim + d];
                }
            }
        }

        return y;
    }

    private static void AssertNear(float[] expected, float[] actual, double relative) => AssertNear(Array.ConvertAll(expected, x => (double)x), actual, relative);

    // Relative to the largest result: single entries may cancel to nothing.
    private static void AssertNear(double[] expected, float[] actual, double relative)
    {
        Assert.Equal(expected.Length, actual.Length);
        double bound = relative * expected.Max(Math.Abs);
        for (int i = 0; i < expected.Length; i++)
            Assert.True(Math.Abs(expected[i] - actual[i]) <= bound, $"[{i}] expected {expected[i]:g9}, actual {actual[i]:g9}, bound {bound:g3}");
    }
}
