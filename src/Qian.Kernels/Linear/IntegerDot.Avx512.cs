using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Qian.Kernels;

/// <summary>
/// 16 rows of weights x 1, 2, 4 or 8 rows of activations in 512-bit registers. Per column of the tile every width does the same operations in
/// the same order: integer sums (exact, so their order is free), then one fused multiply-add per group and term.
/// acc[column][16 rows] is read and written, so that a caller can go through K block by block.
/// </summary>
internal static unsafe class IntegerDotAvx512
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
                case 8:
                    Tile8<TKind>(block, x, groupCount, acc);
                    break;
                case 4:
                    Tile4<TKind>(block, x, groupCount, acc);
                    break;
                case 2:
                    Tile2<TKind>(block, x, groupCount, acc);
                    break;
                default:
                    Tile1<TKind>(block, x, groupCount, acc);
                    break;
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Tile1<TKind>(in UnpackedBlock block, float* x, int groupCount, float* acc)
        where TKind : IDotKind
    {
        byte* quants = block.Quants;
        float* scales = block.Scales;
        float* offsets = block.Offsets;
        int* runScales = block.RunScales;
        Vector512<float> f0 = TKind.HasRunScales ? Vector512<float>.Zero : Vector512.Load(acc);
        for (int g = 0; g < groupCount; g++, x += ActivationTiles.GroupDwords)
        {
            byte* steps = (byte*)(x + ActivationTiles.FirstStep);
            for (int sub = 0; sub < TKind.Subs; sub++)
            {
                Vector512<int> i0 = Vector512<int>.Zero;
                if (TKind.HasRunScales)
                {
                    int* biases = (int*)x + ActivationTiles.FirstBias;
                    Vector512<int> first = WholeScale(runScales), second = WholeScale(runScales + 16);
                    i0 = first * Vector512.Create(biases[0]) + second * Vector512.Create(biases[1]);
                }

                for (int run = 0; run < TKind.Runs; run++)
                {
                    Vector512<short> a0 = Vector512<short>.Zero;
                    for (int step = 0; step < TKind.Steps; step += 2, quants += 128, steps += 8)
                    {
                        Vector512<byte> w0 = Vector512.Load(quants);
                        Vector512<byte> w1 = Vector512.Load(quants + 64);
                        a0 += Products(w0, steps);
                        a0 += Products(w1, steps + 4);
                    }

                    // The high nibbles meet the columns of the low ones again.
                    if (TKind.HasPlanes && run == 0)
                        steps -= TKind.Steps * 4;
                    Vector512<short> widen = Vector512.Create((short)(TKind.HasPlanes && run == 1 ? 16 : 1));
                    if (TKind.HasRunScales)
                        widen = Vector512.Load(runScales + (run >> 1) * 16).AsInt16();
                    i0 += Avx512BW.MultiplyAddAdjacent(a0, widen);
                }

                if (TKind.HasRunScales)
                {
                    f0 = Vector512.FusedMultiplyAdd(Vector512.ConvertToSingle(i0), Vector512.Create(x[0]), f0);
                    runScales += 32;
                    continue;
                }

                Vector512<float> scale = Vector512.Load(scales);
                f0 = Vector512.FusedMultiplyAdd(Vector512.ConvertToSingle(i0), scale * Vector512.Create(x[0]), f0);
                Vector512<float> offset = Vector512.Load(offsets);
                float* sums = x + (TKind.Subs == 2 ? (2 + sub) * 1 : 1);
                f0 = Vector512.FusedMultiplyAdd(offset, Vector512.Create(sums[0]), f0);
                scales += 16;
                offsets += 16;
            }
        }

        if (TKind.HasRunScales)
        {
            Vector512<float> scale = Vector512.Load(scales);
            f0 = Vector512.FusedMultiplyAdd(f0, scale, Vector512.Load(acc));
        }

        f0.Store(acc);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Tile2<TKind>(in UnpackedBlock block, float* x, int groupCount, float* acc)
        where TKind : IDotKind
    {
        byte* quants = block.Quants;
        float* scales = block.Scales;
        float* offsets = block.Offsets;
        int* runScales = block.RunScales;
        Vector512<float> f0 = TKind.HasRunScales ? Vector512<float>.Zero : Vector512.Load(acc);
        Vector512<float> f1 = TKind.HasRunScales ? Vector512<float>.Zero : Vector512.Load(acc + 16);
        for (int g = 0; g < groupCount; g++, x += ActivationTiles.GroupDwords * 2)
        {
            byte* steps = (byte*)(x + ActivationTiles.FirstStep * 2);
            for (int sub = 0; sub < TKind.Subs; sub++)
            {
                Vector512<int> i0 = Vector512<int>.Zero, i1 = Vector512<int>.Zero;
                if (TKind.HasRunScales)
                {
                    int* biases = (int*)x + ActivationTiles.FirstBias * 2;
                    Vector512<int> first = WholeScale(runScales), second = WholeScale(runScales + 16);
                    i0 = first * Vector512.Create(biases[0]) + second * Vector512.Create(biases[2]);
                    i1 = first * Vector512.Create(biases[1]) + second * Vector512.Create(biases[3]);
                }

                for (int run = 0; run < TKind.Runs; run++)
                {
                    Vector512<short> a0 = Vector512<short>.Zero, a1 = Vector512<short>.Zero;
                    for (int step = 0; step < TKind.Steps; step += 2, quants += 128, steps += 16)
                    {
                        Vector512<byte> w0 = Vector512.Load(quants);
                        Vector512<byte> w1 = Vector512.Load(quants + 64);
                        a0 += Products(w0, steps);
                        a1 += Products(w0, steps + 4);
                        a0 += Products(w1, steps + 8);
                        a1 += Products(w1, steps + 12);
                    }

                    // The high nibbles meet the columns of the low ones again.
                    if (TKind.HasPlanes && run == 0)
                        steps -= TKind.Steps * 8;
                    Vector512<short> widen = Vector512.Create((short)(TKind.HasPlanes && run == 1 ? 16 : 1));
                    if (TKind.HasRunScales)
                        widen = Vector512.Load(runScales + (run >> 1) * 16).AsInt16();
                    i0 += Avx512BW.MultiplyAddAdjacent(a0, widen);
                    i1 += Avx512BW.MultiplyAddAdjacent(a1, widen);
                }

                if (TKind.HasRunScales)
                {
                    f0 = Vector512.FusedMultiplyAdd(Vector512.ConvertToSingle(i0), Vector512.Create(x[0]), f0);
                    f1 = Vector512.FusedMultiplyAdd(Vector512.ConvertToSingle(i1), Vector512.Create(x[1]), f1);
                    runScales += 32;
                    continue;
                }

                Vector512<float> scale = Vector512.Load(scales);
                f0 = Vector512.FusedMultiplyAdd(Vector512.ConvertToSingle(i0), scale * Vector512.Create(x[0]), f0);
                f1 = Vector512.FusedMultiplyAdd(Vector512.ConvertToSingle(i1), scale * Vector512.Create(x[1]), f1);
                Vector512<float> offset = Vector512.Load(offsets);
                float* sums = x + (TKind.Subs == 2 ? (2 + sub) * 2 : 2);
                f0 = Vector512.FusedMultiplyAdd(offset, Vector512.Create(sums[0]), f0);
                f1 = Vector512.FusedMultiplyAdd(offset, Vector512.Create(sums[1]), f1);
                scales += 16;
                offsets += 16;
            }
        }

        if (TKind.HasRunScales)
        {
            Vector512<float> scale = Vector512.Load(scales);
            f0 = Vector512.FusedMultiplyAdd(f0, scale, Vector512.Load(acc));
            f1 = Vector512.FusedMultiplyAdd(f1, scale, Vector512.Load(acc + 16));
        }

        f0.Store(acc);
        f1.Store(acc + 16);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Tile4<TKind>(in UnpackedBlock block, float* x, int groupCount, float* acc)
        where TKind : IDotKind
    {
        byte* quants = block.Quants;
        float* scales = block.Scales;
        float* offsets = block.Offsets;
        int* runScales = block.RunScales;
        Vector512<float> f0 = TKind.HasRunScales ? Vector512<float>.Zero : Vector512.Load(acc);
        Vector512<float> f1 = TKind.HasRunScales ? Vector512<float>.Zero : Vector512.Load(acc + 16);
        Vector512<float> f2 = TKind.HasRunScales ? Vector512<float>.Zero : Vector512.Load(acc + 32);
        Vector512<float> f3 = TKind.HasRunScales ? Vector512<float>.Zero : Vector512.Load(acc + 48);
        for (int g = 0; g < groupCount; g++, x += ActivationTiles.GroupDwords * 4)
        {
            byte* steps = (byte*)(x + ActivationTiles.FirstStep * 4);
            for (int sub = 0; sub < TKind.Subs; sub++)
            {
                Vector512<int> i0 = Vector512<int>.Zero, i1 = Vector512<int>.Zero, i2 = Vector512<int>.Zero, i3 = Vector512<int>.Zero;
                if (TKind.HasRunScales)
                {
                    int* biases = (int*)x + ActivationTiles.FirstBias * 4;
                    Vector512<int> first = WholeScale(runScales), second = WholeScale(runScales + 16);
                    i0 = first * Vector512.Create(biases[0]) + second * Vector512.Create(biases[4]);
                    i1 = first * Vector512.Create(biases[1]) + second * Vector512.Create(biases[5]);
                    i2 = first * Vector512.Create(biases[2]) + second * Vector512.Create(biases[6]);
                    i3 = first * Vector512.Create(biases[3]) + second * Vector512.Create(biases[7]);
                }

                for (int run = 0; run < TKind.Runs; run++)
                {
                    Vector512<short> a0 = Vector512<short>.Zero, a1 = Vector512<short>.Zero, a2 = Vector512<short>.Zero, a3 = Vector512<short>.Zero;
                    for (int step = 0; step < TKind.Steps; step += 2, quants += 128, steps += 32)
                    {
                        Vector512<byte> w0 = Vector512.Load(quants);
                        Vector512<byte> w1 = Vector512.Load(quants + 64);
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
                    Vector512<short> widen = Vector512.Create((short)(TKind.HasPlanes && run == 1 ? 16 : 1));
                    if (TKind.HasRunScales)
                        widen = Vector512.Load(runScales + (run >> 1) * 16).AsInt16();
                    i0 += Avx512BW.MultiplyAddAdjacent(a0, widen);
                    i1 += Avx512BW.MultiplyAddAdjacent(a1, widen);
                    i2 += Avx512BW.MultiplyAddAdjacent(a2, widen);
                    i3 += Avx512BW.MultiplyAddAdjacent(a3, widen);
                }

                if (TKind.HasRunScales)
                {
                    f0 = Vector512.FusedMultiplyAdd(Vector512.ConvertToSingle(i0), Vector512.Create(x[0]), f0);
                    f1 = Vector512.FusedMultiplyAdd(Vector512.ConvertToSingle(i1), Vector512.Create(x[1]), f1);
                    f2 = Vector512.FusedMultiplyAdd(Vector512.ConvertToSingle(i2), Vector512.Create(x[2]), f2);
                    f3 = Vector512.FusedMultiplyAdd(Vector512.ConvertToSingle(i3), Vector512.Create(x[3]), f3);
                    runScales += 32;
                    continue;
                }

                Vector512<float> scale = Vector512.Load(scales);
                f0 = Vector512.FusedMultiplyAdd(Vector512.ConvertToSingle(i0), scale * Vector512.Create(x[0]), f0);
                f1 = Vector512.FusedMultiplyAdd(Vector512.ConvertToSingle(i1), scale * Vector512.Create(x[1]), f1);
                f2 = Vector512.FusedMultiplyAdd(Vector512.ConvertToSingle(i2), scale * Vector512.Create(x[2]), f2);
                f3 = Vector512.FusedMultiplyAdd(Vector512.ConvertToSingle(i3), scale * Vector512.Create(x[3]), f3);
                Vector512<float> offset = Vector512.Load(offsets);
                float* sums = x + (TKind.Subs == 2 ? (2 + sub) * 4 : 4);
                f0 = Vector512.FusedMultiplyAdd(offset, Vector512.Create(sums[0]), f0);
                f1 = Vector512.FusedMultiplyAdd(offset, Vector512.Create(sums[1]), f1);
                f2 = Vector512.FusedMultiplyAdd(offset, Vector512.Create(sums[2]), f2);
                f3 = Vector512.FusedMultiplyAdd(offset, Vector512.Create(sums[3]), f3);
                scales += 16;
                offsets += 16;
            }
        }

        if (TKind.HasRunScales)
        {
            Vector512<float> scale = Vector512.Load(scales);
            f0 = Vector512.FusedMultiplyAdd(f0, scale, Vector512.Load(acc));
            f1 = Vector512.FusedMultiplyAdd(f1, scale, Vector512.Load(acc + 16));
            f2 = Vector512.FusedMultiplyAdd(f2, scale, Vector512.Load(acc + 32));
            f3 = Vector512.FusedMultiplyAdd(f3, scale, Vector512.Load(acc + 48));
        }

        f0.Store(acc);
        f1.Store(acc + 16);
        f2.Store(acc + 32);
        f3.Store(acc + 48);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Tile8<TKind>(in UnpackedBlock block, float* x, int groupCount, float* acc)
        where TKind : IDotKind
    {
        byte* quants = block.Quants;
        float* scales = block.Scales;
        float* offsets = block.Offsets;
        int* runScales = block.RunScales;
        Vector512<float> f0 = TKind.HasRunScales ? Vector512<float>.Zero : Vector512.Load(acc);
        Vector512<float> f1 = TKind.HasRunScales ? Vector512<float>.Zero : Vector512.Load(acc + 16);
        Vector512<float> f2 = TKind.HasRunScales ? Vector512<float>.Zero : Vector512.Load(acc + 32);
        Vector512<float> f3 = TKind.HasRunScales ? Vector512<float>.Zero : Vector512.Load(acc + 48);
        Vector512<float> f4 = TKind.HasRunScales ? Vector512<float>.Zero : Vector512.Load(acc + 64);
        Vector512<float> f5 = TKind.HasRunScales ? Vector512<float>.Zero : Vector512.Load(acc + 80);
        Vector512<float> f6 = TKind.HasRunScales ? Vector512<float>.Zero : Vector512.Load(acc + 96);
        Vector512<float> f7 = TKind.HasRunScales ? Vector512<float>.Zero : Vector512.Load(acc + 112);
        for (int g = 0; g < groupCount; g++, x += ActivationTiles.GroupDwords * 8)
        {
            byte* steps = (byte*)(x + ActivationTiles.FirstStep * 8);
            for (int sub = 0; sub < TKind.Subs; sub++)
            {
                Vector512<int> i0 = Vector512<int>.Zero, i1 = Vector512<int>.Zero, i2 = Vector512<int>.Zero, i3 = Vector512<int>.Zero, i4 = Vector512<int>.Zero, i5 = Vector512<int>.Zero, i6 = Vector512<int>.Zero, i7 = Vector512<int>.Zero;
                if (TKind.HasRunScales)
                {
                    int* biases = (int*)x + ActivationTiles.FirstBias * 8;
                    Vector512<int> first = WholeScale(runScales), second = WholeScale(runScales + 16);
                    i0 = first * Vector512.Create(biases[0]) + second * Vector512.Create(biases[8]);
                    i1 = first * Vector512.Create(biases[1]) + second * Vector512.Create(biases[9]);
                    i2 = first * Vector512.Create(biases[2]) + second * Vector512.Create(biases[10]);
                    i3 = first * Vector512.Create(biases[3]) + second * Vector512.Create(biases[11]);
                    i4 = first * Vector512.Create(biases[4]) + second * Vector512.Create(biases[12]);
                    i5 = first * Vector512.Create(biases[5]) + second * Vector512.Create(biases[13]);
                    i6 = first * Vector512.Create(biases[6]) + second * Vector512.Create(biases[14]);
                    i7 = first * Vector512.Create(biases[7]) + second * Vector512.Create(biases[15]);
                }

                for (int run = 0; run < TKind.Runs; run++)
                {
                    Vector512<short> a0 = Vector512<short>.Zero, a1 = Vector512<short>.Zero, a2 = Vector512<short>.Zero, a3 = Vector512<short>.Zero, a4 = Vector512<short>.Zero, a5 = Vector512<short>.Zero, a6 = Vector512<short>.Zero, a7 = Vector512<short>.Zero;
                    for (int step = 0; step < TKind.Steps; step += 2, quants += 128, steps += 64)
                    {
                        Vector512<byte> w0 = Vector512.Load(quants);
                        Vector512<byte> w1 = Vector512.Load(quants + 64);
                        a0 += Products(w0, steps);
                        a1 += Products(w0, steps + 4);
                        a2 += Products(w0, steps + 8);
                        a3 += Products(w0, steps + 12);
                        a4 += Products(w0, steps + 16);
                        a5 += Products(w0, steps + 20);
                        a6 += Products(w0, steps + 24);
                        a7 += Products(w0, steps + 28);
                        a0 += Products(w1, steps + 32);
                        a1 += Products(w1, steps + 36);
                        a2 += Products(w1, steps + 40);
                        a3 += Products(w1, steps + 44);
                        a4 += Products(w1, steps + 48);
                        a5 += Products(w1, steps + 52);
                        a6 += Products(w1, steps + 56);
                        a7 += Products(w1, steps + 60);
                    }

                    // The high nibbles meet the columns of the low ones again.
                    if (TKind.HasPlanes && run == 0)
                        steps -= TKind.Steps * 32;
                    Vector512<short> widen = Vector512.Create((short)(TKind.HasPlanes && run == 1 ? 16 : 1));
                    if (TKind.HasRunScales)
                        widen = Vector512.Load(runScales + (run >> 1) * 16).AsInt16();
                    i0 += Avx512BW.MultiplyAddAdjacent(a0, widen);
                    i1 += Avx512BW.MultiplyAddAdjacent(a1, widen);
                    i2 += Avx512BW.MultiplyAddAdjacent(a2, widen);
                    i3 += Avx512BW.MultiplyAddAdjacent(a3, widen);
                    i4 += Avx512BW.MultiplyAddAdjacent(a4, widen);
                    i5 += Avx512BW.MultiplyAddAdjacent(a5, widen);
                    i6 += Avx512BW.MultiplyAddAdjacent(a6, widen);
                    i7 += Avx512BW.MultiplyAddAdjacent(a7, widen);
                }

                if (TKind.HasRunScales)
                {
                    f0 = Vector512.FusedMultiplyAdd(Vector512.ConvertToSingle(i0), Vector512.Create(x[0]), f0);
                    f1 = Vector512.FusedMultiplyAdd(Vector512.ConvertToSingle(i1), Vector512.Create(x[1]), f1);
                    f2 = Vector512.FusedMultiplyAdd(Vector512.ConvertToSingle(i2), Vector512.Create(x[2]), f2);
                    f3 = Vector512.FusedMultiplyAdd(Vector512.ConvertToSingle(i3), Vector512.Create(x[3]), f3);
                    f4 = Vector512.FusedMultiplyAdd(Vector512.ConvertToSingle(i4), Vector512.Create(x[4]), f4);
                    f5 = Vector512.FusedMultiplyAdd(Vector512.ConvertToSingle(i5), Vector512.Create(x[5]), f5);
                    f6 = Vector512.FusedMultiplyAdd(Vector512.ConvertToSingle(i6), Vector512.Create(x[6]), f6);
                    f7 = Vector512.FusedMultiplyAdd(Vector512.ConvertToSingle(i7), Vector512.Create(x[7]), f7);
                    runScales += 32;
                    continue;
                }

                Vector512<float> scale = Vector512.Load(scales);
                f0 = Vector512.FusedMultiplyAdd(Vector512.ConvertToSingle(i0), scale * Vector512.Create(x[0]), f0);
                f1 = Vector512.FusedMultiplyAdd(Vector512.ConvertToSingle(i1), scale * Vector512.Create(x[1]), f1);
                f2 = Vector512.FusedMultiplyAdd(Vector512.ConvertToSingle(i2), scale * Vector512.Create(x[2]), f2);
                f3 = Vector512.FusedMultiplyAdd(Vector512.ConvertToSingle(i3), scale * Vector512.Create(x[3]), f3);
                f4 = Vector512.FusedMultiplyAdd(Vector512.ConvertToSingle(i4), scale * Vector512.Create(x[4]), f4);
                f5 = Vector512.FusedMultiplyAdd(Vector512.ConvertToSingle(i5), scale * Vector512.Create(x[5]), f5);
                f6 = Vector512.FusedMultiplyAdd(Vector512.ConvertToSingle(i6), scale * Vector512.Create(x[6]), f6);
                f7 = Vector512.FusedMultiplyAdd(Vector512.ConvertToSingle(i7), scale * Vector512.Create(x[7]), f7);
                Vector512<float> offset = Vector512.Load(offsets);
                float* sums = x + (TKind.Subs == 2 ? (2 + sub) * 8 : 8);
                f0 = Vector512.FusedMultiplyAdd(offset, Vector512.Create(sums[0]), f0);
                f1 = Vector512.FusedMultiplyAdd(offset, Vector512.Create(sums[1]), f1);
                f2 = Vector512.FusedMultiplyAdd(offset, Vector512.Create(sums[2]), f2);
                f3 = Vector512.FusedMultiplyAdd(offset, Vector512.Create(sums[3]), f3);
                f4 = Vector512.FusedMultiplyAdd(offset, Vector512.Create(sums[4]), f4);
                f5 = Vector512.FusedMultiplyAdd(offset, Vector512.Create(sums[5]), f5);
                f6 = Vector512.FusedMultiplyAdd(offset, Vector512.Create(sums[6]), f6);
                f7 = Vector512.FusedMultiplyAdd(offset, Vector512.Create(sums[7]), f7);
                scales += 16;
                offsets += 16;
            }
        }

        if (TKind.HasRunScales)
        {
            Vector512<float> scale = Vector512.Load(scales);
            f0 = Vector512.FusedMultiplyAdd(f0, scale, Vector512.Load(acc));
            f1 = Vector512.FusedMultiplyAdd(f1, scale, Vector512.Load(acc + 16));
            f2 = Vector512.FusedMultiplyAdd(f2, scale, Vector512.Load(acc + 32));
            f3 = Vector512.FusedMultiplyAdd(f3, scale, Vector512.Load(acc + 48));
            f4 = Vector512.FusedMultiplyAdd(f4, scale, Vector512.Load(acc + 64));
            f5 = Vector512.FusedMultiplyAdd(f5, scale, Vector512.Load(acc + 80));
            f6 = Vector512.FusedMultiplyAdd(f6, scale, Vector512.Load(acc + 96));
            f7 = Vector512.FusedMultiplyAdd(f7, scale, Vector512.Load(acc + 112));
        }

        f0.Store(acc);
        f1.Store(acc + 16);
        f2.Store(acc + 32);
        f3.Store(acc + 48);
        f4.Store(acc + 64);
        f5.Store(acc + 80);
        f6.Store(acc + 96);
        f7.Store(acc + 112);
    }

    // 4 columns of each row against 4 broadcast activations: two sums of two products per row.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<short> Products(Vector512<byte> weights, byte* activations) =>
        Avx512BW.MultiplyAddAdjacent(weights, Vector512.Create(*(int*)activations).AsSByte());

    // A run's scale from both 16-bit lanes to 32 bits.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<int> WholeScale(int* runScales) => Vector512.Load(runScales) << 16 >> 16;
}
