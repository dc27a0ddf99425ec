using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using static Qian.Kernels.TileSize;
using Vec = System.Runtime.Intrinsics.Vector256<float>;

namespace Qian.Kernels;

// 256-bit tier: a row of 16 lanes is two vectors. With 16 registers the product keeps 6 head rows x 1 group = 12 sums, and
// decodes each K/V vector once for all of them.
internal readonly unsafe struct AttentionTier256 : IAttentionTier
{
    public static void Product(
        KvType type, int rowCount, float* factors, long factorStride, byte* x, byte* next, long groupBytes, int groupCount, int count, float* sums, long sumStride, bool fresh)
    {
        for (int group = 0; group < groupCount; group++)
        {
            byte* rows = x + group * groupBytes, nextRows = next + group * groupBytes;
            float* groupSums = sums + group * KvLayout.Lanes;
            switch (type)
            {
                case KvType.F32:
                    ProductOfRows<Plain>(rowCount, factors, factorStride, rows, nextRows, count, groupSums, sumStride, fresh);
                    break;
                case KvType.F16:
                    ProductOfRows<Half16>(rowCount, factors, factorStride, rows, nextRows, count, groupSums, sumStride, fresh);
                    break;
                default:
                    ProductOfRows<Brain16>(rowCount, factors, factorStride, rows, nextRows, count, groupSums, sumStride, fresh);
                    break;
            }
        }
    }

    private static void ProductOfRows<TCodec>(int rowCount, float* factors, long factorStride, byte* x, byte* next, int count, float* sums, long sumStride, bool fresh)
        where TCodec : struct, ICodec
    {
        // Tiles of 6, 4, 2 or 1 head rows; which one a row lands in does not change its sums.
        while (rowCount > 0)
        {
            int taken;
            if (rowCount >= 6)
            {
                ProductTile<TCodec, Six>(factors, factorStride, x, next, count, sums, sumStride, fresh);
                taken = 6;
            }
            else if (rowCount >= 4)
            {
                ProductTile<TCodec, Four>(factors, factorStride, x, next, count, sums, sumStride, fresh);
                taken = 4;
            }
            else if (rowCount >= 2)
            {
                ProductTile<TCodec, Two>(factors, factorStride, x, next, count, sums, sumStride, fresh);
                taken = 2;
            }
            else
            {
                ProductTile<TCodec, One>(factors, factorStride, x, next, count, sums, sumStride, fresh);
                taken = 1;
            }

            rowCount -= taken;
            factors += taken * factorStride;
            sums += taken * sumStride;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void ProductTile<TCodec, TRows>(float* factors, long factorStride, byte* x, byte* next, int count, float* sums, long sumStride, bool fresh)
        where TCodec : struct, ICodec
        where TRows : struct, ICount
    {
        Vec s00 = Vec.Zero, s01 = s00, s10 = s00, s11 = s00, s20 = s00, s21 = s00, s30 = s00, s31 = s00, s40 = s00, s41 = s00, s50 = s00, s51 = s00;
        if (!fresh)
        {
            LoadRow(sums, out s00, out s01);
            if (TRows.Count > 1)
                LoadRow(sums + sumStride, out s10, out s11);
            if (TRows.Count > 2)
            {
                LoadRow(sums + 2 * sumStride, out s20, out s21);
                LoadRow(sums + 3 * sumStride, out s30, out s31);
            }

            if (TRows.Count > 4)
            {
                LoadRow(sums + 4 * sumStride, out s40, out s41);
                LoadRow(sums + 5 * sumStride, out s50, out s51);
            }
        }

        float* f0 = factors, f1 = f0 + factorStride, f2 = f1 + factorStride, f3 = f2 + factorStride, f4 = f3 + factorStride, f5 = f4 + factorStride;
        for (long i = 0; i < count; i++)
        {
            TCodec.Load(x, out Vec v0, out Vec v1);
            Registers.Prefetch1(next);
            x += TCodec.RowBytes;
            next += TCodec.RowBytes;
            AddRow(f0[i], v0, v1, ref s00, ref s01);
            if (TRows.Count > 1)
                AddRow(f1[i], v0, v1, ref s10, ref s11);
            if (TRows.Count > 2)
            {
                AddRow(f2[i], v0, v1, ref s20, ref s21);
                AddRow(f3[i], v0, v1, ref s30, ref s31);
            }

            if (TRows.Count > 4)
            {
                AddRow(f4[i], v0, v1, ref s40, ref s41);
                AddRow(f5[i], v0, v1, ref s50, ref s51);
            }
        }

        StoreRow(sums, s00, s01);
        if (TRows.Count > 1)
            StoreRow(sums + sumStride, s10, s11);
        if (TRows.Count > 2)
        {
            StoreRow(sums + 2 * sumStride, s20, s21);
            StoreRow(sums + 3 * sumStride, s30, s31);
        }

        if (TRows.Count > 4)
        {
            StoreRow(sums + 4 * sumStride, s40, s41);
            StoreRow(sums + 5 * sumStride, s50, s51);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddRow(float factor, Vec v0, Vec v1, ref Vec s0, ref Vec s1)
    {
        Vec f = Vector256.Create(factor);
        s0 = Vector256.FusedMultiplyAdd(f, v0, s0);
        s1 = Vector256.FusedMultiplyAdd(f, v1, s1);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void LoadRow(float* sums, out Vec s0, out Vec s1)
    {
        s0 = Vector256.Load(sums);
        s1 = Vector256.Load(sums + Vec.Count);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void StoreRow(float* sums, Vec s0, Vec s1)
    {
        s0.Store(sums);
        s1.Store(sums + Vec.Count);
    }

    public static void Decode(KvType type, byte* source, byte* next, float* destination, int count)
    {
        if (type == KvType.F16)
            Decode<Half16>(source, next, destination, count);
        else
            Decode<Brain16>(source, next, destination, count);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Decode<TCodec>(byte* source, byte* next, float* destination, int count) where TCodec : struct, ICodec
    {
        for (long i = 0; i < count; i += KvLayout.Lanes)
        {
            Registers.Prefetch1(next);
            TCodec.Load(source, out Vec v0, out Vec v1);
            source += TCodec.RowBytes;
            next += TCodec.RowBytes;
            StoreRow(destination + i, v0, v1);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void DecodeByLane(sbyte* source, byte* next, ushort* scales, float* destination, int rowCount)
    {
        Half16.Load((byte*)scales, out Vec scale0, out Vec scale1);
        for (long i = 0; i < rowCount * 16L; i += 16)
        {
            Registers.Prefetch1(next + i);
            StoreRow(destination + i, Bytes(source + i) * scale0, Bytes(source + i + 8) * scale1);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void DecodeByRow(sbyte* source, byte* next, ushort* scales, float* destination, int rowCount)
    {
        float* decoded = stackalloc float[KvLayout.Lanes];
        for (int row = 0; row < rowCount; row++)
        {
            if (row % KvLayout.Lanes == 0)
            {
                Half16.Load((byte*)(scales + row), out Vec scale0, out Vec scale1);
                StoreRow(decoded, scale0, scale1);
            }

            Registers.Prefetch1(next + row * 16L);
            Vec scale = Vector256.Create(decoded[row % KvLayout.Lanes]);
            StoreRow(destination + row * 16L, Bytes(source + row * 16L) * scale, Bytes(source + row * 16L + 8) * scale);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Softmax(float* scores, int count, int paddedCount, out float max, out float total)
    {
        int end = KvLayout.PadToLanes(count);
        for (int i = count; i < end; i++)
            scores[i] = float.NegativeInfinity;
        Vec maxima = Vector256.Load(scores);
        for (int i = Vec.Count; i < end; i += Vec.Count)
            maxima = Vector256.Max(maxima, Vector256.Load(scores + i));
        max = scores[0];
        for (int lane = 0; lane < Vec.Count; lane++)
            max = MathF.Max(max, maxima[lane]);

        Vec shift = Vector256.Create(max), totals0 = Vec.Zero, totals1 = Vec.Zero;
        for (int i = 0; i < end; i += KvLayout.Lanes)
        {
            Vec weight0 = Exp(Vector256.Load(scores + i) - shift), weight1 = Exp(Vector256.Load(scores + i + Vec.Count) - shift);
            StoreRow(scores + i, weight0, weight1);
            totals0 += weight0;
            totals1 += weight1;
        }

        for (int i = end; i < paddedCount; i += Vec.Count)
            Vec.Zero.Store(scores + i);
        total = AttentionConstants.SumLanes(totals0, totals1);
    }

    // exp(x) for x <= 0, within 2 ulp; 0 below the least denormal.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static Vec Exp(Vec x)
    {
        x = Registers.Max(x, Vector256.Create(AttentionConstants.Lowest));
        Vec n = Vector256.Round(x * AttentionConstants.Log2E);
        Vec r = Vector256.FusedMultiplyAdd(n, Vector256.Create(-AttentionConstants.Ln2High), x);
        r = Vector256.FusedMultiplyAdd(n, Vector256.Create(-AttentionConstants.Ln2Low), r);
        Vec p = Vector256.Create(AttentionConstants.C7);
        p = Vector256.FusedMultiplyAdd(p, r, Vector256.Create(AttentionConstants.C6));
        p = Vector256.FusedMultiplyAdd(p, r, Vector256.Create(AttentionConstants.C5));
        p = Vector256.FusedMultiplyAdd(p, r, Vector256.Create(AttentionConstants.C4));
        p = Vector256.FusedMultiplyAdd(p, r, Vector256.Create(AttentionConstants.C3));
        p = Vector256.FusedMultiplyAdd(p, r, Vector256.Create(AttentionConstants.C2));
        p = Vector256.FusedMultiplyAdd(p, r, Vec.One);
        p = Vector256.FusedMultiplyAdd(p, r, Vec.One);
        // 2^n in two factors, since n reaches below the exponents of normal floats; only the second product can round.
        Vector256<int> exponent = Registers.ToInt32(n);
        Vector256<int> half = exponent >> 1;
        return p * PowerOfTwo(half) * PowerOfTwo(exponent - half);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vec PowerOfTwo(Vector256<int> exponent) => (exponent + Vector256.Create(127) << 23).AsSingle();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vec Bytes(sbyte* source) => Vector256.ConvertToSingle(Registers.Widen(source));

    // A row of 16 lanes from memory to registers.
    private interface ICodec
    {
        static abstract int RowBytes { get; }
        static abstract void Load(byte* source, out Vec v0, out Vec v1);
    }

    private readonly struct Plain : ICodec
    {
        public static int RowBytes => 64;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static void Load(byte* source, out Vec v0, out Vec v1) => LoadRow((float*)source, out v0, out v1);
    }

    private readonly struct Half16 : ICodec
    {
        public static int RowBytes => 32;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static void Load(byte* source, out Vec v0, out Vec v1)
        {
            v0 = Eight((short*)source);
            v1 = Eight((short*)source + Vec.Count);
        }

        // The half's bits, moved to a float's place, are the value times 2^-112, denormals included: one exact product restores it.
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private static Vec Eight(short* source)
        {
            Vector256<int> moved = Registers.Widen(source) << 13 & Vector256.Create(AttentionConstants.HalfMask);
            return moved.AsSingle() * Vector256.Create(AttentionConstants.HalfRestore);
        }
    }

    private readonly struct Brain16 : ICodec
    {
        public static int RowBytes => 32;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static void Load(byte* source, out Vec v0, out Vec v1)
        {
            v0 = (Registers.Widen((ushort*)source) << 16).AsSingle();
            v1 = (Registers.Widen((ushort*)source + Vec.Count) << 16).AsSingle();
        }
    }
}
