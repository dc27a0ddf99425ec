using System.Runtime.Intrinsics;

namespace Qian.Kernels;

// Right matrices of products are copied into panels: groups of two vectors of columns, each group's steps one after the other,
// absent columns zero. A copy costs a hundredth of a product and takes the row stride out of it: rows of a power of two apart
// would fall on the same few sets of the first-level cache.
public static unsafe partial class CausalAttention
{
    // Rows [rowCount, columnCount] as they are: a step per row.
    private static Panels PackRows<TLanes, TVec>(float* rows, nint rowStride, int rowCount, int columnCount, float* to)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        int width = 2 * TLanes.Count;
        nint panelFloats = (nint)rowCount * width;
        for (int row = 0; row < rowCount; row++, rows += rowStride, to += width)
        {
            float* panel = to;
            for (int column = 0; column < columnCount; column += width, panel += panelFloats)
            {
                int left = columnCount - column;
                TLanes.Store(panel, TLanes.LoadPartial(rows + column, left));
                TLanes.Store(panel + TLanes.Count, TLanes.LoadPartial(rows + column + TLanes.Count, left - TLanes.Count));
            }
        }

        return new Panels(to - panelFloats, panelFloats);
    }

    // The transpose of rows [rowCount, stepCount]: a column per row. stepCount is a multiple of 4.
    private static Panels PackTurned<TLanes, TVec>(float* rows, nint rowStride, int rowCount, int stepCount, float* to)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        int width = 2 * TLanes.Count;
        nint panelFloats = (nint)stepCount * width;
        for (int panelRow = 0; panelRow < rowCount; panelRow += width)
        {
            float* panel = to + panelRow / width * panelFloats;
            for (int row = panelRow; row < panelRow + width; row += 8, panel += 8)
            {
                float* from = rows + row * rowStride;
                if (row + 8 <= rowCount)
                    TurnEight(from, rowStride, stepCount, panel, width);
                else
                    TurnFew(from, rowStride, Math.Max(rowCount - row, 0), stepCount, panel, width);
            }
        }

        return new Panels(to, panelFloats);
    }

    // Four values of eight rows become four vectors of eight: rows r and r + 4 share a register, each half is turned as 4 by 4.
    private static void TurnEight(float* rows, nint rowStride, int stepCount, float* to, nint width)
    {
        float* second = rows + 4 * rowStride;
        for (int step = 0; step < stepCount; step += 4, to += 4 * width)
        {
            Vector256<float> a = Vector256.Create(Vector128.Load(rows + step), Vector128.Load(second + step));
            Vector256<float> b = Vector256.Create(Vector128.Load(rows + rowStride + step), Vector128.Load(second + rowStride + step));
            Vector256<float> c = Vector256.Create(Vector128.Load(rows + 2 * rowStride + step), Vector128.Load(second + 2 * rowStride + step));
            Vector256<float> d = Vector256.Create(Vector128.Load(rows + 3 * rowStride + step), Vector128.Load(second + 3 * rowStride + step));
            Vector256<double> lowAB = Registers.ZipLow(a, b).AsDouble(), highAB = Registers.ZipHigh(a, b).AsDouble();
            Vector256<double> lowCD = Registers.ZipLow(c, d).AsDouble(), highCD = Registers.ZipHigh(c, d).AsDouble();
            Registers.ZipLow(lowAB, lowCD).AsSingle().Store(to);
            Registers.ZipHigh(lowAB, lowCD).AsSingle().Store(to + width);
            Registers.ZipLow(highAB, highCD).AsSingle().Store(to + 2 * width);
            Registers.ZipHigh(highAB, highCD).AsSingle().Store(to + 3 * width);
        }
    }

    // Fewer than eight rows, or none: the other columns are zero.
    private static void TurnFew(float* rows, nint rowStride, int rowCount, int stepCount, float* to, nint width)
    {
        for (int step = 0; step < stepCount; step++, to += width)
        {
            Vector256<float>.Zero.Store(to);
            for (int row = 0; row < rowCount; row++)
                to[row] = rows[row * rowStride + step];
        }
    }
}
