namespace Qian.Kernels;

public static unsafe partial class GatedNorm
{
    private static void Head<TLanes, TVec>(float* o, float* z, float* weight, float epsilon, float* y, int headDim)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        TVec inverse = TLanes.Broadcast(1f / MathF.Sqrt(SumOfSquares.Of<TLanes, TVec>(o, headDim) / headDim + epsilon));
        for (int i = 0; i < headDim; i += TLanes.Count)
        {
            int count = headDim - i;
            TVec normed = TLanes.Multiply(TLanes.LoadPartial(o + i, count), inverse);
            normed = TLanes.Multiply(normed, TLanes.LoadPartial(weight + i, count));
            TVec gate = Activation.Silu<TLanes, TVec>(TLanes.LoadPartial(z + i, count));
            TLanes.StorePartial(y + i, TLanes.Multiply(normed, gate), count);
        }
    }
}
