using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using static Qian.Kernels.TileSize;

namespace Qian.Kernels;

/// <summary>
/// The tiles of <see cref="IntegerDotAvx2"/> around an instruction that multiplies and adds up bytes: 8 rows of weights at a time (half 0 or 1 of the panel) x
/// 1, 2 or 4 rows of activations, weights as whole bytes. Either half of a group has its own integer sums, so that enough chains
/// run side by side. The integers are exact and the float operations those of the other tiers in their order, so the bits are theirs.
/// </summary>
internal static unsafe class IntegerDotBytes<TDot>
    where TDot : struct, IByteDot
{
    // From a step to the one of the second half of the group.
    private const int HalfSteps = 4, HalfBytes = HalfSteps * PanelLayout.StepBytes;

    // All tiles from first to end against one block, whose bytes are at quants; acc holds the accumulators of tile first.
    public static void Tiles<TKind>(in UnpackedBlock block, byte* quants, in ActivationTiles tiles, int first, int end, int firstGroup, int groupCount, float* acc)
        where TKind : IDotKind
    {
        for (int tile = first; tile < end; tile++, acc += tiles.Width * PanelLayout.PanelRows)
        {
            float* x = tiles.Group(tile, firstGroup);
            for (int half = 0; half < 2; half++)
            {
                switch (tiles.WidthOf(tile))
                {
                    case 4:
                        Tile<TKind, Four>(block, quants, half, x, groupCount, acc);
                        break;
                    case 2:
                        Tile<TKind, Two>(block, quants, half, x, groupCount, acc);
                        break;
                    default:
                        Tile<TKind, One>(block, quants, half, x, groupCount, acc);
                        break;
                }
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Tile<TKind, TWidth>(in UnpackedBlock block, byte* quants, int half, float* x, int groupCount, float* acc)
        where TKind : IDotKind
        where TWidth : struct, ICount
    {
        quants += 32 * half;
        acc += 8 * half;
        // Of the types with run scales, the block has one row of scales.
        float* scales = block.Scales + 8 * half, offsets = block.Offsets + 8 * half;
        int* runScales = block.RunScales + 8 * half;
        Vector256<float> f0 = Start<TKind>(acc), f1 = default, f2 = default, f3 = default;
        if (TWidth.Count > 1)
            f1 = Start<TKind>(acc + 16);
        if (TWidth.Count > 2)
            (f2, f3) = (Start<TKind>(acc + 32), Start<TKind>(acc + 48));
        for (int g = 0; g < groupCount; g++, x += ActivationTiles.GroupDwords * TWidth.Count, quants += 2 * HalfBytes)
        {
            int* biases = (int*)x + ActivationTiles.FirstBias * TWidth.Count;
            Vector256<int> a0 = Bias<TKind>(biases), a1 = default, a2 = default, a3 = default;
            Vector256<int> b0 = Bias<TKind>(biases + TWidth.Count), b1 = default, b2 = default, b3 = default;
            if (TWidth.Count > 1)
                (a1, b1) = (Bias<TKind>(biases + 1), Bias<TKind>(biases + TWidth.Count + 1));
            if (TWidth.Count > 2)
            {
                (a2, b2) = (Bias<TKind>(biases + 2), Bias<TKind>(biases + TWidth.Count + 2));
                (a3, b3) = (Bias<TKind>(biases + 3), Bias<TKind>(biases + TWidth.Count + 3));
            }

            int* steps = (int*)x + ActivationTiles.FirstStep * TWidth.Count;
            byte* weights = quants;
            for (int step = 0; step < HalfSteps; step++, weights += PanelLayout.StepBytes, steps += TWidth.Count)
            {
                Vector256<byte> first = Weights<TKind>(weights), second = Weights<TKind>(weights + HalfBytes);
                int* later = steps + HalfSteps * TWidth.Count;
                (a0, b0) = (Add(a0, first, steps), Add(b0, second, later));
                if (TWidth.Count > 1)
                    (a1, b1) = (Add(a1, first, steps + 1), Add(b1, second, later + 1));
                if (TWidth.Count > 2)
                {
                    (a2, b2) = (Add(a2, first, steps + 2), Add(b2, second, later + 2));
                    (a3, b3) = (Add(a3, first, steps + 3), Add(b3, second, later + 3));
                }
            }

            f0 = AddGroup<TKind, TWidth>(f0, a0, b0, scales, offsets, runScales, x);
            if (TWidth.Count > 1)
                f1 = AddGroup<TKind, TWidth>(f1, a1, b1, scales, offsets, runScales, x + 1);
            if (TWidth.Count > 2)
            {
                f2 = AddGroup<TKind, TWidth>(f2, a2, b2, scales, offsets, runScales, x + 2);
                f3 = AddGroup<TKind, TWidth>(f3, a3, b3, scales, offsets, runScales, x + 3);
            }

            if (TKind.HasRunScales)
            {
                runScales += 32;
                continue;
            }

            scales += 16 * TKind.Subs;
            offsets += 16 * TKind.Subs;
        }

        Finish<TKind>(f0, scales, acc);
        if (TWidth.Count > 1)
            Finish<TKind>(f1, scales, acc + 16);
        if (TWidth.Count > 2)
        {
            Finish<TKind>(f2, scales, acc + 32);
            Finish<TKind>(f3, scales, acc + 48);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<float> Start<TKind>(float* acc)
        where TKind : IDotKind => TKind.HasRunScales ? Vector256<float>.Zero : Vector256.Load(acc);

    // What a half of a group starts with: -32 times the sum of its activations where weights are 32 too high; 128 times where signed ones are 128 too low.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<int> Bias<TKind>(int* bias)
        where TKind : IDotKind
    {
        if (TKind.HasRunScales)
            return Vector256.Create(*bias);
        return TDot.IsSigned && TKind.HasPlanes ? Vector256.Create(*bias * -(128 / ActivationTiles.Bias)) : Vector256<int>.Zero;
    }

    // Only whole bytes reach beyond what a signed byte holds.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<byte> Weights<TKind>(byte* weights)
        where TKind : IDotKind =>
        TDot.IsSigned && TKind.HasPlanes ? Vector256.Load(weights) ^ Vector256.Create((byte)0x80) : Vector256.Load(weights);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<int> Add(Vector256<int> sum, Vector256<byte> weights, int* activations) =>
        TDot.Add(sum, weights, Vector256.Create(*activations).AsSByte());

    // The sums of either half of a group, for the column whose entries begin at x.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<float> AddGroup<TKind, TWidth>(Vector256<float> sum, Vector256<int> first, Vector256<int> second, float* scales, float* offsets, int* runScales, float* x)
        where TKind : IDotKind
        where TWidth : struct, ICount
    {
        if (TKind.HasRunScales)
        {
            Vector256<int> whole = first * WholeScale(runScales) + second * WholeScale(runScales + 16);
            return Vector256.FusedMultiplyAdd(Vector256.ConvertToSingle(whole), Vector256.Create(x[0]), sum);
        }

        if (TKind.Subs == 1)
            return AddPart(sum, first + second, scales, x[0], offsets, x[ActivationTiles.Sum * TWidth.Count]);
        sum = AddPart(sum, first, scales, x[0], offsets, x[ActivationTiles.FirstSum * TWidth.Count]);
        return AddPart(sum, second, scales + 16, x[0], offsets + 16, x[(ActivationTiles.FirstSum + 1) * TWidth.Count]);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<float> AddPart(Vector256<float> sum, Vector256<int> integers, float* scales, float scale, float* offsets, float activations)
    {
        sum = Vector256.FusedMultiplyAdd(Vector256.ConvertToSingle(integers), Vector256.Load(scales) * Vector256.Create(scale), sum);
        return Vector256.FusedMultiplyAdd(Vector256.Load(offsets), Vector256.Create(activations), sum);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Finish<TKind>(Vector256<float> sum, float* scales, float* acc)
        where TKind : IDotKind =>
        (TKind.HasRunScales ? Vector256.FusedMultiplyAdd(sum, Vector256.Load(scales), Vector256.Load(acc)) : sum).Store(acc);

    // A run's scale stands in both 16-bit lanes.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<int> WholeScale(int* runScales) => Vector256.Load(runScales) << 16 >> 16;
}
