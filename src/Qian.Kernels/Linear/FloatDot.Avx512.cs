using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Qian.Kernels;

/// <summary>Float products of 4 rows of weights with 1 or 4 rows of x, 16 lanes to a register; sums[column][row][lane] is read and written.</summary>
internal static unsafe class FloatDotAvx512
{
    // Two slices ahead in the same row.
    private const int PrefetchValues = 1024;

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Tile1(float** rows, float* x0, int count, float* sums)
    {
        float* w0 = rows[0], w1 = rows[1], w2 = rows[2], w3 = rows[3];
        Vector512<float> s00 = Vector512.Load(sums + 0), s01 = Vector512.Load(sums + 16), s02 = Vector512.Load(sums + 32), s03 = Vector512.Load(sums + 48);
        for (int i = 0; i < count; i += 16)
        {
            Vector512<float> v0 = Vector512.Load(x0 + i);
            Vector512<float> w = Vector512.Load(w0 + i);
            s00 = Vector512.FusedMultiplyAdd(w, v0, s00);
            w = Vector512.Load(w1 + i);
            s01 = Vector512.FusedMultiplyAdd(w, v0, s01);
            w = Vector512.Load(w2 + i);
            s02 = Vector512.FusedMultiplyAdd(w, v0, s02);
            w = Vector512.Load(w3 + i);
            s03 = Vector512.FusedMultiplyAdd(w, v0, s03);
        }

        s00.Store(sums + 0);
        s01.Store(sums + 16);
        s02.Store(sums + 32);
        s03.Store(sums + 48);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Tile4(float** rows, float** columns, int count, float* sums)
    {
        float* w0 = rows[0], w1 = rows[1], w2 = rows[2], w3 = rows[3];
        float* x0 = columns[0], x1 = columns[1], x2 = columns[2], x3 = columns[3];
        Vector512<float> s00 = Vector512.Load(sums + 0), s01 = Vector512.Load(sums + 16), s02 = Vector512.Load(sums + 32), s03 = Vector512.Load(sums + 48);
        Vector512<float> s10 = Vector512.Load(sums + 64), s11 = Vector512.Load(sums + 80), s12 = Vector512.Load(sums + 96), s13 = Vector512.Load(sums + 112);
        Vector512<float> s20 = Vector512.Load(sums + 128), s21 = Vector512.Load(sums + 144), s22 = Vector512.Load(sums + 160), s23 = Vector512.Load(sums + 176);
        Vector512<float> s30 = Vector512.Load(sums + 192), s31 = Vector512.Load(sums + 208), s32 = Vector512.Load(sums + 224), s33 = Vector512.Load(sums + 240);
        for (int i = 0; i < count; i += 16)
        {
            Vector512<float> v0 = Vector512.Load(x0 + i);
            Vector512<float> v1 = Vector512.Load(x1 + i);
            Vector512<float> v2 = Vector512.Load(x2 + i);
            Vector512<float> v3 = Vector512.Load(x3 + i);
            Vector512<float> w = Vector512.Load(w0 + i);
            s00 = Vector512.FusedMultiplyAdd(w, v0, s00);
            s10 = Vector512.FusedMultiplyAdd(w, v1, s10);
            s20 = Vector512.FusedMultiplyAdd(w, v2, s20);
            s30 = Vector512.FusedMultiplyAdd(w, v3, s30);
            w = Vector512.Load(w1 + i);
            s01 = Vector512.FusedMultiplyAdd(w, v0, s01);
            s11 = Vector512.FusedMultiplyAdd(w, v1, s11);
            s21 = Vector512.FusedMultiplyAdd(w, v2, s21);
            s31 = Vector512.FusedMultiplyAdd(w, v3, s31);
            w = Vector512.Load(w2 + i);
            s02 = Vector512.FusedMultiplyAdd(w, v0, s02);
            s12 = Vector512.FusedMultiplyAdd(w, v1, s12);
            s22 = Vector512.FusedMultiplyAdd(w, v2, s22);
            s32 = Vector512.FusedMultiplyAdd(w, v3, s32);
            w = Vector512.Load(w3 + i);
            s03 = Vector512.FusedMultiplyAdd(w, v0, s03);
            s13 = Vector512.FusedMultiplyAdd(w, v1, s13);
            s23 = Vector512.FusedMultiplyAdd(w, v2, s23);
            s33 = Vector512.FusedMultiplyAdd(w, v3, s33);
        }

        s00.Store(sums + 0);
        s01.Store(sums + 16);
        s02.Store(sums + 32);
        s03.Store(sums + 48);
        s10.Store(sums + 64);
        s11.Store(sums + 80);
        s12.Store(sums + 96);
        s13.Store(sums + 112);
        s20.Store(sums + 128);
        s21.Store(sums + 144);
        s22.Store(sums + 160);
        s23.Store(sums + 176);
        s30.Store(sums + 192);
        s31.Store(sums + 208);
        s32.Store(sums + 224);
        s33.Store(sums + 240);
    }

    public static float Sum(float* lanes) => Vector512.Sum(Vector512.Load(lanes));

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void WidenHalf(ushort* source, float* destination, int count)
    {
        int i = 0;
        for (; i <= count - 16; i += 16)
        {
            Sse.Prefetch0(source + i + PrefetchValues);
            HalfFloat.Widen(Vector256.Load(source + i)).Store(destination + i);
        }

        for (; i < count; i++)
            destination[i] = (float)((Half*)source)[i];
    }

    // bfloat16 is the upper half of a float.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void WidenBrain(ushort* source, float* destination, int count)
    {
        int i = 0;
        for (; i <= count - 16; i += 16)
        {
            Sse.Prefetch0(source + i + PrefetchValues);
            (Vector512.WidenLower(Vector256.Load(source + i).ToVector512Unsafe()) << 16).AsSingle().Store(destination + i);
        }

        for (; i < count; i++)
            destination[i] = BitConverter.Int32BitsToSingle(source[i] << 16);
    }
}
