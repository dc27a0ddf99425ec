namespace Qian.Kernels;

public static unsafe partial class Router
{
    private static float VectorWeighted<TLanes, TVec>(float factor, float* output, float* dy, float* dOutput, int width)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        TVec scale = TLanes.Broadcast(factor), dots = TLanes.Zero;
        for (int i = 0; i < width; i += TLanes.Count)
        {
            TVec gradient = TLanes.LoadPartial(dy + i, width - i);
            dots = TLanes.MultiplyAdd(gradient, TLanes.LoadPartial(output + i, width - i), dots);
            TLanes.StorePartial(dOutput + i, TLanes.Multiply(scale, gradient), width - i);
        }

        return TLanes.Sum(dots);
    }
}
