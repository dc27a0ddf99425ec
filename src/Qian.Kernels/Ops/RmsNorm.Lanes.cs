namespace Qian.Kernels;

public static unsafe partial class RmsNorm
{
    private static void Row<TLanes, TVec>(float* x, float* weight, float epsilon, float* y, int width)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        TVec inverse = TLanes.Broadcast(1f / MathF.Sqrt(SumOfSquares.Of<TLanes, TVec>(x, width) / width + epsilon));
        for (int i = 0; i < width; i += TLanes.Count)
        {
            int count = width - i;
            TVec scaled = TLanes.Multiply(TLanes.LoadPartial(x + i, count), inverse);
            TLanes.StorePartial(y + i, TLanes.Multiply(scaled, TLanes.LoadPartial(weight + i, count)), count);
        }
    }
}
