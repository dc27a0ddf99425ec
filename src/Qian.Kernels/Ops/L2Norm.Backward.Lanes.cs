namespace Qian.Kernels;

public static unsafe partial class L2Norm
{
    private static void BackwardHead<TLanes, TVec>(float* x, float epsilon, float scale, float* dy, float* dx, int headDim)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        float inverse = 1f / MathF.Sqrt(SumOfSquares.Of<TLanes, TVec>(x, headDim) + epsilon);
        TVec dots = TLanes.Zero;
        for (int i = 0; i < headDim; i += TLanes.Count)
            dots = TLanes.MultiplyAdd(TLanes.LoadPartial(dy + i, headDim - i), TLanes.LoadPartial(x + i, headDim - i), dots);
        TVec along = TLanes.Broadcast(TLanes.Sum(dots) * inverse * inverse), factor = TLanes.Broadcast(scale * inverse);
        for (int i = 0; i < headDim; i += TLanes.Count)
        {
            int count = headDim - i;
            TVec across = TLanes.MultiplySubtractFrom(TLanes.LoadPartial(x + i, count), along, TLanes.LoadPartial(dy + i, count));
            TLanes.StorePartial(dx + i, TLanes.Multiply(factor, across), count);
        }
    }
}
