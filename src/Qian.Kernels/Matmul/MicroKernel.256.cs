using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Qian.Kernels;

/// <summary>6 x 16 floats in 12 accumulators; with two vectors of b and one broadcast of a, 15 of the 16 registers.</summary>
internal static unsafe class MicroKernel256
{
    public const int Rows = 6;
    public const int Columns = 16;

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Run(long steps, uint* aPanel, uint* bPanel, float* c, long cStride, bool add)
    {
        float* a = (float*)aPanel, b = (float*)bPanel;
        for (int row = 0; row < Rows; row++)
        {
            Registers.Prefetch0(c + row * cStride);
        }

        Vector256<float> s00 = default, s01 = default;
        Vector256<float> s10 = default, s11 = default;
        Vector256<float> s20 = default, s21 = default;
        Vector256<float> s30 = default, s31 = default;
        Vector256<float> s40 = default, s41 = default;
        Vector256<float> s50 = default, s51 = default;
        for (float* end = b + steps * Columns; b < end; a += Rows, b += Columns)
        {
            Vector256<float> b0 = Vector256.Load(b);
            Vector256<float> b1 = Vector256.Load(b + 8);
            Vector256<float> v = Vector256.Create(*a);
            s00 = Vector256.FusedMultiplyAdd(v, b0, s00);
            s01 = Vector256.FusedMultiplyAdd(v, b1, s01);
            v = Vector256.Create(a[1]);
            s10 = Vector256.FusedMultiplyAdd(v, b0, s10);
            s11 = Vector256.FusedMultiplyAdd(v, b1, s11);
            v = Vector256.Create(a[2]);
            s20 = Vector256.FusedMultiplyAdd(v, b0, s20);
            s21 = Vector256.FusedMultiplyAdd(v, b1, s21);
            v = Vector256.Create(a[3]);
            s30 = Vector256.FusedMultiplyAdd(v, b0, s30);
            s31 = Vector256.FusedMultiplyAdd(v, b1, s31);
            v = Vector256.Create(a[4]);
            s40 = Vector256.FusedMultiplyAdd(v, b0, s40);
            s41 = Vector256.FusedMultiplyAdd(v, b1, s41);
            v = Vector256.Create(a[5]);
            s50 = Vector256.FusedMultiplyAdd(v, b0, s50);
            s51 = Vector256.FusedMultiplyAdd(v, b1, s51);
        }

        Put(c, s00, s01, add);
        Put(c + cStride, s10, s11, add);
        Put(c + 2 * cStride, s20, s21, add);
        Put(c + 3 * cStride, s30, s31, add);
        Put(c + 4 * cStride, s40, s41, add);
        Put(c + 5 * cStride, s50, s51, add);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Put(float* c, Vector256<float> s0, Vector256<float> s1, bool add)
    {
        if (add)
        {
            s0 += Vector256.Load(c);
            s1 += Vector256.Load(c + 8);
        }

        s0.Store(c);
        s1.Store(c + 8);
    }
}
