namespace Qian.Kernels;

public static unsafe partial class SwiGlu
{
    private static void VectorBackward<TLanes, TVec>(in BackwardJob job, long first, long end)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        for (long i = first; i < end; i += TLanes.Count)
        {
            int lanes = (int)Math.Min(end - i, TLanes.Count);
            TVec gate = TLanes.LoadPartial(job.Gate + i, lanes), up = TLanes.LoadPartial(job.Up + i, lanes), dy = TLanes.LoadPartial(job.Dy + i, lanes);
            TVec sigmoid = Activation.Sigmoid<TLanes, TVec>(gate);
            TVec slope = Activation.SiluSlope<TLanes, TVec>(gate, sigmoid);
            TLanes.StorePartial(job.DGate + i, TLanes.Multiply(TLanes.Multiply(dy, up), slope), lanes);
            TLanes.StorePartial(job.DUp + i, TLanes.Multiply(dy, TLanes.Multiply(gate, sigmoid)), lanes);
        }
    }
}
