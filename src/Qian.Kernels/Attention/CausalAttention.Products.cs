using System.Runtime.CompilerServices;

namespace Qian.Kernels;

// The matrix product of one pair of tiles. The left matrix is read in place, value by value, with any strides, so that it may be a
// transpose; the right one lies in panels (CausalAttention.Panels.cs): columns in groups of two vectors, a group's steps
// together, so that the inner loop reads it straight on. A register block is 8 rows by a panel with 32 registers, 4 with 16.
// On the diagonal half of a product is known to be zero or never read; Band says which half, in whole blocks.
public static unsafe partial class CausalAttention
{
    private enum Band
    {
        Full,

        // Row r is wanted in columns up to r.
        RowsFromColumn,

        // Row r is wanted in columns from r on.
        RowsToColumn,

        // Row r of the left matrix is zero after step r.
        StepsToRow,

        // Row r of the left matrix is zero before step r.
        StepsFromRow,
    }

    /// <summary>A left matrix and its strides, in floats.</summary>
    private readonly struct Left(float* values, nint rowStride, nint stepStride)
    {
        public readonly float* Values = values;
        public readonly nint RowStride = rowStride, StepStride = stepStride;
    }

    /// <summary>A right matrix in panels of [steps, two vectors], <see cref="PanelFloats"/> apart.</summary>
    private readonly struct Panels(float* values, nint panelFloats)
    {
        public readonly float* Values = values;
        public readonly nint PanelFloats = panelFloats;
    }

    // c [rowCount, columnCount] = a [rowCount, stepCount] · b, added to what c holds where accumulate says so.
    private static void Multiply<TLanes, TVec>(Left a, Panels b, float* c, nint cStride, int rowCount, int stepCount, int columnCount, bool accumulate, Band band)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        int width = 2 * TLanes.Count, blockRows = TLanes.Count == 16 ? 8 : 4;
        float* panel = b.Values;
        for (int column = 0; column < columnCount; column += width, panel += b.PanelFloats)
        {
            int row = band == Band.RowsFromColumn ? column : 0;
            int endRow = band == Band.RowsToColumn ? Math.Min(rowCount, column + width) : rowCount;
            int columns = columnCount - column;
            for (; row < endRow; row += blockRows)
            {
                int first = band == Band.StepsFromRow ? row : 0;
                int end = band == Band.StepsToRow ? Math.Min(stepCount, row + blockRows) : stepCount;
                int rows = Math.Min(blockRows, endRow - row);
                float* from = a.Values + row * a.RowStride + first * a.StepStride;
                float* to = c + row * cStride + column;
                if (blockRows == 8 && rows > 4)
                    Block8<TLanes, TVec>(from, a.RowStride, a.StepStride, panel + first * width, end - first, to, cStride, rows, columns, accumulate);
                else
                    Block4<TLanes, TVec>(from, a.RowStride, a.StepStride, panel + first * width, end - first, to, cStride, rows, columns, accumulate);
            }
        }
    }

    // Rows past the last repeat it and are not stored.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Block8<TLanes, TVec>(float* a, nint rowStride, nint stepStride, float* panel, int stepCount, float* c, nint cStride, int rows,
        int columns, bool accumulate) where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        float* a1 = a + rowStride, a2 = a1 + rowStride, a3 = a2 + rowStride, a4 = a3 + rowStride;
        float* a5 = rows > 5 ? a4 + rowStride : a4, a6 = rows > 6 ? a5 + rowStride : a5, a7 = rows > 7 ? a6 + rowStride : a6;
        TVec c00 = TLanes.Zero, c01 = TLanes.Zero, c10 = TLanes.Zero, c11 = TLanes.Zero;
        TVec c20 = TLanes.Zero, c21 = TLanes.Zero, c30 = TLanes.Zero, c31 = TLanes.Zero;
        TVec c40 = TLanes.Zero, c41 = TLanes.Zero, c50 = TLanes.Zero, c51 = TLanes.Zero;
        TVec c60 = TLanes.Zero, c61 = TLanes.Zero, c70 = TLanes.Zero, c71 = TLanes.Zero;
        nint at = 0;
        for (float* end = panel + (nint)stepCount * 2 * TLanes.Count; panel < end; panel += 2 * TLanes.Count, at += stepStride)
        {
            TVec low = TLanes.Load(panel), high = TLanes.Load(panel + TLanes.Count);
            TVec x = TLanes.Broadcast(a[at]);
            c00 = TLanes.MultiplyAdd(x, low, c00);
            c01 = TLanes.MultiplyAdd(x, high, c01);
            x = TLanes.Broadcast(a1[at]);
            c10 = TLanes.MultiplyAdd(x, low, c10);
            c11 = TLanes.MultiplyAdd(x, high, c11);
            x = TLanes.Broadcast(a2[at]);
            c20 = TLanes.MultiplyAdd(x, low, c20);
            c21 = TLanes.MultiplyAdd(x, high, c21);
            x = TLanes.Broadcast(a3[at]);
            c30 = TLanes.MultiplyAdd(x, low, c30);
            c31 = TLanes.MultiplyAdd(x, high, c31);
            x = TLanes.Broadcast(a4[at]);
            c40 = TLanes.MultiplyAdd(x, low, c40);
            c41 = TLanes.MultiplyAdd(x, high, c41);
            x = TLanes.Broadcast(a5[at]);
            c50 = TLanes.MultiplyAdd(x, low, c50);
            c51 = TLanes.MultiplyAdd(x, high, c51);
            x = TLanes.Broadcast(a6[at]);
            c60 = TLanes.MultiplyAdd(x, low, c60);
            c61 = TLanes.MultiplyAdd(x, high, c61);
            x = TLanes.Broadcast(a7[at]);
            c70 = TLanes.MultiplyAdd(x, low, c70);
            c71 = TLanes.MultiplyAdd(x, high, c71);
        }

        StoreRow<TLanes, TVec>(c, c00, c01, columns, accumulate);
        StoreRow<TLanes, TVec>(c += cStride, c10, c11, columns, accumulate);
        StoreRow<TLanes, TVec>(c += cStride, c20, c21, columns, accumulate);
        StoreRow<TLanes, TVec>(c += cStride, c30, c31, columns, accumulate);
        StoreRow<TLanes, TVec>(c += cStride, c40, c41, columns, accumulate);
        if (rows > 5)
            StoreRow<TLanes, TVec>(c += cStride, c50, c51, columns, accumulate);
        if (rows > 6)
            StoreRow<TLanes, TVec>(c += cStride, c60, c61, columns, accumulate);
        if (rows > 7)
            StoreRow<TLanes, TVec>(c + cStride, c70, c71, columns, accumulate);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Block4<TLanes, TVec>(float* a, nint rowStride, nint stepStride, float* panel, int stepCount, float* c, nint cStride, int rows,
        int columns, bool accumulate) where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        float* a1 = rows > 1 ? a + rowStride : a, a2 = rows > 2 ? a1 + rowStride : a1, a3 = rows > 3 ? a2 + rowStride : a2;
        TVec c00 = TLanes.Zero, c01 = TLanes.Zero, c10 = TLanes.Zero, c11 = TLanes.Zero;
        TVec c20 = TLanes.Zero, c21 = TLanes.Zero, c30 = TLanes.Zero, c31 = TLanes.Zero;
        nint at = 0;
        for (float* end = panel + (nint)stepCount * 2 * TLanes.Count; panel < end; panel += 2 * TLanes.Count, at += stepStride)
        {
            TVec low = TLanes.Load(panel), high = TLanes.Load(panel + TLanes.Count);
            TVec x = TLanes.Broadcast(a[at]);
            c00 = TLanes.MultiplyAdd(x, low, c00);
            c01 = TLanes.MultiplyAdd(x, high, c01);
            x = TLanes.Broadcast(a1[at]);
            c10 = TLanes.MultiplyAdd(x, low, c10);
            c11 = TLanes.MultiplyAdd(x, high, c11);
            x = TLanes.Broadcast(a2[at]);
            c20 = TLanes.MultiplyAdd(x, low, c20);
            c21 = TLanes.MultiplyAdd(x, high, c21);
            x = TLanes.Broadcast(a3[at]);
            c30 = TLanes.MultiplyAdd(x, low, c30);
            c31 = TLanes.MultiplyAdd(x, high, c31);
        }

        StoreRow<TLanes, TVec>(c, c00, c01, columns, accumulate);
        if (rows > 1)
            StoreRow<TLanes, TVec>(c += cStride, c10, c11, columns, accumulate);
        if (rows > 2)
            StoreRow<TLanes, TVec>(c += cStride, c20, c21, columns, accumulate);
        if (rows > 3)
            StoreRow<TLanes, TVec>(c + cStride, c30, c31, columns, accumulate);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void StoreRow<TLanes, TVec>(float* c, TVec low, TVec high, int columns, bool accumulate)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        if (accumulate)
        {
            low = TLanes.Add(low, TLanes.LoadPartial(c, columns));
            high = TLanes.Add(high, TLanes.LoadPartial(c + TLanes.Count, columns - TLanes.Count));
        }

        TLanes.StorePartial(c, low, columns);
        TLanes.StorePartial(c + TLanes.Count, high, columns - TLanes.Count);
    }
}
