namespace Qian.Kernels;

public static unsafe partial class DeltaGates
{
    private static void Row<TLanes, TVec>(float* alpha, float* b, float* decay, float* dtBias, float* g, float* beta, int headCount)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        for (int h = 0; h < headCount; h += TLanes.Count)
        {
            int count = headCount - h;
            TVec biased = TLanes.Add(TLanes.LoadPartial(alpha + h, count), TLanes.LoadPartial(dtBias + h, count));
            TVec rate = TLanes.LoadPartial(decay + h, count);
            TLanes.StorePartial(g + h, TLanes.Multiply(rate, Activation.Softplus<TLanes, TVec>(biased)), count);
            TLanes.StorePartial(beta + h, Activation.Sigmoid<TLanes, TVec>(TLanes.LoadPartial(b + h, count)), count);
        }
    }
}
