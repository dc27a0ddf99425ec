using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Qian.Kernels;

/// <summary>
/// The same tiles in 256-bit registers: 8 rows of weights at a time (half 0 or 1 of the panel) x 1, 2 or 4 rows of activations.
/// </summary>
internal static unsafe class IntegerDotAvx2
{
    // All tiles from first to end against one block; acc holds the accumulators of tile first.
    public static void Tiles<TKind>(in UnpackedBlock block, in ActivationTiles tiles, int first, int end, int firstGroup, int groupCount, float* acc)
        where TKind : IDotKind
    {
        for (int tile = first; tile < end; tile++, acc += tiles.Width * PanelLayout.PanelRows)
        {
            float* x = tiles.Group(tile, firstGroup);
            switch (tiles.WidthOf(tile))
            {
                case 4:
                    Tile4<TKind>(block, 0, x, groupCount, acc);
                    Tile4<TKind>(block, 1, x, groupCount, acc);
                    break;
                case 2:
                    Tile2<TKind>(block, 0, x, groupCount, acc);
                    Tile2<TKind>(block, 1, x, groupCount, acc);
                    break;
                default:
                    Tile1<TKind>(block, 0, x, groupCount, acc);
                    Tile1<TKind>(block, 1, x, groupCount, acc);
                    break;
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Tile1<TKind>(in UnpackedBlock block, int half, float* x, int groupCount, float* acc)
        where TKind : IDotKind
    {
        byte* quants = block.Quants + 32 * half;
        float* scales = block.Scales + 8 * half;
        float* offsets = block.Offsets + 8 * half;
        int* runScales = block.RunScales + 8 * half;
        acc += 8 * half;
        Vector256<float> f0 = TKind.HasRunScales ? Vector256<float>.Zero : Vector256.Load(acc);
        for (int g = 0; g < groupCount; g++, x += ActivationTiles.GroupDwords)
        {
            byte* steps = (byte*)(x + ActivationTiles.FirstStep);
            for (int sub = 0; sub < TKind.Subs; sub++)
            {
                Vector256<int> i0 = Vector256<int>.Zero;
                if (TKind.HasRunScales)
                {
                    int* biases = (int*)x + ActivationTiles.FirstBias;
                    Vector256<int> first = WholeScale(runScales), second = WholeScale(runScales + 16);
                    i0 = first * Vector256.Create(biases[0]) + second * Vector256.Create(biases[1]);
                }

                for (int run = 0; run < TKind.Runs; run++)
                {
                    Vector256<short> a0 = Vector256<short>.Zero;
                    for (int step = 0; step < TKind.Steps; step += 2, quants += 128, steps += 8)
                    {
                        Vector256<byte> w0 = Vector256.Load(quants);
                        Vector256<byte> w1 = Vector256.Load(quants + 64);
                        a0 += Products(w0, steps);
                        a0 += Products(w1, steps + 4);
                    }

                    // The high nibbles meet the columns of the low ones again.
                    if (TKind.HasPlanes && run == 0)
                        steps -= TKind.Steps * 4;
                    Vector256<short> widen = Vector256.Create((short)(TKind.HasPlanes && run == 1 ? 16 : 1));
                    if (TKind.HasRunScales)
                        widen = Vector256.Load(runScales + (run >> 1) * 16).AsInt16();
                    i0 += Avx2.MultiplyAddAdjacent(a0, widen);
                }

                if (TKind.HasRunScales)
                {
                    f0 = Vector256.FusedMultiplyAdd(Vector256.ConvertToSingle(i0), Vector256.Create(x[0]), f0);
                    runScales += 32;
                    continue;
                }

                Vector256<float> scale = Vector256.Load(scales);
                f0 = Vector256.FusedMultiplyAdd(Vector256.ConvertToSingle(i0), scale * Vector256.Create(x[0]), f0);
                Vector256<float> offset = Vector256.Load(offsets);
                float* sums = x + (TKind.Subs == 2 ? (2 + sub) * 1 : 1);
                f0 = Vector256.FusedMultiplyAdd(offset, Vector256.Create(sums[0]), f0);
                scales += 16;
                offsets += 16;
            }
        }

        if (TKind.HasRunScales)
        {
            Vector256<float> scale = Vector256.Load(scales);
            f0 = Vector256.FusedMultiplyAdd(f0, scale, Vector256.Load(acc));
        }

        f0.Store(acc);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Tile2<TKind>(in UnpackedBlock block, int half, float* x, int groupCount, float* acc)
        where TKind : IDotKind
    {
        byte* quants = block.Quants + 32 * half;
        float* scales = block.Scales + 8 * half;
        float* offsets = block.Offsets + 8 * half;
        int* runScales = block.RunScales + 8 * half;
        acc += 8 * half;
        Vector256<float> f0 = TKind.HasRunScales ? Vector256<float>.Zero : Vector256.Load(acc);
        Vector256<float> f1 = TKind.HasRunScales ? Vector256<float>.Zero : Vector256.Load(acc + 16);
        for (int g = 0; g < groupCount; g++, x += ActivationTiles.GroupDwords * 2)
        {
            byte* steps = (byte*)(x + ActivationTiles.FirstStep * 2);
            for (int sub = 0; sub < TKind.Subs; sub++)
            {
                Vector256<int> i0 = Vector256<int>.Zero, i1 = Vector256<int>.Zero;
                if (TKind.HasRunScales)
                {
                    int* biases = (int*)x + ActivationTiles.FirstBias * 2;
                    Vector256<int> first = WholeScale(runScales), second = WholeScale(runScales + 16);
                    i0 = first * Vector256.Create(biases[0]) + second * Vector256.Create(biases[2]);
                    i1 = first * Vector256.Create(biases[1]) + second * Vector256.Create(biases[3]);
                }

                for (int run = 0; run < TKind.Runs; run++)
                {
                    Vector256<short> a0 = Vector256<short>.Zero, a1 = Vector256<short>.Zero;
                    for (int step = 0; step < TKind.Steps; step += 2, quants += 128, steps += 16)
                    {
                        Vector256<byte> w0 = Vector256.Load(quants);
                        Vector256<byte> w1 = Vector256.Load(quants + 64);
                        a0 += Products(w0, steps);
                        a1 += Products(w0, steps + 4);
                        a0 += Products(w1, steps + 8);
                        a1 += Products(w1, steps + 12);
                    }

                    // The high nibbles meet the columns of the low ones again.
                    if (TKind.HasPlanes && run == 0)
                        steps -= TKind.Steps * 8;
                    Vector256<short> widen = Vector256.Create((short)(TKind.HasPlanes && run == 1 ? 16 : 1));
                    if (TKind.HasRunScales)
                        widen = Vector256.Load(runScales + (run >> 1) * 16).AsInt16();
                    i0 += Avx2.MultiplyAddAdjacent(a0, widen);
                    i1 += Avx2.MultiplyAddAdjacent(a1, widen);
                }

                if (TKind.HasRunScales)
                {
                    f0 = Vector256.FusedMultiplyAdd(Vector256.ConvertToSingle(i0), Vector256.Create(x[0]), f0);
                    f1 = Vector256.FusedMultiplyAdd(Vector256.ConvertToSingle(i1), Vector256.Create(x[1]), f1);
                    runScales += 32;
                    continue;
                }

                Vector256<float> scale = Vector256.Load(scales);
                f0 = Vector256.FusedMultiplyAdd(Vector256.ConvertToSingle(i0), scale * Vector256.Create(x[0]), f0);
                f1 = Vector256.FusedMultiplyAdd(Vector256.ConvertToSingle(i1), scale * Vector256.Create(x[1]), f1);
                Vector256<float> offset = Vector256.Load(offsets);
                float* sums = x + (TKind.Subs == 2 ? (2 + sub) * 2 : 2);
                f0 = Vector256.FusedMultiplyAdd(offset, Vector256.Create(sums[0]), f0);
                f1 = Vector256.FusedMultiplyAdd(offset, Vector256.Create(sums[1]), f1);
                scales += 16;
                offsets += 16;
            }
        }

        if (TKind.HasRunScales)
        {
            Vector256<float> scale = Vector256.Load(scales);
            f0 = Vector256.FusedMultiplyAdd(f0, scale, Vector256.Load(acc));
            f1 = Vector256.FusedMultiplyAdd(f1, scale, Vector256.Load(acc + 16));
        }

        f0.Store(acc);
        f1.Store(acc + 16);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Tile4<TKind>(in UnpackedBlock block, int half, float* x, int groupCount, float* acc)
        where TKind : IDotKind
    {
        byte* quants = block.Quants + 32 * half;
        float* scales = block.Scales + 8 * half;
        float* offsets = block.Offsets + 8 * half;
        int* runScales = block.RunScales + 8 * half;
        acc += 8 * half;
        Vector256<float> f0 = TKind.HasRunScales ? Vector256<float>.Zero : Vector256.Load(acc);
        Vector256<float> f1 = TKind.HasRunScales ? Vector256<float>.Zero : Vector256.Load(acc + 16);
        Vector256<float> f2 = TKind.HasRunScales ? Vector256<float>.Zero : Vector256.Load(acc + 32);
        Vector256<float> f3 = TKind.HasRunScales ? Vector256<float>.Zero : Vector256.Load(acc + 48);
        for (int g = 0; g < groupCount; g++, x += ActivationTiles.GroupDwords * 4)
        {
            byte* steps = (byte*)(x + ActivationTiles.FirstStep * 4);
            for (int sub = 0; sub < TKind.Subs; sub++)
            {
                Vector256<int> i0 = Vector256<int>.Zero, i1 = Vector256<int>.Zero, i2 = Vector256<int>.Zero, i3 = Vector256<int>.Zero;
                if (TKind.HasRunScales)
                {
                    int* biases = (int*)x + ActivationTiles.FirstBias * 4;
                    Vector256<int> first = WholeScale(runScales), second = WholeScale(runScales + 16);
                    i0 = first * Vector256.Create(biases[0]) + second * Vector256.Create(biases[4]);
                    i1 = first * Vector256.Create(biases[1]) + second * Vector256.Create(biases[5]);
                    i2 = first * Vector256.Create(biases[2]) + second * Vector256.Create(biases[6]);
                    i3 = first * Vector256.Create(biases[3]) + second * Vector256.Create(biases[7]);
                }

                for (int run = 0; run < TKind.Runs; run++)
                {
                    Vector256<short> a0 = Vector256<short>.Zero, a1 = Vector256<short>.Zero, a2 = Vector256<short>.Zero, a3 = Vector256<short>.Zero;
                    for (int step = 0; step < TKind.Steps; step += 2, quants += 128, steps += 32)
                    {
                        Vector256<byte> w0 = Vector256.Load(quants);
                        Vector256<byte> w1 = Vector256.Load(quants + 64);
                        a0 += Products(w0, steps);
                        a1 += Products(w0, steps + 4);
                        a2 += Products(w0, steps + 8);
                        a3 += Products(w0, steps + 12);
                        a0 += Products(w1, steps + 16);
                        a1 += Products(w1, steps + 20);
                        a2 += Products(w1, steps + 24);
                        a3 += Products(w1, steps + 28);
                    }

                    // The high nibbles meet the columns of the low ones again.
                    if (TKind.HasPlanes && run == 0)
                        steps -= TKind.Steps * 16;
                    Vector256<short> widen = Vector256.Create((short)(TKind.HasPlanes && run == 1 ? 16 : 1));
                    if (TKind.HasRunScales)
                        widen = Vector256.Load(runScales + (run >> 1) * 16).AsInt16();
                    i0 += Avx2.MultiplyAddAdjacent(a0, widen);
                    i1 += Avx2.MultiplyAddAdjacent(a1, widen);
                    i2 += Avx2.MultiplyAddAdjacent(a2, widen);
                    i3 += Avx2.MultiplyAddAdjacent(a3, widen);
                }

                if (TKind.HasRunScales)
                {
                    f0 = Vector256.FusedMultiplyAdd(Vector256.ConvertToSingle(i0), Vector256.Create(x[0]), f0);
                    f1 = Vector256.FusedMultiplyAdd(Vector256.ConvertToSingle(i1), Vector256.Create(x[1]), f1);
                    f2 = Vector256.FusedMultiplyAdd(Vector256.ConvertToSingle(i2), Vector256.Create(x[2]), f2);
                    f3 = Vector256.FusedMultiplyAdd(Vector256.ConvertToSingle(i3), Vector256.Create(x[3]), f3);
                    runScales += 32;
                    continue;
                }

                Vector256<float> scale = Vector256.Load(scales);
                f0 = Vector256.FusedMultiplyAdd(Vector256.ConvertToSingle(i0), scale * Vector256.Create(x[0]), f0);
                f1 = Vector256.FusedMultiplyAdd(Vector256.ConvertToSingle(i1), scale * Vector256.Create(x[1]), f1);
                f2 = Vector256.FusedMultiplyAdd(Vector256.ConvertToSingle(i2), scale * Vector256.Create(x[2]), f2);
                f3 = Vector256.FusedMultiplyAdd(Vector256.ConvertToSingle(i3), scale * Vector256.Create(x[3]), f3);
                Vector256<float> offset = Vector256.Load(offsets);
                float* sums = x + (TKind.Subs == 2 ? (2 + sub) * 4 : 4);
                f0 = Vector256.FusedMultiplyAdd(offset, Vector256.Create(sums[0]), f0);
                f1 = Vector256.FusedMultiplyAdd(offset, Vector256.Create(sums[1]), f1);
                f2 = Vector256.FusedMultiplyAdd(offset, Vector256.Create(sums[2]), f2);
                f3 = Vector256.FusedMultiplyAdd(offset, Vector256.Create(sums[3]), f3);
                scales += 16;
                offsets += 16;
            }
        }

        if (TKind.HasRunScales)
        {
            Vector256<float> scale = Vector256.Load(scales);
            f0 = Vector256.FusedMultiplyAdd(f0, scale, Vector256.Load(acc));
            f1 = Vector256.FusedMultiplyAdd(f1, scale, Vector256.Load(acc + 16));
            f2 = Vector256.FusedMultiplyAdd(f2, scale, Vector256.Load(acc + 32));
            f3 = Vector256.FusedMultiplyAdd(f3, scale, Vector256.Load(acc + 48));
        }

        f0.Store(acc);
        f1.Store(acc + 16);
        f2.Store(acc + 32);
        f3.Store(acc + 48);
    }

    // 4 columns of each row against 4 broadcast activations: two sums of two products per row.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<short> Products(Vector256<byte> weights, byte* activations) =>
        Avx2.MultiplyAddAdjacent(weights, Vector256.Create(*(int*)activations).AsSByte());

    // A run's scale from both 16-bit lanes to 32 bits.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<int> WholeScale(int* runScales) => Vector256.Load(runScales) << 16 >> 16;
}
