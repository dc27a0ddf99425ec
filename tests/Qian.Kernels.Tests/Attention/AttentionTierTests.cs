using System.Runtime.Intrinsics;

namespace Qian.Kernels.Tests;

// The pieces of the vector tiers against their definitions.
public sealed unsafe class AttentionTierTests
{
    public static TheoryData<Isa> FastTiers => [.. IsaTier.Available.Where(isa => isa != Isa.Scalar)];

    [Theory, MemberData(nameof(FastTiers))]
    public void Every_finite_half_and_bfloat16_decodes_exactly(Isa isa)
    {
        ushort[] bits = new ushort[65536];
        float[] halves = new float[65536], brains = new float[65536];
        for (int i = 0; i < 65536; i++)
            bits[i] = (ushort)i;
        fixed (ushort* source = bits)
        fixed (float* half = halves, brain = brains)
        {
            Decode(isa, KvType.F16, (byte*)source, half);
            Decode(isa, KvType.BF16, (byte*)source, brain);
        }

        for (int i = 0; i < 65536; i++)
        {
            if (Half.IsFinite(BitConverter.UInt16BitsToHalf((ushort)i)))
                Assert.Equal(BitConverter.SingleToUInt32Bits(KvCodec.FromHalf((ushort)i)), BitConverter.SingleToUInt32Bits(halves[i]));
            Assert.Equal((uint)i << 16, BitConverter.SingleToUInt32Bits(brains[i]));
        }
    }

    [Theory, MemberData(nameof(FastTiers))]
    public void Exp_is_within_two_ulp(Isa isa)
    {
        var random = new Random(3);
        double worst = 0;
        float[] xs = new float[16], ys = new float[16];
        for (int i = 0; i < 200_000; i++)
        {
            for (int lane = 0; lane < 16; lane++)
                xs[lane] = i % 3 == 0 ? -random.NextSingle() : -random.NextSingle() * 106;
            Exp(isa, xs, ys);
            for (int lane = 0; lane < 16; lane++)
            {
                double exact = Math.Exp(xs[lane]);
                float nearest = (float)exact;
                double ulp = MathF.BitIncrement(nearest) - nearest;
                worst = Math.Max(worst, Math.Abs(ys[lane] - exact) / ulp);
            }
        }

        Assert.InRange(worst, 0, 2);
        xs.AsSpan().Clear();
        (xs[1], xs[2], xs[3]) = (float.NegativeInfinity, -104f, -1e30f);
        Exp(isa, xs, ys);
        Assert.Equal([1f, 0f, 0f, 0f], ys[..4]);
    }

    private static void Decode(Isa isa, KvType type, byte* source, float* destination)
    {
        if (isa == Isa.Avx512)
            Avx512AttentionTier.Decode(type, source, source, destination, 65536);
        else
            AttentionTier256.Decode(type, source, source, destination, 65536);
    }

    private static void Exp(Isa isa, float[] xs, float[] ys)
    {
        if (isa == Isa.Avx512)
        {
            Avx512AttentionTier.Exp(Vector512.Create(xs)).CopyTo(ys);
            return;
        }

        AttentionTier256.Exp(Vector256.Create(xs)).CopyTo(ys);
        AttentionTier256.Exp(Vector256.Create(xs, 8)).CopyTo(ys, 8);
    }
}
