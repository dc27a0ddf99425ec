using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Qian.Kernels;

/// <summary>Float products of 4 rows of weights with 1 to 4 rows of x, 8 lanes to a register; sums[column][row][lane] is read and written.</summary>
internal static unsafe class FloatDot256
{
    // Two slices ahead in the same row.
    private const int PrefetchValues = 1024;

    // 4 x 2 sums, 2 values of x and a weight fill the 16 registers.
    public static void Tile(float** rows, float** columns, int width, int count, float* sums)
    {
        if (width == 1)
        {
            Tile1(rows, columns[0], count, sums);
            return;
        }

        Tile2(rows, columns, count, sums);
        if (width > 2)
            Tile2(rows, columns + 2, count, sums + 64);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Tile1(float** rows, float* x0, int count, float* sums)
    {
        float* w0 = rows[0], w1 = rows[1], w2 = rows[2], w3 = rows[3];
        Vector256<float> s00 = Vector256.Load(sums + 0), s01 = Vector256.Load(sums + 8), s02 = Vector256.Load(sums + 16), s03 = Vector256.Load(sums + 24);
        for (int i = 0; i < count; i += 8)
        {
            Vector256<float> v0 = Vector256.Load(x0 + i);
            Vector256<float> w = Vector256.Load(w0 + i);
            s00 = Vector256.FusedMultiplyAdd(w, v0, s00);
            w = Vector256.Load(w1 + i);
            s01 = Vector256.FusedMultiplyAdd(w, v0, s01);
            w = Vector256.Load(w2 + i);
            s02 = Vector256.FusedMultiplyAdd(w, v0, s02);
            w = Vector256.Load(w3 + i);
            s03 = Vector256.FusedMultiplyAdd(w, v0, s03);
        }

        s00.Store(sums + 0);
        s01.Store(sums + 8);
        s02.Store(sums + 16);
        s03.Store(sums + 24);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Tile2(float** rows, float** columns, int count, float* sums)
    {
        float* w0 = rows[0], w1 = rows[1], w2 = rows[2], w3 = rows[3];
        float* x0 = columns[0], x1 = columns[1];
        Vector256<float> s00 = Vector256.Load(sums + 0), s01 = Vector256.Load(sums + 8), s02 = Vector256.Load(sums + 16), s03 = Vector256.Load(sums + 24);
        Vector256<float> s10 = Vector256.Load(sums + 32), s11 = Vector256.Load(sums + 40), s12 = Vector256.Load(sums + 48), s13 = Vector256.Load(sums + 56);
        for (int i = 0; i < count; i += 8)
        {
            Vector256<float> v0 = Vector256.Load(x0 + i);
            Vector256<float> v1 = Vector256.Load(x1 + i);
            Vector256<float> w = Vector256.Load(w0 + i);
            s00 = Vector256.FusedMultiplyAdd(w, v0, s00);
            s10 = Vector256.FusedMultiplyAdd(w, v1, s10);
            w = Vector256.Load(w1 + i);
            s01 = Vector256.FusedMultiplyAdd(w, v0, s01);
            s11 = Vector256.FusedMultiplyAdd(w, v1, s11);
            w = Vector256.Load(w2 + i);
            s02 = Vector256.FusedMultiplyAdd(w, v0, s02);
            s12 = Vector256.FusedMultiplyAdd(w, v1, s12);
            w = Vector256.Load(w3 + i);
            s03 = Vector256.FusedMultiplyAdd(w, v0, s03);
            s13 = Vector256.FusedMultiplyAdd(w, v1, s13);
        }

        s00.Store(sums + 0);
        s01.Store(sums + 8);
        s02.Store(sums + 16);
        s03.Store(sums + 24);
        s10.Store(sums + 32);
        s11.Store(sums + 40);
        s12.Store(sums + 48);
        s13.Store(sums + 56);
    }

    public static float Sum(float* lanes) => Vector256.Sum(Vector256.Load(lanes));

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void WidenHalf(ushort* source, float* destination, int count)
    {
        int i = 0;
        for (; i <= count - 8; i += 8)
        {
            Registers.Prefetch0(source + i + PrefetchValues);
            HalfFloat.Widen(Vector128.Load(source + i)).Store(destination + i);
        }

        for (; i < count; i++)
            destination[i] = (float)((Half*)source)[i];
    }

    // bfloat16 is the upper half of a float.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void WidenBrain(ushort* source, float* destination, int count)
    {
        int i = 0;
        for (; i <= count - 8; i += 8)
        {
            Registers.Prefetch0(source + i + PrefetchValues);
            (Vector256.WidenLower(Vector128.Load(source + i).ToVector256Unsafe()) << 16).AsSingle().Store(destination + i);
        }

        for (; i < count; i++)
            destination[i] = BitConverter.Int32BitsToSingle(source[i] << 16);
    }
}
