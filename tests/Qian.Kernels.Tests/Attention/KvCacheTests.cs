using System.Runtime.InteropServices;

namespace Qian.Kernels.Tests;

public sealed class KvCacheTests
{
    public static TheoryData<KvType> Types => [KvType.F32, KvType.F16, KvType.BF16, KvType.Q8_0];

    [Fact]
    public void Blocks_have_the_size_of_the_specification()
    {
        var shape = new KvShape(LayerCount: 16, KvHeads: 4, HeadDim: 256, BlockTokens: 64);
        Assert.Equal(64L * 16 * 4096, shape.BlockBytes(KvType.F16));
        Assert.Equal(64L * 16 * 4096, shape.BlockBytes(KvType.BF16));
        Assert.Equal(64L * 16 * 8192, shape.BlockBytes(KvType.F32));
        Assert.Equal(64L * 16 * 2176, shape.BlockBytes(KvType.Q8_0));
        using var block = new KvBlock(shape with { LayerCount = 1 }, KvType.Q8_0);
        Assert.Equal(64 * 2176, block.Content.Length);
    }

    [Theory, MemberData(nameof(Types))]
    public void What_is_read_is_what_was_written_within_the_bound_of_the_type(KvType type)
    {
        using var team = new ThreadTeam(1);
        foreach (int headDim in new[] { 8, 16, 32, 40, 64, 72, 128, 256 })
        {
            foreach (int blockTokens in new[] { 16, 64 })
            {
                using var c = new AttentionCase(new AttentionShape(2, 2, headDim), 77, blockTokens, [type]);
                c.Keys[5] = 1e-6f; // below the normal halves
                c.Keys[6] = 0;
                c.Values.Slice(0, headDim).Clear();
                c.Write(0, 77, team);
                (float[] keys, float[] values) = c.Stored();
                AssertWithin(type, headDim, c.Keys, keys);
                AssertWithin(type, headDim, c.Values, values);
            }
        }
    }

    [Theory, MemberData(nameof(Types))]
    public void Any_split_and_thread_count_stores_the_same_bytes(KvType type)
    {
        using var whole = new AttentionCase(new AttentionShape(3, 3, 24), 150, 32, [type]);
        using var split = new AttentionCase(new AttentionShape(3, 3, 24), 150, 32, [type]);
        using var one = new ThreadTeam(1);
        using var three = new ThreadTeam(3);
        whole.Write(0, 150, three);
        for (int token = 0, count = 1; token < 150; token += count, count = Math.Min(count * 2, 150 - token))
            split.Write(token, count, one);
        for (int i = 0; i < whole.Blocks.Length; i++)
            Assert.True(whole.Blocks[i].Content.SequenceEqual(split.Blocks[i].Content), $"block {i}");
    }

    [Fact]
    public void A_write_touches_its_layer_and_tokens_only()
    {
        var shape = new KvShape(3, 1, 16, 16);
        using var block = new KvBlock(shape, KvType.F32);
        block.Content.Fill(0x55);
        using NativeBuffer row = NativeBuffer.AllocateFloats(16);
        row.AllFloats.Span.Fill(2f);
        using var team = new ThreadTeam(1);
        KvCache.Write(shape, [block], layerIndex: 1, firstToken: 7, row.AllFloats, row.AllFloats, 1, team);
        int written = 0, untouched = 0;
        foreach (uint bits in MemoryMarshal.Cast<byte, uint>(block.Content))
        {
            written += bits == BitConverter.SingleToUInt32Bits(2f) ? 1 : 0;
            untouched += bits == 0x55555555 ? 1 : 0;
        }

        Assert.Equal(32, written);
        Assert.Equal(block.Content.Length / 4 - 32, untouched);
    }

    [Fact]
    public void Halves_saturate_and_bytes_survive_extremes()
    {
        Assert.Equal(65504f, KvCodec.FromHalf(KvCodec.ToHalf(65504f)));
        Assert.Equal(65504f, KvCodec.FromHalf(KvCodec.ToHalf(65536f)));
        Assert.Equal(-65504f, KvCodec.FromHalf(KvCodec.ToHalf(float.NegativeInfinity)));
        Assert.Equal(0f, KvCodec.FromHalf(KvCodec.ToHalf(float.NaN)));
        Assert.Equal(0x3F80, KvCodec.ToBFloat16(1f));
        Assert.Equal(0x3F80, KvCodec.ToBFloat16(BitConverter.UInt32BitsToSingle(0x3F808000))); // tie to even, down
        Assert.Equal(0x3F82, KvCodec.ToBFloat16(BitConverter.UInt32BitsToSingle(0x3F818000))); // tie to even, up
        Assert.True(float.IsNaN(KvCodec.FromBFloat16(KvCodec.ToBFloat16(BitConverter.UInt32BitsToSingle(0x7F800001)))));

        using var team = new ThreadTeam(1);
        using var c = new AttentionCase(new AttentionShape(1, 1, 32), 1, 16, [KvType.Q8_0]);
        c.Keys.Clear();
        c.Keys[0] = float.NaN;
        c.Keys[1] = 1e30f;
        c.Keys[2] = float.NegativeInfinity;
        c.Values.Fill(1e-12f);
        c.Write(0, 1, team);
        (float[] keys, float[] values) = c.Stored();
        Assert.Equal([0f, 127 * 65504f, -127 * 65504f, 0f], keys[..4]);
        Assert.All(values, value => Assert.InRange(value, 0, 6e-8f));
    }

    [Theory, MemberData(nameof(Types))]
    public void A_copied_block_is_equal_and_then_independent(KvType type)
    {
        using var team = new ThreadTeam(1);
        using var c = new AttentionCase(new AttentionShape(2, 2, 40), 16, 16, [type]);
        c.Write(0, 10, team);
        using var copy = new KvBlock(c.Kv, type);
        copy.CopyFrom(c.Blocks[0]);
        Assert.True(copy.Content.SequenceEqual(c.Blocks[0].Content));
        byte[] before = copy.Content.ToArray();
        c.Write(10, 6, team);
        Assert.True(copy.Content.SequenceEqual(before));
        Assert.False(copy.Content.SequenceEqual(c.Blocks[0].Content));
    }

    [Fact]
    public void Misuse_is_refused()
    {
        var shape = new KvShape(1, 1, 16, 16);
        using var team = new ThreadTeam(1);
        using var half = new KvBlock(shape, KvType.F16);
        using var bytes = new KvBlock(shape, KvType.Q8_0);
        using var wide = new KvBlock(shape with { HeadDim = 32 }, KvType.F16);
        using NativeBuffer rows = NativeBuffer.AllocateFloats(16 * 20);
        FloatView view = rows.AllFloats;
        Assert.Throws<ArgumentException>(() => half.CopyFrom(bytes));
        Assert.Throws<ArgumentException>(() => half.CopyFrom(wide));
        Assert.Throws<ArgumentException>(() => KvCache.Write(shape, [half], 0, 10, view, view, 7, team));
        Assert.Throws<ArgumentException>(() => KvCache.Write(shape, [wide], 0, 0, view, view, 1, team));
        Assert.Throws<ArgumentException>(() => KvCache.Write(shape, [null!], 0, 0, view, view, 1, team));
        Assert.Throws<ArgumentException>(() => KvCache.Write(shape, [half], 0, 0, view.Slice(0, 15), view, 1, team));
        Assert.Throws<ArgumentOutOfRangeException>(() => KvCache.Write(shape, [half], 1, 0, view, view, 1, team));
        Assert.Throws<ArgumentOutOfRangeException>(() => KvCache.Write(shape, [half], 0, -1, view, view, 1, team));
        Assert.Throws<ArgumentException>(() => new KvBlock(shape with { HeadDim = 12 }, KvType.F16));
        Assert.Throws<ArgumentException>(() => new KvBlock(shape with { BlockTokens = 48 }, KvType.F16));
        Assert.Throws<ArgumentException>(() => new KvBlock(shape with { BlockTokens = 8 }, KvType.F16));
        Assert.Throws<ArgumentOutOfRangeException>(() => new KvBlock(shape, (KvType)9));
    }

    private static void AssertWithin(KvType type, int headDim, ReadOnlySpan<float> written, ReadOnlySpan<float> read)
    {
        Assert.Equal(written.Length, read.Length);
        for (int i = 0; i < written.Length; i++)
        {
            float bound = type switch
            {
                KvType.F32 => 0,
                KvType.F16 => MathF.Max(MathF.Abs(written[i]) / 2048, MathF.ScaleB(1, -25)),
                KvType.BF16 => MathF.Abs(written[i]) / 256,
                _ => ByteBound(written, headDim, i),
            };
            Assert.True(MathF.Abs(written[i] - read[i]) <= bound, $"{type} [{i}]: {written[i]} -> {read[i]}, bound {bound}");
        }
    }

    // Half a step; the step is max/127 rounded up to a half: at most 2^-10 more, or the least denormal half more.
    private static float ByteBound(ReadOnlySpan<float> written, int headDim, int index)
    {
        int head = index / headDim * headDim;
        int first = head + (index - head) / 32 * 32;
        float largest = 0;
        for (int i = first; i < Math.Min(first + 32, head + headDim); i++)
            largest = MathF.Max(largest, MathF.Abs(written[i]));
        return (largest / 127 * (1 + 1f / 1024) + MathF.ScaleB(1, -24)) / 2 * 1.000001f;
    }
}
