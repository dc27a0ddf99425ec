namespace Qian.Kernels;

public static unsafe partial class OutputGate
{
    private static void VectorBackward<TLanes, TVec>(float* attention, float* gate, float* dy, float* dAttention, float* dGate, int headDim)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        TVec one = TLanes.Broadcast(1f);
        for (int i = 0; i < headDim; i += TLanes.Count)
        {
            int count = headDim - i;
            TVec open = Activation.Sigmoid<TLanes, TVec>(TLanes.LoadPartial(gate + i, count));
            TVec gradient = TLanes.Multiply(TLanes.LoadPartial(dy + i, count), open);
            TVec gated = TLanes.Multiply(gradient, TLanes.LoadPartial(attention + i, count));
            TLanes.StorePartial(dGate + i, TLanes.Multiply(gated, TLanes.Subtract(one, open)), count);
            TLanes.StorePartial(dAttention + i, gradient, count);
        }
    }
}
