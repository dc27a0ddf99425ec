namespace Qian.Kernels;

public static unsafe partial class GatedNorm
{
    // A block's sums are gathered in float, in the first-level cache, and handed over as doubles.
    private static void Block<TLanes, TVec>(in BackwardJob job, long first, long end, double* sums)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        float* gathered = stackalloc float[sums == null ? 0 : job.HeadDim];
        for (long head = first; head < end; head++)
            BackwardHead<TLanes, TVec>(in job, head * job.HeadDim, sums == null ? null : gathered);
        for (int i = 0; sums != null && i < job.HeadDim; i++)
            sums[i] = gathered[i];
    }

    private static void BackwardHead<TLanes, TVec>(in BackwardJob job, long at, float* sums)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        int headDim = job.HeadDim;
        float* o = job.O + at, z = job.Z + at, dy = job.Dy + at, dO = job.DO + at, dz = job.Dz + at;
        float inverse = 1f / MathF.Sqrt(SumOfSquares.Of<TLanes, TVec>(o, headDim) / headDim + job.Epsilon);
        TVec factor = TLanes.Broadcast(inverse), dots = TLanes.Zero;
        for (int i = 0; i < headDim; i += TLanes.Count)
        {
            int count = headDim - i;
            TVec gate = TLanes.LoadPartial(z + i, count), gradient = TLanes.LoadPartial(dy + i, count);
            TVec normed = TLanes.Multiply(TLanes.LoadPartial(o + i, count), factor);
            TVec sigmoid = Activation.Sigmoid<TLanes, TVec>(gate), silu = TLanes.Multiply(gate, sigmoid);
            if (sums != null)
                TLanes.StorePartial(sums + i, TLanes.MultiplyAdd(TLanes.Multiply(gradient, silu), normed, TLanes.LoadPartial(sums + i, count)), count);
            gradient = TLanes.Multiply(gradient, TLanes.LoadPartial(job.Weight + i, count));
            TVec slope = Activation.SiluSlope<TLanes, TVec>(gate, sigmoid);
            TLanes.StorePartial(dz + i, TLanes.Multiply(TLanes.Multiply(gradient, normed), slope), count);
            gradient = TLanes.Multiply(gradient, silu);
            dots = TLanes.MultiplyAdd(gradient, normed, dots);
            TLanes.StorePartial(dO + i, gradient, count);
        }

        TVec along = TLanes.Broadcast(TLanes.Sum(dots) / headDim * inverse);
        for (int i = 0; i < headDim; i += TLanes.Count)
        {
            int count = headDim - i;
            TVec across = TLanes.MultiplySubtractFrom(TLanes.LoadPartial(o + i, count), along, TLanes.LoadPartial(dO + i, count));
            TLanes.StorePartial(dO + i, TLanes.Multiply(factor, across), count);
        }
    }
}
