using System.Runtime.CompilerServices;

namespace Qian.Kernels;

// The recurrent form in lanes. Value columns of the state are independent of each other, so a block of four vectors of columns
// (32 KiB at a key dimension of 128) runs through all tokens while it lies in the first-level cache: memory sees the state
// once in and once out per call. Two passes per token: read kᵀS, then update and query. Even and odd key rows sum apart
// to keep enough multiply-adds in flight; the order is the same for every column and every row count.
public static unsafe partial class DeltaRule
{
    private static void Step<TLanes, TVec>(in Head head) where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        int column = 0;
        for (; column + 4 * TLanes.Count <= head.ValueDim; column += 4 * TLanes.Count)
        {
            for (int t = 0; t < head.RowCount; t++)
                StepFour<TLanes, TVec>(head, t, column);
        }

        for (; column < head.ValueDim; column += TLanes.Count)
        {
            for (int t = 0; t < head.RowCount; t++)
                StepOne<TLanes, TVec>(head, t, column);
        }
    }

    private static void StepFour<TLanes, TVec>(in Head head, int t, int column) where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        int width = TLanes.Count, keyDim = head.KeyDim;
        nint stride = head.ValueDim;
        float* q = head.Q + t * head.InputStride;
        float* k = head.K + t * head.InputStride;
        float* v = head.V + t * head.InputStride + column;
        float* y = head.Y + t * head.OutputStride + column;
        TVec decay = TLanes.Broadcast(MathF.Exp(head.G[t * head.GateStride]));
        TVec beta = TLanes.Broadcast(head.Beta[t * head.GateStride]);

        TVec even0 = TLanes.Zero, even1 = TLanes.Zero, even2 = TLanes.Zero, even3 = TLanes.Zero;
        TVec odd0 = TLanes.Zero, odd1 = TLanes.Zero, odd2 = TLanes.Zero, odd3 = TLanes.Zero;
        float* s = head.State + column;
        int i = 0;
        for (; i + 2 <= keyDim; i += 2, s += 2 * stride)
        {
            TVec ka = TLanes.Broadcast(k[i]), kb = TLanes.Broadcast(k[i + 1]);
            even0 = TLanes.MultiplyAdd(ka, TLanes.Load(s), even0);
            even1 = TLanes.MultiplyAdd(ka, TLanes.Load(s + width), even1);
            even2 = TLanes.MultiplyAdd(ka, TLanes.Load(s + 2 * width), even2);
            even3 = TLanes.MultiplyAdd(ka, TLanes.Load(s + 3 * width), even3);
            odd0 = TLanes.MultiplyAdd(kb, TLanes.Load(s + stride), odd0);
            odd1 = TLanes.MultiplyAdd(kb, TLanes.Load(s + stride + width), odd1);
            odd2 = TLanes.MultiplyAdd(kb, TLanes.Load(s + stride + 2 * width), odd2);
            odd3 = TLanes.MultiplyAdd(kb, TLanes.Load(s + stride + 3 * width), odd3);
        }

        if (i < keyDim)
        {
            TVec ka = TLanes.Broadcast(k[i]);
            even0 = TLanes.MultiplyAdd(ka, TLanes.Load(s), even0);
            even1 = TLanes.MultiplyAdd(ka, TLanes.Load(s + width), even1);
            even2 = TLanes.MultiplyAdd(ka, TLanes.Load(s + 2 * width), even2);
            even3 = TLanes.MultiplyAdd(ka, TLanes.Load(s + 3 * width), even3);
        }

        TVec delta0 = Delta<TLanes, TVec>(even0, odd0, decay, beta, TLanes.Load(v));
        TVec delta1 = Delta<TLanes, TVec>(even1, odd1, decay, beta, TLanes.Load(v + width));
        TVec delta2 = Delta<TLanes, TVec>(even2, odd2, decay, beta, TLanes.Load(v + 2 * width));
        TVec delta3 = Delta<TLanes, TVec>(even3, odd3, decay, beta, TLanes.Load(v + 3 * width));

        TVec sum0 = TLanes.Zero, sum1 = TLanes.Zero, sum2 = TLanes.Zero, sum3 = TLanes.Zero;
        s = head.State + column;
        for (i = 0; i < keyDim; i++, s += stride)
        {
            TVec ki = TLanes.Broadcast(k[i]), qi = TLanes.Broadcast(q[i]);
            TVec new0 = TLanes.MultiplyAdd(ki, delta0, TLanes.Multiply(decay, TLanes.Load(s)));
            TVec new1 = TLanes.MultiplyAdd(ki, delta1, TLanes.Multiply(decay, TLanes.Load(s + width)));
            TVec new2 = TLanes.MultiplyAdd(ki, delta2, TLanes.Multiply(decay, TLanes.Load(s + 2 * width)));
            TVec new3 = TLanes.MultiplyAdd(ki, delta3, TLanes.Multiply(decay, TLanes.Load(s + 3 * width)));
            TLanes.Store(s, new0);
            TLanes.Store(s + width, new1);
            TLanes.Store(s + 2 * width, new2);
            TLanes.Store(s + 3 * width, new3);
            sum0 = TLanes.MultiplyAdd(qi, new0, sum0);
            sum1 = TLanes.MultiplyAdd(qi, new1, sum1);
            sum2 = TLanes.MultiplyAdd(qi, new2, sum2);
            sum3 = TLanes.MultiplyAdd(qi, new3, sum3);
        }

        TLanes.Store(y, sum0);
        TLanes.Store(y + width, sum1);
        TLanes.Store(y + 2 * width, sum2);
        TLanes.Store(y + 3 * width, sum3);
    }

    // What is left of the columns, one vector or less at a time.
    private static void StepOne<TLanes, TVec>(in Head head, int t, int column) where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        int keyDim = head.KeyDim, count = head.ValueDim - column;
        nint stride = head.ValueDim;
        float* q = head.Q + t * head.InputStride;
        float* k = head.K + t * head.InputStride;
        float* v = head.V + t * head.InputStride + column;
        TVec decay = TLanes.Broadcast(MathF.Exp(head.G[t * head.GateStride]));
        TVec beta = TLanes.Broadcast(head.Beta[t * head.GateStride]);

        TVec even = TLanes.Zero, odd = TLanes.Zero;
        float* s = head.State + column;
        for (int i = 0; i < keyDim; i++, s += stride)
        {
            TVec old = TLanes.LoadPartial(s, count);
            if (i % 2 == 0)
                even = TLanes.MultiplyAdd(TLanes.Broadcast(k[i]), old, even);
            else
                odd = TLanes.MultiplyAdd(TLanes.Broadcast(k[i]), old, odd);
        }

        TVec delta = Delta<TLanes, TVec>(even, odd, decay, beta, TLanes.LoadPartial(v, count));
        TVec sum = TLanes.Zero;
        s = head.State + column;
        for (int i = 0; i < keyDim; i++, s += stride)
        {
            TVec updated = TLanes.MultiplyAdd(TLanes.Broadcast(k[i]), delta, TLanes.Multiply(decay, TLanes.LoadPartial(s, count)));
            TLanes.StorePartial(s, updated, count);
            sum = TLanes.MultiplyAdd(TLanes.Broadcast(q[i]), updated, sum);
        }

        TLanes.StorePartial(head.Y + t * head.OutputStride + column, sum, count);
    }

    // δ = β (v − e^g kᵀS): the decay of the state is taken out of the sum.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static TVec Delta<TLanes, TVec>(TVec even, TVec odd, TVec decay, TVec beta, TVec value)
        where TLanes : struct, ILanes<TVec> where TVec : struct =>
        TLanes.Multiply(beta, TLanes.MultiplySubtractFrom(decay, TLanes.Add(even, odd), value));
}
