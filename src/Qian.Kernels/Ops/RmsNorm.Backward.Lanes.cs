namespace Qian.Kernels;

public static unsafe partial class RmsNorm
{
    private static float RowGradient<TLanes, TVec>(float* x, float* weight, float epsilon, float* dy, float* dx, int width, bool add)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        float inverse = 1f / MathF.Sqrt(SumOfSquares.Of<TLanes, TVec>(x, width) / width + epsilon);
        TVec sum0 = TLanes.Zero, sum1 = TLanes.Zero;
        int i = 0;
        for (; i + 2 * TLanes.Count <= width; i += 2 * TLanes.Count)
        {
            int next = i + TLanes.Count;
            sum0 = TLanes.MultiplyAdd(TLanes.Multiply(TLanes.Load(dy + i), TLanes.Load(weight + i)), TLanes.Load(x + i), sum0);
            sum1 = TLanes.MultiplyAdd(TLanes.Multiply(TLanes.Load(dy + next), TLanes.Load(weight + next)), TLanes.Load(x + next), sum1);
        }

        for (; i < width; i += TLanes.Count)
        {
            int count = width - i;
            TVec weighted = TLanes.Multiply(TLanes.LoadPartial(dy + i, count), TLanes.LoadPartial(weight + i, count));
            sum0 = TLanes.MultiplyAdd(weighted, TLanes.LoadPartial(x + i, count), sum0);
        }

        float dot = TLanes.Sum(TLanes.Add(sum0, sum1));
        TVec factor = TLanes.Broadcast(inverse), along = TLanes.Broadcast(dot / width * inverse * inverse);
        for (i = 0; i < width; i += TLanes.Count)
        {
            int count = width - i;
            TVec weighted = TLanes.Multiply(TLanes.LoadPartial(dy + i, count), TLanes.LoadPartial(weight + i, count));
            TVec gradient = TLanes.Multiply(factor, TLanes.MultiplySubtractFrom(TLanes.LoadPartial(x + i, count), along, weighted));
            if (add)
                gradient = TLanes.Add(TLanes.LoadPartial(dx + i, count), gradient);
            TLanes.StorePartial(dx + i, gradient, count);
        }

        return inverse;
    }

    // Four vectors of columns at a time walk down the block's rows, sums in registers.
    private static void WeightGradient<TLanes, TVec>(in WeightGradientJob job, int first, int end)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        int i = first;
        for (; i + 4 * TLanes.Count <= end; i += 4 * TLanes.Count)
        {
            TVec sum0 = TLanes.Zero, sum1 = TLanes.Zero, sum2 = TLanes.Zero, sum3 = TLanes.Zero;
            float* x = job.X + i, dy = job.Dy + i;
            for (int row = 0; row < job.RowCount; row++, x += job.Width, dy += job.Width)
            {
                TVec inverse = TLanes.Broadcast(job.Inverses[row]);
                sum0 = TLanes.MultiplyAdd(TLanes.Load(dy), TLanes.Multiply(TLanes.Load(x), inverse), sum0);
                sum1 = TLanes.MultiplyAdd(TLanes.Load(dy + TLanes.Count), TLanes.Multiply(TLanes.Load(x + TLanes.Count), inverse), sum1);
                sum2 = TLanes.MultiplyAdd(TLanes.Load(dy + 2 * TLanes.Count), TLanes.Multiply(TLanes.Load(x + 2 * TLanes.Count), inverse), sum2);
                sum3 = TLanes.MultiplyAdd(TLanes.Load(dy + 3 * TLanes.Count), TLanes.Multiply(TLanes.Load(x + 3 * TLanes.Count), inverse), sum3);
            }

            float* total = job.DWeight + i;
            TLanes.Store(total, TLanes.Add(TLanes.Load(total), sum0));
            TLanes.Store(total + TLanes.Count, TLanes.Add(TLanes.Load(total + TLanes.Count), sum1));
            TLanes.Store(total + 2 * TLanes.Count, TLanes.Add(TLanes.Load(total + 2 * TLanes.Count), sum2));
            TLanes.Store(total + 3 * TLanes.Count, TLanes.Add(TLanes.Load(total + 3 * TLanes.Count), sum3));
        }

        for (; i < end; i += TLanes.Count)
        {
            int count = end - i;
            TVec sum = TLanes.Zero;
            float* x = job.X + i, dy = job.Dy + i;
            for (int row = 0; row < job.RowCount; row++, x += job.Width, dy += job.Width)
            {
                TVec normed = TLanes.Multiply(TLanes.LoadPartial(x, count), TLanes.Broadcast(job.Inverses[row]));
                sum = TLanes.MultiplyAdd(TLanes.LoadPartial(dy, count), normed, sum);
            }

            TLanes.StorePartial(job.DWeight + i, TLanes.Add(TLanes.LoadPartial(job.DWeight + i, count), sum), count);
        }
    }
}
