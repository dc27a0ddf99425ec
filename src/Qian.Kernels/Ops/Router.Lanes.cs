namespace Qian.Kernels;

public static unsafe partial class Router
{
    private static void Softmax<TLanes, TVec>(float* logits, float* probabilities, int count)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        // A plain maximum: it has no rounding, and NaN goes through the exponentials all the same.
        float top = float.NegativeInfinity;
        for (int i = 0; i < count; i++)
            top = MathF.Max(top, logits[i]);
        TVec max = TLanes.Broadcast(top);
        for (int i = 0; i < count; i += TLanes.Count)
        {
            TVec shifted = TLanes.Subtract(TLanes.LoadPartial(logits + i, count - i), max);
            TLanes.StorePartial(probabilities + i, Activation.Exp<TLanes, TVec>(shifted), count - i);
        }

        TVec sums = TLanes.Zero;
        for (int i = 0; i < count; i += TLanes.Count)
            sums = TLanes.Add(sums, TLanes.LoadPartial(probabilities + i, count - i));
        TVec sum = TLanes.Broadcast(TLanes.Sum(sums));
        for (int i = 0; i < count; i += TLanes.Count)
            TLanes.StorePartial(probabilities + i, TLanes.Divide(TLanes.LoadPartial(probabilities + i, count - i), sum), count - i);
    }

    private static void CombineRow<TLanes, TVec>(float* experts, float* weights, float* shared, float gate, float* y, int k, int width)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        TVec open = TLanes.Broadcast(gate);
        for (int i = 0; i < width; i += TLanes.Count)
        {
            TVec sum = TLanes.Zero;
            for (int j = 0; j < k; j++)
                sum = TLanes.MultiplyAdd(TLanes.Broadcast(weights[j]), TLanes.LoadPartial(experts + (long)j * width + i, width - i), sum);
            TLanes.StorePartial(y + i, TLanes.MultiplyAdd(open, TLanes.LoadPartial(shared + i, width - i), sum), width - i);
        }
    }
}
