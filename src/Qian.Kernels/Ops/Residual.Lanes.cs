namespace Qian.Kernels;

public static unsafe partial class Residual
{
    private static void Vector<TLanes, TVec>(float* x, float* y, long count)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        for (long i = 0; i < count; i += TLanes.Count)
        {
            int lanes = (int)Math.Min(count - i, TLanes.Count);
            TLanes.StorePartial(x + i, TLanes.Add(TLanes.LoadPartial(x + i, lanes), TLanes.LoadPartial(y + i, lanes)), lanes);
        }
    }
}
