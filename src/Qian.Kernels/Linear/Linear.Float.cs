using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Qian.Kernels;

// The float products of the vector tiers: 4 rows of weights at a time, widened to floats a slice of K at once and kept in the first
// cache for all rows of x. Each (row, column) pair has one vector accumulator, so lane i sums the columns i, i + L, i + 2L … in
// order whatever the tile, and the lanes are added at the very end.
public static unsafe partial class Linear
{
    private const int FloatRowTile = 4;
    private const int FloatSlice = 512;
    private const int FloatColumns = 64;
    private const int MaxLanes = 16;

    [SkipLocalsInit]
    private static void FloatRows(Isa isa, Part* part, int first, int end, float* x, long xStride, int rowCount)
    {
        const int SliceFloats = FloatRowTile * FloatSlice;
        const int SumFloats = FloatColumns * FloatRowTile * MaxLanes;
        float* memory = stackalloc float[SliceFloats + SumFloats + 16];
        memory = (float*)((nint)memory + 63 & -64);
        float* slice = memory;
        float* sums = memory + SliceFloats;
        float** rows = stackalloc float*[FloatRowTile];

        int lanes = isa == Isa.Avx512 ? 16 : 8;
        int columnCount = part->Weight.ColumnCount;
        for (int t0 = 0; t0 < rowCount; t0 += FloatColumns)
        {
            int tCount = Math.Min(FloatColumns, rowCount - t0);
            float* xBlock = x + t0 * xStride;
            for (int row = first; row < end; row += FloatRowTile)
            {
                int present = Math.Min(FloatRowTile, end - row);
                NativeMemory.Clear(sums, (nuint)(((tCount + 3) & -4) * FloatRowTile * lanes * sizeof(float)));
                for (int k0 = 0; k0 < columnCount; k0 += FloatSlice)
                {
                    int count = Math.Min(FloatSlice, columnCount - k0);
                    WidenSlice(isa, part->Weight, row, present, k0, count, slice, rows);
                    Slice(isa, rows, xBlock + k0, xStride, tCount, count, sums, lanes);
                }

                for (int t = 0; t < tCount; t++)
                {
                    float* output = part->Output + (t0 + t) * part->OutputStride + row;
                    for (int r = 0; r < present; r++)
                        output[r] = isa == Isa.Avx512 ? FloatDotAvx512.Sum(sums + (t * FloatRowTile + r) * lanes) : FloatDot256.Sum(sums + (t * FloatRowTile + r) * lanes);
                }
            }
        }
    }

    // rows[r]: where the slice's floats of row r lie. Missing rows repeat the first; nobody stores them.
    private static void WidenSlice(Isa isa, in WeightRows weight, int row, int present, int k0, int count, float* slice, float** rows)
    {
        for (int r = 0; r < FloatRowTile; r++)
        {
            if (r >= present)
            {
                rows[r] = rows[0];
                continue;
            }

            byte* source = weight.Data + (row + r) * weight.RowBytes;
            rows[r] = slice + r * FloatSlice;
            switch (weight.Type)
            {
                case WeightType.F32:
                    rows[r] = (float*)source + k0;
                    break;
                case WeightType.F16 when isa == Isa.Avx512:
                    FloatDotAvx512.WidenHalf((ushort*)source + k0, rows[r], count);
                    break;
                case WeightType.F16:
                    FloatDot256.WidenHalf((ushort*)source + k0, rows[r], count);
                    break;
                case WeightType.BF16 when isa == Isa.Avx512:
                    FloatDotAvx512.WidenBrain((ushort*)source + k0, rows[r], count);
                    break;
                case WeightType.BF16:
                    FloatDot256.WidenBrain((ushort*)source + k0, rows[r], count);
                    break;
                default:
                    weight.Decode(row + r, k0, count, rows[r]);
                    break;
            }
        }
    }

    // sums[t][row][lane] += the products of one slice of K. What is left of whole vectors goes through zero-padded copies.
    [SkipLocalsInit]
    private static void Slice(Isa isa, float** rows, float* x, long xStride, int tCount, int count, float* sums, int lanes)
    {
        float** columns = stackalloc float*[4];
        float** restRows = stackalloc float*[FloatRowTile];
        float* rest = stackalloc float[(FloatRowTile + 4) * MaxLanes];
        int whole = count & -MaxLanes;
        if (whole < count)
        {
            for (int r = 0; r < FloatRowTile; r++)
                restRows[r] = Padded(rows[r] + whole, count - whole, rest + r * MaxLanes);
        }

        for (int t = 0; t < tCount; t += 4, sums += 4 * FloatRowTile * lanes)
        {
            int width = Math.Min(4, tCount - t);
            for (int c = 0; c < 4; c++)
                columns[c] = x + (t + Math.Min(c, width - 1)) * xStride;
            Tile(isa, rows, columns, width, whole, sums);
            if (whole == count)
                continue;
            for (int c = 0; c < 4; c++)
                columns[c] = Padded(columns[c] + whole, count - whole, rest + (FloatRowTile + c) * MaxLanes);
            Tile(isa, restRows, columns, width, MaxLanes, sums);
        }
    }

    private static void Tile(Isa isa, float** rows, float** columns, int width, int count, float* sums)
    {
        if (isa == Isa.Avx512 && width == 1)
            FloatDotAvx512.Tile1(rows, columns[0], count, sums);
        else if (isa == Isa.Avx512)
            FloatDotAvx512.Tile4(rows, columns, count, sums);
        else
            FloatDot256.Tile(rows, columns, width, count, sums);
    }

    private static float* Padded(float* source, int count, float* destination)
    {
        for (int i = 0; i < MaxLanes; i++)
            destination[i] = i < count ? source[i] : 0;
        return destination;
    }
}
