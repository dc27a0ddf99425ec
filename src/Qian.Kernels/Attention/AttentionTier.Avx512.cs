using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using static Qian.Kernels.TileSize;
using Vec = System.Runtime.Intrinsics.Vector512<float>;

namespace Qian.Kernels;

// 512-bit tier: one vector is a whole row of 16 lanes. The product keeps up to 6 head rows x 4 groups = 24 sums in registers
// and decodes each K/V vector once for all of them; with 4 groups there are 4 contiguous streams from memory.
internal readonly unsafe struct Avx512AttentionTier : IAttentionTier
{
    public static void Product(
        KvType type, int rowCount, float* factors, long factorStride, byte* x, byte* next, long groupBytes, int groupCount, int count, float* sums, long sumStride, bool fresh)
    {
        switch (type)
        {
            case KvType.F32:
                Product<Plain>(rowCount, factors, factorStride, x, next, groupBytes, groupCount, count, sums, sumStride, fresh);
                break;
            case KvType.F16:
                Product<Half16>(rowCount, factors, factorStride, x, next, groupBytes, groupCount, count, sums, sumStride, fresh);
                break;
            default:
                Product<Brain16>(rowCount, factors, factorStride, x, next, groupBytes, groupCount, count, sums, sumStride, fresh);
                break;
        }
    }

    private static void Product<TCodec>(
        int rowCount, float* factors, long factorStride, byte* x, byte* next, long groupBytes, int groupCount, int count, float* sums, long sumStride, bool fresh)
        where TCodec : struct, ICodec
    {
        int group = 0;
        for (; group + 4 <= groupCount; group += 4)
            ProductOfRows<TCodec, Four>(rowCount, factors, factorStride, x + group * groupBytes, next + group * groupBytes, groupBytes, count, sums + group * KvLayout.Lanes, sumStride, fresh);
        for (; group < groupCount; group++)
            ProductOfRows<TCodec, One>(rowCount, factors, factorStride, x + group * groupBytes, next + group * groupBytes, groupBytes, count, sums + group * KvLayout.Lanes, sumStride, fresh);
    }

    private static void ProductOfRows<TCodec, TGroups>(
        int rowCount, float* factors, long factorStride, byte* x, byte* next, long groupBytes, int count, float* sums, long sumStride, bool fresh)
        where TCodec : struct, ICodec
        where TGroups : struct, ICount
    {
        // Tiles of 6, 4, 2 or 1 head rows; which one a row lands in does not change its sums.
        while (rowCount > 0)
        {
            int taken;
            if (rowCount >= 6)
            {
                ProductTile<TCodec, TGroups, Six>(factors, factorStride, x, next, groupBytes, count, sums, sumStride, fresh);
                taken = 6;
            }
            else if (rowCount >= 4)
            {
                ProductTile<TCodec, TGroups, Four>(factors, factorStride, x, next, groupBytes, count, sums, sumStride, fresh);
                taken = 4;
            }
            else if (rowCount >= 2)
            {
                ProductTile<TCodec, TGroups, Two>(factors, factorStride, x, next, groupBytes, count, sums, sumStride, fresh);
                taken = 2;
            }
            else
            {
                ProductTile<TCodec, TGroups, One>(factors, factorStride, x, next, groupBytes, count, sums, sumStride, fresh);
                taken = 1;
            }

            rowCount -= taken;
            factors += taken * factorStride;
            sums += taken * sumStride;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void ProductTile<TCodec, TGroups, TRows>(
        float* factors, long factorStride, byte* x, byte* next, long groupBytes, int count, float* sums, long sumStride, bool fresh)
        where TCodec : struct, ICodec
        where TGroups : struct, ICount
        where TRows : struct, ICount
    {
        Vec s00 = Vec.Zero, s01 = s00, s02 = s00, s03 = s00, s10 = s00, s11 = s00, s12 = s00, s13 = s00;
        Vec s20 = s00, s21 = s00, s22 = s00, s23 = s00, s30 = s00, s31 = s00, s32 = s00, s33 = s00;
        Vec s40 = s00, s41 = s00, s42 = s00, s43 = s00, s50 = s00, s51 = s00, s52 = s00, s53 = s00;
        if (!fresh)
        {
            LoadRow<TGroups>(sums, ref s00, ref s01, ref s02, ref s03);
            if (TRows.Count > 1)
                LoadRow<TGroups>(sums + sumStride, ref s10, ref s11, ref s12, ref s13);
            if (TRows.Count > 2)
            {
                LoadRow<TGroups>(sums + 2 * sumStride, ref s20, ref s21, ref s22, ref s23);
                LoadRow<TGroups>(sums + 3 * sumStride, ref s30, ref s31, ref s32, ref s33);
            }

            if (TRows.Count > 4)
            {
                LoadRow<TGroups>(sums + 4 * sumStride, ref s40, ref s41, ref s42, ref s43);
                LoadRow<TGroups>(sums + 5 * sumStride, ref s50, ref s51, ref s52, ref s53);
            }
        }

        float* f0 = factors, f1 = f0 + factorStride, f2 = f1 + factorStride, f3 = f2 + factorStride, f4 = f3 + factorStride, f5 = f4 + factorStride;
        byte* x1 = x + groupBytes, x2 = x1 + groupBytes, x3 = x2 + groupBytes;
        long offset = 0;
        for (long i = 0; i < count; i++)
        {
            Vec v0 = TCodec.Load(x + offset), v1 = v0, v2 = v0, v3 = v0;
            if (TGroups.Count > 1)
            {
                v1 = TCodec.Load(x1 + offset);
                v2 = TCodec.Load(x2 + offset);
                v3 = TCodec.Load(x3 + offset);
            }

            Prefetch(next, TGroups.Count * TCodec.RowBytes);
            next += TGroups.Count * TCodec.RowBytes;
            offset += TCodec.RowBytes;
            AddRow<TGroups>(f0[i], v0, v1, v2, v3, ref s00, ref s01, ref s02, ref s03);
            if (TRows.Count > 1)
                AddRow<TGroups>(f1[i], v0, v1, v2, v3, ref s10, ref s11, ref s12, ref s13);
            if (TRows.Count > 2)
            {
                AddRow<TGroups>(f2[i], v0, v1, v2, v3, ref s20, ref s21, ref s22, ref s23);
                AddRow<TGroups>(f3[i], v0, v1, v2, v3, ref s30, ref s31, ref s32, ref s33);
            }

            if (TRows.Count > 4)
            {
                AddRow<TGroups>(f4[i], v0, v1, v2, v3, ref s40, ref s41, ref s42, ref s43);
                AddRow<TGroups>(f5[i], v0, v1, v2, v3, ref s50, ref s51, ref s52, ref s53);
            }
        }

        StoreRow<TGroups>(sums, s00, s01, s02, s03);
        if (TRows.Count > 1)
            StoreRow<TGroups>(sums + sumStride, s10, s11, s12, s13);
        if (TRows.Count > 2)
        {
            StoreRow<TGroups>(sums + 2 * sumStride, s20, s21, s22, s23);
            StoreRow<TGroups>(sums + 3 * sumStride, s30, s31, s32, s33);
        }

        if (TRows.Count > 4)
        {
            StoreRow<TGroups>(sums + 4 * sumStride, s40, s41, s42, s43);
            StoreRow<TGroups>(sums + 5 * sumStride, s50, s51, s52, s53);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Prefetch(byte* next, int bytes)
    {
        Sse.Prefetch1(next);
        if (bytes > 64)
            Sse.Prefetch1(next + 64);
        if (bytes > 128)
        {
            Sse.Prefetch1(next + 128);
            Sse.Prefetch1(next + 192);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddRow<TGroups>(float factor, Vec v0, Vec v1, Vec v2, Vec v3, ref Vec s0, ref Vec s1, ref Vec s2, ref Vec s3)
        where TGroups : struct, ICount
    {
        Vec f = Vector512.Create(factor);
        s0 = Avx512F.FusedMultiplyAdd(f, v0, s0);
        if (TGroups.Count > 1)
        {
            s1 = Avx512F.FusedMultiplyAdd(f, v1, s1);
            s2 = Avx512F.FusedMultiplyAdd(f, v2, s2);
            s3 = Avx512F.FusedMultiplyAdd(f, v3, s3);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void LoadRow<TGroups>(float* sums, ref Vec s0, ref Vec s1, ref Vec s2, ref Vec s3)
        where TGroups : struct, ICount
    {
        s0 = Vector512.Load(sums);
        if (TGroups.Count > 1)
        {
            s1 = Vector512.Load(sums + 16);
            s2 = Vector512.Load(sums + 32);
            s3 = Vector512.Load(sums + 48);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void StoreRow<TGroups>(float* sums, Vec s0, Vec s1, Vec s2, Vec s3)
        where TGroups : struct, ICount
    {
        s0.Store(sums);
        if (TGroups.Count > 1)
        {
            s1.Store(sums + 16);
            s2.Store(sums + 32);
            s3.Store(sums + 48);
        }
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
        for (long i = 0; i < count; i += Vec.Count)
        {
            Sse.Prefetch1(next);
            TCodec.Load(source).Store(destination + i);
            source += TCodec.RowBytes;
            next += TCodec.RowBytes;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void DecodeByLane(sbyte* source, byte* next, ushort* scales, float* destination, int rowCount)
    {
        Vec scale = Half16.Load((byte*)scales);
        for (long i = 0; i < rowCount * 16L; i += Vec.Count)
        {
            Sse.Prefetch1(next + i);
            (Bytes(source + i) * scale).Store(destination + i);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void DecodeByRow(sbyte* source, byte* next, ushort* scales, float* destination, int rowCount)
    {
        float* decoded = stackalloc float[KvLayout.Lanes];
        for (int row = 0; row < rowCount; row++)
        {
            if (row % KvLayout.Lanes == 0)
                Half16.Load((byte*)(scales + row)).Store(decoded);
            Sse.Prefetch1(next + row * 16L);
            (Bytes(source + row * 16L) * Vector512.Create(decoded[row % KvLayout.Lanes])).Store(destination + row * 16L);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Softmax(float* scores, int count, int paddedCount, out float max, out float total)
    {
        int end = (count + Vec.Count - 1) / Vec.Count * Vec.Count;
        for (int i = count; i < end; i++)
            scores[i] = float.NegativeInfinity;
        Vec maxima = Vector512.Load(scores);
        for (int i = Vec.Count; i < end; i += Vec.Count)
            maxima = Vector512.Max(maxima, Vector512.Load(scores + i));
        max = scores[0];
        for (int lane = 0; lane < Vec.Count; lane++)
            max = MathF.Max(max, maxima[lane]);

        Vec shift = Vector512.Create(max), totals = Vec.Zero;
        for (int i = 0; i < end; i += Vec.Count)
        {
            Vec weight = Exp(Vector512.Load(scores + i) - shift);
            weight.Store(scores + i);
            totals += weight;
        }

        for (int i = end; i < paddedCount; i += Vec.Count)
            Vec.Zero.Store(scores + i);
        total = AttentionConstants.SumLanes(totals.GetLower(), totals.GetUpper());
    }

    // exp(x) for x <= 0, within 2 ulp; 0 below the least denormal.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static Vec Exp(Vec x)
    {
        x = Avx512F.Max(x, Vector512.Create(AttentionConstants.Lowest));
        Vec n = Avx512F.RoundScale(x * AttentionConstants.Log2E, 0);
        Vec r = Avx512F.FusedMultiplyAdd(n, Vector512.Create(-AttentionConstants.Ln2High), x);
        r = Avx512F.FusedMultiplyAdd(n, Vector512.Create(-AttentionConstants.Ln2Low), r);
        Vec p = Vector512.Create(AttentionConstants.C7);
        p = Avx512F.FusedMultiplyAdd(p, r, Vector512.Create(AttentionConstants.C6));
        p = Avx512F.FusedMultiplyAdd(p, r, Vector512.Create(AttentionConstants.C5));
        p = Avx512F.FusedMultiplyAdd(p, r, Vector512.Create(AttentionConstants.C4));
        p = Avx512F.FusedMultiplyAdd(p, r, Vector512.Create(AttentionConstants.C3));
        p = Avx512F.FusedMultiplyAdd(p, r, Vector512.Create(AttentionConstants.C2));
        p = Avx512F.FusedMultiplyAdd(p, r, Vec.One);
        p = Avx512F.FusedMultiplyAdd(p, r, Vec.One);
        return Avx512F.Scale(p, n);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vec Bytes(sbyte* source) => Avx512F.ConvertToVector512Single(Avx512F.ConvertToVector512Int32(Vector128.Load(source)));

    // A row of 16 lanes from memory to registers.
    private interface ICodec
    {
        static abstract int RowBytes { get; }
        static abstract Vec Load(byte* source);
    }

    private readonly struct Plain : ICodec
    {
        public static int RowBytes => 64;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vec Load(byte* source) => Vector512.Load((float*)source);
    }

    private readonly struct Half16 : ICodec
    {
        public static int RowBytes => 32;

        // The half's bits, moved to a float's place, are the value times 2^-112, denormals included: one exact product restores it.
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vec Load(byte* source)
        {
            Vector512<int> bits = Avx512F.ConvertToVector512Int32(Vector256.Load((short*)source));
            Vector512<int> moved = Avx512F.ShiftLeftLogical(bits, 13) & Vector512.Create(AttentionConstants.HalfMask);
            return moved.AsSingle() * Vector512.Create(AttentionConstants.HalfRestore);
        }
    }

    private readonly struct Brain16 : ICodec
    {
        public static int RowBytes => 32;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vec Load(byte* source) =>
            Avx512F.ShiftLeftLogical(Avx512F.ConvertToVector512Int32(Vector256.Load((ushort*)source)), 16).AsSingle();
    }
}
