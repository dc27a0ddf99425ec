namespace Qian.Kernels;

public static unsafe partial class AdamW
{
    private static void Vector<TLanes, TVec>(in Job job, long first, long end) where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        TVec scale = TLanes.Broadcast(job.GradientScale), keep = TLanes.Broadcast(job.Keep), approach1 = TLanes.Broadcast(job.Approach1);
        TVec keep2 = TLanes.Broadcast(job.Keep2), approach2 = TLanes.Broadcast(job.Approach2), stepSize = TLanes.Broadcast(job.StepSize);
        TVec inverseRoot = TLanes.Broadcast(job.InverseRootCorrection), epsilon = TLanes.Broadcast(job.Epsilon);
        for (long i = first; i < end; i += TLanes.Count)
        {
            int lanes = (int)Math.Min(end - i, TLanes.Count);
            TVec gradient = TLanes.Multiply(TLanes.LoadPartial(job.Gradient + i, lanes), scale);
            TVec m = TLanes.LoadPartial(job.M + i, lanes);
            m = TLanes.MultiplyAdd(approach1, TLanes.Subtract(gradient, m), m);
            TVec v = TLanes.Multiply(TLanes.LoadPartial(job.V + i, lanes), keep2);
            v = TLanes.MultiplyAdd(TLanes.Multiply(approach2, gradient), gradient, v);
            TLanes.StorePartial(job.M + i, m, lanes);
            TLanes.StorePartial(job.V + i, v, lanes);
            TVec length = TLanes.MultiplyAdd(TLanes.SquareRoot(v), inverseRoot, epsilon);
            TVec kept = TLanes.Multiply(TLanes.LoadPartial(job.Value + i, lanes), keep);
            TLanes.StorePartial(job.Value + i, TLanes.MultiplySubtractFrom(stepSize, TLanes.Divide(m, length), kept), lanes);
        }
    }
}
