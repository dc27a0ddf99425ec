using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Qian.Kernels;

/// <summary>
/// 14 x 32 floats in 28 accumulators; with two vectors of b and one broadcast of a, 31 of the 32 registers. 16 loads feed 28 products a step,
/// so two loads and two products a cycle are both within reach.
/// </summary>
internal static unsafe class MicroKernelAvx512
{
    public const int Rows = 14;
    public const int Columns = 32;

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Run(long steps, uint* aPanel, uint* bPanel, float* c, long cStride, bool add)
    {
        float* a = (float*)aPanel, b = (float*)bPanel;
        for (int row = 0; row < Rows; row++)
        {
            Sse.Prefetch0(c + row * cStride);
            Sse.Prefetch0(c + row * cStride + 16);
        }

        Vector512<float> s00 = default, s01 = default;
        Vector512<float> s10 = default, s11 = default;
        Vector512<float> s20 = default, s21 = default;
        Vector512<float> s30 = default, s31 = default;
        Vector512<float> s40 = default, s41 = default;
        Vector512<float> s50 = default, s51 = default;
        Vector512<float> s60 = default, s61 = default;
        Vector512<float> s70 = default, s71 = default;
        Vector512<float> s80 = default, s81 = default;
        Vector512<float> s90 = default, s91 = default;
        Vector512<float> sa0 = default, sa1 = default;
        Vector512<float> sb0 = default, sb1 = default;
        Vector512<float> sc0 = default, sc1 = default;
        Vector512<float> sd0 = default, sd1 = default;
        for (float* end = b + steps * Columns; b < end; a += Rows, b += Columns)
        {
            Vector512<float> b0 = Vector512.Load(b);
            Vector512<float> b1 = Vector512.Load(b + 16);
            Vector512<float> v = Vector512.Create(*a);
            s00 = Avx512F.FusedMultiplyAdd(v, b0, s00);
            s01 = Avx512F.FusedMultiplyAdd(v, b1, s01);
            v = Vector512.Create(a[1]);
            s10 = Avx512F.FusedMultiplyAdd(v, b0, s10);
            s11 = Avx512F.FusedMultiplyAdd(v, b1, s11);
            v = Vector512.Create(a[2]);
            s20 = Avx512F.FusedMultiplyAdd(v, b0, s20);
            s21 = Avx512F.FusedMultiplyAdd(v, b1, s21);
            v = Vector512.Create(a[3]);
            s30 = Avx512F.FusedMultiplyAdd(v, b0, s30);
            s31 = Avx512F.FusedMultiplyAdd(v, b1, s31);
            v = Vector512.Create(a[4]);
            s40 = Avx512F.FusedMultiplyAdd(v, b0, s40);
            s41 = Avx512F.FusedMultiplyAdd(v, b1, s41);
            v = Vector512.Create(a[5]);
            s50 = Avx512F.FusedMultiplyAdd(v, b0, s50);
            s51 = Avx512F.FusedMultiplyAdd(v, b1, s51);
            v = Vector512.Create(a[6]);
            s60 = Avx512F.FusedMultiplyAdd(v, b0, s60);
            s61 = Avx512F.FusedMultiplyAdd(v, b1, s61);
            v = Vector512.Create(a[7]);
            s70 = Avx512F.FusedMultiplyAdd(v, b0, s70);
            s71 = Avx512F.FusedMultiplyAdd(v, b1, s71);
            v = Vector512.Create(a[8]);
            s80 = Avx512F.FusedMultiplyAdd(v, b0, s80);
            s81 = Avx512F.FusedMultiplyAdd(v, b1, s81);
            v = Vector512.Create(a[9]);
            s90 = Avx512F.FusedMultiplyAdd(v, b0, s90);
            s91 = Avx512F.FusedMultiplyAdd(v, b1, s91);
            v = Vector512.Create(a[10]);
            sa0 = Avx512F.FusedMultiplyAdd(v, b0, sa0);
            sa1 = Avx512F.FusedMultiplyAdd(v, b1, sa1);
            v = Vector512.Create(a[11]);
            sb0 = Avx512F.FusedMultiplyAdd(v, b0, sb0);
            sb1 = Avx512F.FusedMultiplyAdd(v, b1, sb1);
            v = Vector512.Create(a[12]);
            sc0 = Avx512F.FusedMultiplyAdd(v, b0, sc0);
            sc1 = Avx512F.FusedMultiplyAdd(v, b1, sc1);
            v = Vector512.Create(a[13]);
            sd0 = Avx512F.FusedMultiplyAdd(v, b0, sd0);
            sd1 = Avx512F.FusedMultiplyAdd(v, b1, sd1);
        }

        Put(c, s00, s01, add);
        Put(c + cStride, s10, s11, add);
        Put(c + 2 * cStride, s20, s21, add);
        Put(c + 3 * cStride, s30, s31, add);
        Put(c + 4 * cStride, s40, s41, add);
        Put(c + 5 * cStride, s50, s51, add);
        Put(c + 6 * cStride, s60, s61, add);
        Put(c + 7 * cStride, s70, s71, add);
        Put(c + 8 * cStride, s80, s81, add);
        Put(c + 9 * cStride, s90, s91, add);
        Put(c + 10 * cStride, sa0, sa1, add);
        Put(c + 11 * cStride, sb0, sb1, add);
        Put(c + 12 * cStride, sc0, sc1, add);
        Put(c + 13 * cStride, sd0, sd1, add);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Put(float* c, Vector512<float> s0, Vector512<float> s1, bool add)
    {
        if (add)
        {
            s0 += Vector512.Load(c);
            s1 += Vector512.Load(c + 16);
        }

        s0.Store(c);
        s1.Store(c + 16);
    }
}
