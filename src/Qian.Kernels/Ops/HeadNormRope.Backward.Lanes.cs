namespace Qian.Kernels;

public static unsafe partial class HeadNormRope
{
    // A block's sums are gathered in float, in the first-level cache, and handed over as doubles.
    private static void Block<TLanes, TVec>(in BackwardJob job, long first, long end, double* sums)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        float* gathered = stackalloc float[sums == null ? 0 : job.HeadDim];
        for (long row = first; row < end; row++)
        {
            for (int head = 0; head < job.HeadCount; head++)
            {
                long at = row * job.RowStride + (long)head * job.HeadStride;
                float* dy = job.Dy + (row * job.HeadCount + head) * job.HeadDim;
                BackwardHead<TLanes, TVec>(in job, job.X + at, job.CosSin + row * job.RotaryDim, dy, job.Dx + at, sums == null ? null : gathered);
            }
        }

        for (int i = 0; sums != null && i < job.HeadDim; i++)
            sums[i] = gathered[i];
    }

    private static void BackwardHead<TLanes, TVec>(in BackwardJob job, float* x, float* cosSin, float* dy, float* dx, float* sums)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        int half = job.RotaryDim / 2, headDim = job.HeadDim;
        for (int i = 0; i < half; i += TLanes.Count)
        {
            int count = half - i;
            TVec cos = TLanes.LoadPartial(cosSin + i, count), sin = TLanes.LoadPartial(cosSin + half + i, count);
            TVec a = TLanes.LoadPartial(dy + i, count), b = TLanes.LoadPartial(dy + half + i, count);
            TLanes.StorePartial(dx + i, TLanes.MultiplyAdd(b, sin, TLanes.Multiply(a, cos)), count);
            TLanes.StorePartial(dx + half + i, TLanes.MultiplySubtractFrom(a, sin, TLanes.Multiply(b, cos)), count);
        }

        for (int i = job.RotaryDim; i < headDim; i += TLanes.Count)
            TLanes.StorePartial(dx + i, TLanes.LoadPartial(dy + i, headDim - i), headDim - i);

        float inverse = 1f / MathF.Sqrt(SumOfSquares.Of<TLanes, TVec>(x, headDim) / headDim + job.Epsilon);
        TVec factor = TLanes.Broadcast(inverse), dots = TLanes.Zero;
        for (int i = 0; i < headDim; i += TLanes.Count)
        {
            int count = headDim - i;
            TVec gradient = TLanes.LoadPartial(dx + i, count), normed = TLanes.Multiply(TLanes.LoadPartial(x + i, count), factor);
            if (sums != null)
                TLanes.StorePartial(sums + i, TLanes.MultiplyAdd(gradient, normed, TLanes.LoadPartial(sums + i, count)), count);
            gradient = TLanes.Multiply(gradient, TLanes.LoadPartial(job.Weight + i, count));
            dots = TLanes.MultiplyAdd(gradient, normed, dots);
            TLanes.StorePartial(dx + i, gradient, count);
        }

        TVec along = TLanes.Broadcast(TLanes.Sum(dots) / headDim * inverse);
        for (int i = 0; i < headDim; i += TLanes.Count)
        {
            int count = headDim - i;
            TVec across = TLanes.MultiplySubtractFrom(TLanes.LoadPartial(x + i, count), along, TLanes.LoadPartial(dx + i, count));
            TLanes.StorePartial(dx + i, TLanes.Multiply(factor, across), count);
        }
    }
}
