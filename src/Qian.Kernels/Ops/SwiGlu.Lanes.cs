namespace Qian.Kernels;

public static unsafe partial class SwiGlu
{
    private static void Vector<TLanes, TVec>(float* gate, float* up, float* y, long count)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        for (long i = 0; i < count; i += TLanes.Count)
        {
            int lanes = (int)Math.Min(count - i, TLanes.Count);
            TVec silu = Activation.Silu<TLanes, TVec>(TLanes.LoadPartial(gate + i, lanes));
            TLanes.StorePartial(y + i, TLanes.Multiply(silu, TLanes.LoadPartial(up + i, lanes)), lanes);
        }
    }
}
