using System.Runtime.CompilerServices;

namespace Qian.Kernels;

/// <summary>Σx² for the norms: four chains of lanes, joined in a fixed order, so that the result depends on the row alone.</summary>
internal static unsafe class SumOfSquares
{
    public static double Scalar(float* x, int count)
    {
        // In double: it is the definition, and thousands of squares added one by one in float drift.
        double sum = 0;
        for (int i = 0; i < count; i++)
            sum += (double)x[i] * x[i];
        return sum;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Of<TLanes, TVec>(float* x, int count) where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        TVec sum0 = TLanes.Zero, sum1 = TLanes.Zero, sum2 = TLanes.Zero, sum3 = TLanes.Zero;
        int i = 0;
        for (; i + 4 * TLanes.Count <= count; i += 4 * TLanes.Count)
        {
            TVec a = TLanes.Load(x + i), b = TLanes.Load(x + i + TLanes.Count);
            TVec c = TLanes.Load(x + i + 2 * TLanes.Count), d = TLanes.Load(x + i + 3 * TLanes.Count);
            sum0 = TLanes.MultiplyAdd(a, a, sum0);
            sum1 = TLanes.MultiplyAdd(b, b, sum1);
            sum2 = TLanes.MultiplyAdd(c, c, sum2);
            sum3 = TLanes.MultiplyAdd(d, d, sum3);
        }

        for (; i < count; i += TLanes.Count)
        {
            TVec a = TLanes.LoadPartial(x + i, count - i);
            sum0 = TLanes.MultiplyAdd(a, a, sum0);
        }

        return TLanes.Sum(TLanes.Add(TLanes.Add(sum0, sum1), TLanes.Add(sum2, sum3)));
    }
}
