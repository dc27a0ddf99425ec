using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Qian.Kernels;

// The small matrix pieces of the chunked backward, all on row-major matrices with room for whole tiles.
public static unsafe partial class DeltaRule
{
    /// <summary>C [rows, columns] (+)= A [rows, count] · B [count, columns]. A column block of B stays in the first-level cache.</summary>
    private static void Product<TLanes, TVec>(float* a, nint rowStride, nint stepStride, float* b, nint bStride, int count,
        float* c, nint cStride, int rows, int columns, bool accumulate) where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        for (int column = 0; column < columns; column += 2 * TLanes.Count)
        {
            for (int row = 0; row < rows; row += 4)
                Tile<TLanes, TVec>(a + row * rowStride, rowStride, stepStride, b + column, bStride, count, c + row * cStride + column, cStride, accumulate);
        }
    }

    /// <summary>The tiles that reach into the lower triangle of C [rows, rows] = A [rows, count] · B [count, rows].</summary>
    private static void LowerProduct<TLanes, TVec>(float* a, nint aStride, float* b, nint stride, int count, float* c, int rows)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        for (int column = 0; column < rows; column += 2 * TLanes.Count)
        {
            for (int row = column; row < rows; row += 4)
                Tile<TLanes, TVec>(a + row * aStride, aStride, 1, b + column, stride, count, c + row * stride + column, stride, accumulate: false);
        }
    }

    private static void Tile<TLanes, TVec>(float* a, nint rowStride, nint stepStride, float* b, nint bStride, int count, float* c, nint cStride,
        bool accumulate) where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        int width = TLanes.Count;
        TVec a0 = TLanes.Zero, a1 = TLanes.Zero, b0 = TLanes.Zero, b1 = TLanes.Zero;
        TVec c0 = TLanes.Zero, c1 = TLanes.Zero, d0 = TLanes.Zero, d1 = TLanes.Zero;
        float* second = c + cStride, third = second + cStride, fourth = third + cStride;
        if (accumulate)
        {
            a0 = TLanes.Load(c);
            a1 = TLanes.Load(c + width);
            b0 = TLanes.Load(second);
            b1 = TLanes.Load(second + width);
            c0 = TLanes.Load(third);
            c1 = TLanes.Load(third + width);
            d0 = TLanes.Load(fourth);
            d1 = TLanes.Load(fourth + width);
        }

        MultiplyTile<TLanes, TVec>(a, rowStride, stepStride, b, bStride, count, ref a0, ref a1, ref b0, ref b1, ref c0, ref c1, ref d0, ref d1);
        TLanes.Store(c, a0);
        TLanes.Store(c + width, a1);
        TLanes.Store(second, b0);
        TLanes.Store(second + width, b1);
        TLanes.Store(third, c0);
        TLanes.Store(third + width, c1);
        TLanes.Store(fourth, d0);
        TLanes.Store(fourth + width, d1);
    }

    // A tile's row: two vectors.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddScaledRow<TLanes, TVec>(float factor, float* from, float* to) where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        TVec low = TLanes.Load(to), high = TLanes.Load(to + TLanes.Count);
        AddScaled<TLanes, TVec>(factor, TLanes.Load(from), TLanes.Load(from + TLanes.Count), ref low, ref high);
        TLanes.Store(to, low);
        TLanes.Store(to + TLanes.Count, high);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void ScaleRow<TLanes, TVec>(float factor, float* from, float* to) where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        TVec low = TLanes.Load(from), high = TLanes.Load(from + TLanes.Count);
        Scale<TLanes, TVec>(factor, ref low, ref high);
        TLanes.Store(to, low);
        TLanes.Store(to + TLanes.Count, high);
    }

    private static void ScaleRows<TLanes, TVec>(float* factors, float sign, float* matrix, nint stride, int rows, int columns)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        for (int row = 0; row < rows; row++, matrix += stride)
        {
            for (int column = 0; column < columns; column += 2 * TLanes.Count)
                ScaleRow<TLanes, TVec>(sign * factors[row], matrix + column, matrix + column);
        }
    }

    private static float Dot<TLanes, TVec>(float* a, float* b, int count) where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        TVec sum = TLanes.Zero;
        for (int i = 0; i < count; i += TLanes.Count)
            sum = TLanes.MultiplyAdd(TLanes.Load(a + i), TLanes.Load(b + i), sum);
        return TLanes.Sum(sum);
    }

    private static void CopyRows(float* from, nint fromStride, float* to, nint toStride, int rows, int columns)
    {
        for (int row = 0; row < rows; row++)
            new ReadOnlySpan<float>(from + row * fromStride, columns).CopyTo(new Span<float>(to + row * toStride, columns));
    }

    // Four by four, over the edges: both matrices have the room.
    private static void Transpose(float* from, nint fromStride, int rows, int columns, float* to, nint toStride)
    {
        for (int row = 0; row < rows; row += 4)
        {
            float* source = from + row * fromStride, target = to + row;
            for (int column = 0; column < columns; column += 4, source += 4, target += 4 * toStride)
            {
                Vector128<float> a = Vector128.Load(source), b = Vector128.Load(source + fromStride);
                Vector128<float> c = Vector128.Load(source + 2 * fromStride), d = Vector128.Load(source + 3 * fromStride);
                Vector128<double> lowAb = Registers.ZipLow(a, b).AsDouble(), highAb = Registers.ZipHigh(a, b).AsDouble();
                Vector128<double> lowCd = Registers.ZipLow(c, d).AsDouble(), highCd = Registers.ZipHigh(c, d).AsDouble();
                Registers.ZipLow(lowAb, lowCd).AsSingle().Store(target);
                Registers.ZipHigh(lowAb, lowCd).AsSingle().Store(target + toStride);
                Registers.ZipLow(highAb, highCd).AsSingle().Store(target + 2 * toStride);
                Registers.ZipHigh(highAb, highCd).AsSingle().Store(target + 3 * toStride);
            }
        }
    }
}
