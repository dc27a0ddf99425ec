namespace Qian.Kernels;

public static unsafe partial class L2Norm
{
    private static void Head<TLanes, TVec>(float* x, float epsilon, float scale, int headDim)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        TVec factor = TLanes.Broadcast(scale / MathF.Sqrt(SumOfSquares.Of<TLanes, TVec>(x, headDim) + epsilon));
        for (int i = 0; i < headDim; i += TLanes.Count)
            TLanes.StorePartial(x + i, TLanes.Multiply(TLanes.LoadPartial(x + i, headDim - i), factor), headDim - i);
    }
}
