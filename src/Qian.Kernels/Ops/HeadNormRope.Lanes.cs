using System.Runtime.CompilerServices;

namespace Qian.Kernels;

public static unsafe partial class HeadNormRope
{
    private static void Head<TLanes, TVec>(float* x, float* weight, float epsilon, float* cosSin, int rotaryDim, float* y, int headDim)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        TVec inverse = TLanes.Broadcast(1f / MathF.Sqrt(SumOfSquares.Of<TLanes, TVec>(x, headDim) / headDim + epsilon));
        int half = rotaryDim / 2;
        for (int i = 0; i < half; i += TLanes.Count)
        {
            int count = half - i;
            TVec cos = TLanes.LoadPartial(cosSin + i, count);
            TVec sin = TLanes.LoadPartial(cosSin + half + i, count);
            TVec a = Normed<TLanes, TVec>(x + i, weight + i, inverse, count);
            TVec b = Normed<TLanes, TVec>(x + half + i, weight + half + i, inverse, count);
            TLanes.StorePartial(y + i, TLanes.MultiplySubtractFrom(b, sin, TLanes.Multiply(a, cos)), count);
            TLanes.StorePartial(y + half + i, TLanes.MultiplyAdd(a, sin, TLanes.Multiply(b, cos)), count);
        }

        for (int i = rotaryDim; i < headDim; i += TLanes.Count)
            TLanes.StorePartial(y + i, Normed<TLanes, TVec>(x + i, weight + i, inverse, headDim - i), headDim - i);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static TVec Normed<TLanes, TVec>(float* x, float* weight, TVec inverse, int count)
        where TLanes : struct, ILanes<TVec> where TVec : struct =>
        TLanes.Multiply(TLanes.Multiply(TLanes.LoadPartial(x, count), inverse), TLanes.LoadPartial(weight, count));
}
