namespace Qian.Kernels;

public static unsafe partial class LowRank
{
    // Eight dots side by side, each with lanes of its own. Where the tile hangs over an edge, what is missing repeats the last
    // that is there: it computes and stores the same number again.
    private static void ReduceTile<TLanes, TVec>(in ReduceJob job, int firstRow, int firstRank)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        int inputCount = job.InputCount, lastRank = job.Rank - 1, nextRow = Math.Min(firstRow + 1, job.RowCount - 1);
        int rank1 = Math.Min(firstRank + 1, lastRank), rank2 = Math.Min(firstRank + 2, lastRank), rank3 = Math.Min(firstRank + 3, lastRank);
        float* a0 = job.Down + (long)firstRank * inputCount, a1 = job.Down + (long)rank1 * inputCount;
        float* a2 = job.Down + (long)rank2 * inputCount, a3 = job.Down + (long)rank3 * inputCount;
        float* x0 = job.X + firstRow * job.XStride, x1 = job.X + nextRow * job.XStride;
        TVec s00 = TLanes.Zero, s01 = TLanes.Zero, s02 = TLanes.Zero, s03 = TLanes.Zero;
        TVec s10 = TLanes.Zero, s11 = TLanes.Zero, s12 = TLanes.Zero, s13 = TLanes.Zero;
        for (int i = 0; i < inputCount; i += TLanes.Count)
        {
            int count = inputCount - i;
            TVec left = TLanes.LoadPartial(x0 + i, count), right = TLanes.LoadPartial(x1 + i, count);
            TVec a = TLanes.LoadPartial(a0 + i, count);
            s00 = TLanes.MultiplyAdd(a, left, s00);
            s10 = TLanes.MultiplyAdd(a, right, s10);
            a = TLanes.LoadPartial(a1 + i, count);
            s01 = TLanes.MultiplyAdd(a, left, s01);
            s11 = TLanes.MultiplyAdd(a, right, s11);
            a = TLanes.LoadPartial(a2 + i, count);
            s02 = TLanes.MultiplyAdd(a, left, s02);
            s12 = TLanes.MultiplyAdd(a, right, s12);
            a = TLanes.LoadPartial(a3 + i, count);
            s03 = TLanes.MultiplyAdd(a, left, s03);
            s13 = TLanes.MultiplyAdd(a, right, s13);
        }

        float* inner0 = job.Inner + (long)firstRow * job.Rank, inner1 = job.Inner + (long)nextRow * job.Rank;
        inner0[firstRank] = TLanes.Sum(s00);
        inner0[rank1] = TLanes.Sum(s01);
        inner0[rank2] = TLanes.Sum(s02);
        inner0[rank3] = TLanes.Sum(s03);
        inner1[firstRank] = TLanes.Sum(s10);
        inner1[rank1] = TLanes.Sum(s11);
        inner1[rank2] = TLanes.Sum(s12);
        inner1[rank3] = TLanes.Sum(s13);
    }

    // Four vectors of outputs side by side, then one at a time; either way an output is the same sum along the rank.
    private static void ExpandRow<TLanes, TVec>(float* up, long upStride, float* inner, int rank, float* y, int count)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        int i = 0, lanes = TLanes.Count;
        for (; i + 4 * lanes <= count; i += 4 * lanes)
        {
            TVec s0 = TLanes.Zero, s1 = TLanes.Zero, s2 = TLanes.Zero, s3 = TLanes.Zero;
            float* b = up + i;
            for (int k = 0; k < rank; k++, b += upStride)
            {
                TVec factor = TLanes.Broadcast(inner[k]);
                s0 = TLanes.MultiplyAdd(factor, TLanes.Load(b), s0);
                s1 = TLanes.MultiplyAdd(factor, TLanes.Load(b + lanes), s1);
                s2 = TLanes.MultiplyAdd(factor, TLanes.Load(b + 2 * lanes), s2);
                s3 = TLanes.MultiplyAdd(factor, TLanes.Load(b + 3 * lanes), s3);
            }

            TLanes.Store(y + i, TLanes.Add(TLanes.Load(y + i), s0));
            TLanes.Store(y + i + lanes, TLanes.Add(TLanes.Load(y + i + lanes), s1));
            TLanes.Store(y + i + 2 * lanes, TLanes.Add(TLanes.Load(y + i + 2 * lanes), s2));
            TLanes.Store(y + i + 3 * lanes, TLanes.Add(TLanes.Load(y + i + 3 * lanes), s3));
        }

        for (; i < count; i += lanes)
        {
            TVec sum = TLanes.Zero;
            float* b = up + i;
            for (int k = 0; k < rank; k++, b += upStride)
                sum = TLanes.MultiplyAdd(TLanes.Broadcast(inner[k]), TLanes.LoadPartial(b, count - i), sum);
            TLanes.StorePartial(y + i, TLanes.Add(TLanes.LoadPartial(y + i, count - i), sum), count - i);
        }
    }
}
