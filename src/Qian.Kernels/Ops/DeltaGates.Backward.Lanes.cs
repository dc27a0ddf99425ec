namespace Qian.Kernels;

public static unsafe partial class DeltaGates
{
    private static void Block<TLanes, TVec>(in BackwardJob job, long first, long end, double* sums)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        int headCount = job.HeadCount;
        TVec one = TLanes.Broadcast(1f);
        for (int h = 0; h < headCount; h += TLanes.Count)
        {
            int count = headCount - h;
            TVec decay = TLanes.LoadPartial(job.Decay + h, count), bias = TLanes.LoadPartial(job.DtBias + h, count);
            TVec decaySum = TLanes.Zero, biasSum = TLanes.Zero;
            for (long row = first; row < end; row++)
            {
                long at = row * headCount + h;
                TVec biased = TLanes.Add(TLanes.LoadPartial(job.Alpha + at, count), bias), dg = TLanes.LoadPartial(job.Dg + at, count);
                decaySum = TLanes.MultiplyAdd(dg, Activation.Softplus<TLanes, TVec>(biased), decaySum);
                TVec dAlpha = TLanes.Multiply(TLanes.Multiply(dg, decay), Activation.Sigmoid<TLanes, TVec>(biased));
                biasSum = TLanes.Add(biasSum, dAlpha);
                TLanes.StorePartial(job.DAlpha + at, dAlpha, count);

                TVec beta = Activation.Sigmoid<TLanes, TVec>(TLanes.LoadPartial(job.B + at, count));
                TVec dbeta = TLanes.Multiply(TLanes.LoadPartial(job.DBeta + at, count), beta);
                TLanes.StorePartial(job.Db + at, TLanes.Multiply(dbeta, TLanes.Subtract(one, beta)), count);
            }

            AsDoubles<TLanes, TVec>(decaySum, sums + h, count);
            AsDoubles<TLanes, TVec>(biasSum, sums + headCount + h, count);
        }
    }

    private static void AsDoubles<TLanes, TVec>(TVec values, double* to, int count) where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        float* lanes = stackalloc float[TLanes.Count];
        TLanes.Store(lanes, values);
        for (int i = 0; i < Math.Min(count, TLanes.Count); i++)
            to[i] = lanes[i];
    }
}
