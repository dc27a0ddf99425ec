using System.Runtime.InteropServices;

namespace Qian.Kernels.Tests;

// Within one tier a (row, head) has one result, to the bit, however the work is divided.
public sealed class AttentionInvarianceTests
{
    private static readonly KvType[] s_types = [KvType.F32, KvType.F16, KvType.BF16, KvType.Q8_0];

    public static TheoryData<Isa> Tiers => [.. IsaTier.Available];

    [Theory, MemberData(nameof(Tiers))]
    public void Prefill_equals_decoding_token_by_token(Isa isa)
    {
        foreach ((int heads, int kvHeads, int headDim, int blockTokens) in new[] { (6, 1, 16, 64), (4, 4, 24, 16), (10, 2, 8, 512) })
        {
            int tokenCount = isa == Isa.Scalar ? 540 : 1100;
            using var c = new AttentionCase(new AttentionShape(heads, kvHeads, headDim), tokenCount, blockTokens, s_types);
            using var team = new ThreadTeam(2);
            using var scratch = new AttentionScratch(c.Shape, tokenCount, tokenCount, 2);
            float[] expected = OneByOne(isa, c, team, scratch);
            AssertSame(expected, 0, c.Attend(isa, 0, tokenCount, team, scratch), $"whole {c.Shape}");

            var random = new Random(7);
            for (int first = 0, count; first < tokenCount; first += count)
            {
                count = Math.Min(1 + random.Next(170), tokenCount - first);
                AssertSame(expected, first * c.QueryWidth, c.Attend(isa, first, count, team, scratch), $"chunk {first}+{count} {c.Shape}");
            }
        }
    }

    [Theory, MemberData(nameof(Tiers))]
    public void Any_number_of_rows_anywhere_gives_the_same_bits(Isa isa)
    {
        using var c = new AttentionCase(new AttentionShape(6, 2, 16), 1400, 64, [KvType.F16, KvType.Q8_0, KvType.F16, KvType.BF16]);
        using var team = new ThreadTeam(2);
        using var scratch = new AttentionScratch(c.Shape, 300, 1400, 2);
        float[] expected = OneByOne(isa, c, team, scratch);
        int[] borders = [0, 1, 63, 64, 65, 447, 511, 512, 513, 1023, 1024, 1025, 1100];
        for (int rowCount = 1; rowCount <= 300; rowCount += isa == Isa.Scalar ? 13 : 1)
        {
            int first = borders[rowCount % borders.Length];
            AssertSame(expected, first * c.QueryWidth, c.Attend(isa, first, rowCount, team, scratch), $"{rowCount} rows from {first}");
        }
    }

    [Theory, MemberData(nameof(Tiers))]
    public void Threads_do_not_change_the_bits(Isa isa)
    {
        using var c = new AttentionCase(new AttentionShape(6, 2, 32), 2300, 64, s_types);
        using var one = new ThreadTeam(1);
        c.Write(0, 2300, one);
        foreach ((int first, int rowCount) in new[] { (2299, 1), (2290, 10), (511, 1), (512, 2), (1000, 40), (0, 70), (2040, 17) })
        {
            float[] expected = c.Attend(isa, first, rowCount);
            foreach (int threadCount in new[] { 2, 3, 7 })
                AssertSame(expected, 0, c.Attend(isa, first, rowCount, threadCount), $"{rowCount} rows from {first}, {threadCount} threads");
        }
    }

    [Theory, MemberData(nameof(Tiers))]
    public void Scratch_and_team_may_differ_in_size(Isa isa)
    {
        using var c = new AttentionCase(new AttentionShape(6, 1, 32), 1500, 64, [KvType.F16]);
        using var team = new ThreadTeam(3);
        c.Write(0, 1500, team);
        float[] expected = c.Attend(isa, 1490, 10);
        foreach ((int maxRows, int maxContext, int threadCount) in new[] { (10, 1500, 1), (11, 1 << 18, 2), (200, 4000, 8) })
        {
            using var scratch = new AttentionScratch(c.Shape, maxRows, maxContext, threadCount);
            AssertSame(expected, 0, c.Attend(isa, 1490, 10, team, scratch), $"scratch {maxRows} {maxContext} {threadCount}");
        }
    }

    [Theory, MemberData(nameof(Tiers))]
    public void The_head_geometry_of_the_model_keeps_the_bits(Isa isa)
    {
        int tokenCount = isa == Isa.Scalar ? 80 : 600;
        foreach (KvType type in s_types)
        {
            using var c = new AttentionCase(new AttentionShape(24, 4, 256), tokenCount, 64, [type]);
            using var team = new ThreadTeam(2);
            using var scratch = new AttentionScratch(c.Shape, 100, tokenCount, 2);
            c.Write(0, tokenCount, team);
            float[] many = c.Attend(isa, tokenCount - 60, 60, team, scratch);
            for (int row = 0; row < 60; row += 7)
                AssertSame(many, row * c.QueryWidth, c.Attend(isa, tokenCount - 60 + row, 1, team, scratch), $"{type} row {row}");
        }
    }

    // Token 1 weighs about 1e-35 and its value is -1e-20: the sum +0 underflows to -0 where the multiply-add is fused. In a tile
    // with row 2 the masked token 2 would turn that into +0.
    [Theory, MemberData(nameof(Tiers))]
    public void Masked_keys_add_nothing_not_even_to_a_negative_zero(Isa isa)
    {
        using var c = new AttentionCase(new AttentionShape(1, 1, 8), 3, 16, [KvType.F32]);
        c.Queries.Clear();
        c.Keys.Clear();
        c.Values.Clear();
        c.Queries[8] = 1;
        c.Keys[8] = -80 * MathF.Sqrt(8);
        c.Values.Slice(8, 8).Fill(-1e-20f);
        c.Values.Slice(16, 8).Fill(1f);
        using var team = new ThreadTeam(1);
        c.Write(0, 3, team);
        AssertSame(c.Attend(isa, 0, 3)[8..16], 0, c.Attend(isa, 1, 1), "row 1");
    }

    // Rows as a server would make them: each token written, then attended, with nothing of the future in the blocks yet.
    private static float[] OneByOne(Isa isa, AttentionCase c, ThreadTeam team, AttentionScratch scratch)
    {
        float[] y = new float[c.TokenCount * c.QueryWidth];
        for (int token = 0; token < c.TokenCount; token++)
        {
            c.Write(token, 1, team);
            c.Attend(isa, token, 1, team, scratch).CopyTo(y, token * c.QueryWidth);
        }

        return y;
    }

    private static void AssertSame(float[] expected, int offset, float[] actual, string what)
    {
        ReadOnlySpan<uint> a = MemoryMarshal.Cast<float, uint>(expected.AsSpan(offset, Math.Min(actual.Length, expected.Length - offset)));
        ReadOnlySpan<uint> b = MemoryMarshal.Cast<float, uint>(actual.AsSpan(0, a.Length));
        int at = a.CommonPrefixLength(b);
        Assert.True(at == a.Length, at == a.Length ? "" : $"{what}: [{at}] {expected[offset + at]:g9} != {actual[at]:g9}");
        Assert.All(actual.AsSpan(0, a.Length).ToArray(), value => Assert.True(float.IsFinite(value)));
    }
}
