using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Qian.Kernels;

/// <summary>
/// The slow way into <see cref="UnpackedBlock"/>, for quantised types without a packed layout: each row is unpacked to signed bytes by its
/// format, and 16 such rows are interleaved. Pays with many rows of activations; a single one waits for the unpacking.
/// </summary>
internal static unsafe class RowInterleaving
{
    private const int Sixteens = PanelLayout.BlockColumns / 16;

    // Rows beyond the matrix become zero. Whole bytes of value + 128, or their nibbles in two planes.
    [SkipLocalsInit]
    public static void Unpack(in WeightRows weight, int row, int firstGroup, int groupCount, bool wholeBytes, in UnpackedBlock block)
    {
        sbyte* quants = stackalloc sbyte[PanelLayout.PanelRows * PanelLayout.BlockColumns];
        float* scales = stackalloc float[Sixteens];
        float* offsets = stackalloc float[Sixteens];
        int count = groupCount * PanelLayout.GroupColumns;
        for (int r = 0; r < PanelLayout.PanelRows; r++)
        {
            sbyte* rowQuants = quants + r * PanelLayout.BlockColumns;
            if (row + r < weight.RowCount)
            {
                weight.Unpack(row + r, firstGroup * PanelLayout.GroupColumns, count, rowQuants, scales, offsets);
            }
            else
            {
                new Span<sbyte>(rowQuants, count).Clear();
                new Span<float>(scales, Sixteens).Clear();
                new Span<float>(offsets, Sixteens).Clear();
            }

            for (int s = 0; s < count / 16; s++)
            {
                block.Scales[s * 16 + r] = scales[s];
                block.Offsets[s * 16 + r] = offsets[s] - 128 * scales[s];
            }
        }

        if (wholeBytes)
            InterleaveBytes(quants, count / 16, block.Quants);
        else
            Interleave(quants, count / 16, block.Quants);
    }

    // Per 16 columns: 4 steps of low nibbles of value + 128, then 4 steps of high ones.
    private static void Interleave(sbyte* quants, int sixteens, byte* destination)
    {
        Vector128<byte> sign = Vector128.Create((byte)0x80);
        Vector128<byte> low = Vector128.Create((byte)15);
        for (int s = 0; s < sixteens; s++, destination += 8 * PanelLayout.StepBytes)
        {
            for (int r = 0; r < PanelLayout.PanelRows; r++)
            {
                Vector128<byte> v = Vector128.Load((byte*)quants + r * PanelLayout.BlockColumns + 16 * s) ^ sign;
                Vector128<uint> lows = (v & low).AsUInt32();
                Vector128<uint> highs = (v >> 4).AsUInt32();
                uint* to = (uint*)destination + r;
                for (int step = 0; step < 4; step++)
                {
                    to[16 * step] = lows.GetElement(step);
                    to[16 * (4 + step)] = highs.GetElement(step);
                }
            }
        }
    }

    // Per 16 columns: 4 steps.
    private static void InterleaveBytes(sbyte* quants, int sixteens, byte* destination)
    {
        Vector128<byte> sign = Vector128.Create((byte)0x80);
        for (int s = 0; s < sixteens; s++, destination += 4 * PanelLayout.StepBytes)
        {
            for (int r = 0; r < PanelLayout.PanelRows; r++)
            {
                Vector128<uint> v = (Vector128.Load((byte*)quants + r * PanelLayout.BlockColumns + 16 * s) ^ sign).AsUInt32();
                uint* to = (uint*)destination + r;
                for (int step = 0; step < 4; step++)
                    to[16 * step] = v.GetElement(step);
            }
        }
    }
}
