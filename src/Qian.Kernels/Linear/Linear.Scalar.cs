using System.Runtime.CompilerServices;

namespace Qian.Kernels;

// The definition of the products, in the plainest form: one row of weights at a time, sums in double.
public static unsafe partial class Linear
{
    private const int ScalarColumns = 64;

    [SkipLocalsInit]
    private static void FloatScalar(Part* part, int first, int end, float* x, long xStride, int rowCount)
    {
        float* weights = stackalloc float[WeightRows.BlockColumns];
        double* sums = stackalloc double[ScalarColumns];
        int columnCount = part->Weight.ColumnCount;
        for (int t0 = 0; t0 < rowCount; t0 += ScalarColumns)
        {
            int tCount = Math.Min(ScalarColumns, rowCount - t0);
            for (int row = first; row < end; row++)
            {
                new Span<double>(sums, tCount).Clear();
                for (int k0 = 0; k0 < columnCount; k0 += WeightRows.BlockColumns)
                {
                    int count = Math.Min(WeightRows.BlockColumns, columnCount - k0);
                    part->Weight.Decode(row, k0, count, weights);
                    for (int t = 0; t < tCount; t++)
                    {
                        float* values = x + (t0 + t) * xStride + k0;
                        for (int k = 0; k < count; k++)
                            sums[t] += (double)weights[k] * values[k];
                    }
                }

                for (int t = 0; t < tCount; t++)
                    part->Output[(t0 + t) * part->OutputStride + row] = (float)sums[t];
            }
        }
    }

    [SkipLocalsInit]
    private static void IntegerScalar(Part* part, int first, int end, in ActivationTiles tiles)
    {
        sbyte* quants = stackalloc sbyte[WeightRows.BlockColumns];
        float* scales = stackalloc float[WeightRows.BlockColumns / 16];
        float* offsets = stackalloc float[WeightRows.BlockColumns / 16];
        double* sums = stackalloc double[ScalarColumns];
        int columnCount = part->Weight.ColumnCount;
        for (int t0 = 0; t0 < tiles.RowCount; t0 += ScalarColumns)
        {
            int tCount = Math.Min(ScalarColumns, tiles.RowCount - t0);
            for (int row = first; row < end; row++)
            {
                new Span<double>(sums, tCount).Clear();
                for (int k0 = 0; k0 < columnCount; k0 += WeightRows.BlockColumns)
                {
                    int count = Math.Min(WeightRows.BlockColumns, columnCount - k0);
                    part->Weight.Unpack(row, k0, count, quants, scales, offsets);
                    for (int t = 0; t < tCount; t++)
                    {
                        for (int k = 0; k < count; k += PanelLayout.GroupColumns)
                            sums[t] += GroupScalar(tiles.Group(t0 + t, (k0 + k) / PanelLayout.GroupColumns), quants + k, scales + k / 16, offsets + k / 16);
                    }
                }

                for (int t = 0; t < tCount; t++)
                    part->Output[(t0 + t) * part->OutputStride + row] = (float)sums[t];
            }
        }
    }

    // 32 columns against a group of a tile of width 1. Both sums over 16 are exact integers.
    private static double GroupScalar(float* group, sbyte* quants, float* scales, float* offsets)
    {
        sbyte* x = (sbyte*)(group + ActivationTiles.FirstStep);
        double sum = 0;
        for (int half = 0; half < 2; half++, x += 16, quants += 16)
        {
            int dot = 0, total = 0;
            for (int i = 0; i < 16; i++)
            {
                dot += quants[i] * x[i];
                total += x[i];
            }

            sum += (double)scales[half] * dot + (double)offsets[half] * total;
        }

        return group[0] * sum;
    }
}
