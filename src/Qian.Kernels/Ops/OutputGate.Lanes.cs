namespace Qian.Kernels;

public static unsafe partial class OutputGate
{
    private static void Vector<TLanes, TVec>(float* y, float* gate, int count)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        for (int i = 0; i < count; i += TLanes.Count)
        {
            TVec open = Activation.Sigmoid<TLanes, TVec>(TLanes.LoadPartial(gate + i, count - i));
            TLanes.StorePartial(y + i, TLanes.Multiply(TLanes.LoadPartial(y + i, count - i), open), count - i);
        }
    }
}
