namespace Qian.Kernels;

public static unsafe partial class CrossEntropy
{
    // Exponentials are added in float up to here, then in double: a quarter of a million would drift.
    private const int PieceFloats = 4096;

    private static float Gradient<TLanes, TVec>(float* logits, int label, float gradientScale, int vocabulary)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        float max = Max<TLanes, TVec>(logits, vocabulary), atLabel = logits[label];
        logits[label] = float.NegativeInfinity;
        double others = Exponentials<TLanes, TVec>(logits, logits, max, vocabulary);
        double own = Math.Exp((double)atLabel - max), scale = gradientScale / (others + own);
        TVec factor = TLanes.Broadcast((float)scale);
        for (int i = 0; i < vocabulary; i += TLanes.Count)
            TLanes.StorePartial(logits + i, TLanes.Multiply(TLanes.LoadPartial(logits + i, vocabulary - i), factor), vocabulary - i);
        logits[label] = (float)(-others * scale);
        return LossOf(others, own, max, atLabel);
    }

    private static float Loss<TLanes, TVec>(float* logits, int label, int vocabulary)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        float max = Max<TLanes, TVec>(logits, vocabulary), atLabel = logits[label];
        logits[label] = float.NegativeInfinity;
        double others = Exponentials<TLanes, TVec>(logits, null, max, vocabulary);
        logits[label] = atLabel;
        return LossOf(others, Math.Exp((double)atLabel - max), max, atLabel);
    }

    // Writes e^(logit − max) to `to` unless it is null; returns their sum.
    private static double Exponentials<TLanes, TVec>(float* logits, float* to, float max, int vocabulary)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        float* tail = stackalloc float[TLanes.Count];
        TVec top = TLanes.Broadcast(max);
        double sum = 0;
        int i = 0;
        while (i < vocabulary)
        {
            int end = Math.Min(vocabulary, i + PieceFloats);
            TVec sums = TLanes.Zero;
            for (; i + TLanes.Count <= end; i += TLanes.Count)
            {
                TVec exponential = Activation.Exp<TLanes, TVec>(TLanes.Subtract(TLanes.Load(logits + i), top));
                sums = TLanes.Add(sums, exponential);
                if (to != null)
                    TLanes.Store(to + i, exponential);
            }

            if (i < end)
            {
                // The lanes behind the row hold e^−max: they stay out of the sum.
                int count = end - i;
                TVec exponential = Activation.Exp<TLanes, TVec>(TLanes.Subtract(TLanes.LoadPartial(logits + i, count), top));
                TLanes.StorePartial(tail, exponential, count);
                sums = TLanes.Add(sums, TLanes.Load(tail));
                if (to != null)
                    TLanes.StorePartial(to + i, exponential, count);
                i = end;
            }

            sum += TLanes.Sum(sums);
        }

        return sum;
    }

    private static float Max<TLanes, TVec>(float* logits, int vocabulary) where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        float max = logits[0];
        int i = 0;
        if (vocabulary >= 4 * TLanes.Count)
        {
            TVec max0 = TLanes.Load(logits), max1 = max0, max2 = max0, max3 = max0;
            for (; i + 4 * TLanes.Count <= vocabulary; i += 4 * TLanes.Count)
            {
                max0 = TLanes.Max(max0, TLanes.Load(logits + i));
                max1 = TLanes.Max(max1, TLanes.Load(logits + i + TLanes.Count));
                max2 = TLanes.Max(max2, TLanes.Load(logits + i + 2 * TLanes.Count));
                max3 = TLanes.Max(max3, TLanes.Load(logits + i + 3 * TLanes.Count));
            }

            // NaN may get lost on the way here; it comes back through the exponentials.
            float* lanes = stackalloc float[TLanes.Count];
            TLanes.Store(lanes, TLanes.Max(TLanes.Max(max0, max1), TLanes.Max(max2, max3)));
            for (int lane = 0; lane < TLanes.Count; lane++)
                max = MathF.Max(max, lanes[lane]);
        }

        for (; i < vocabulary; i++)
            max = MathF.Max(max, logits[i]);
        return max;
    }
}
