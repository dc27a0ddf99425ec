using Qian.Kernels;

namespace Qian.Training.Model;

// Gated attention of whole samples: query and gate side by side per head, per-head norms, partial rotary, causal attention
// within each sample, sigmoid(gate), the output projection. Kept are the projections and attention's output with its
// log-sum-exp; normed and rotated queries and keys are made again on the way back.
internal sealed class AttentionLayer
{
    public required LinearWeight Q { get; init; }         // [heads * 2 * headDim, hidden]

    public required LinearWeight K { get; init; }         // [kvHeads * headDim, hidden]

    public required LinearWeight V { get; init; }         // [kvHeads * headDim, hidden]

    public required LinearWeight Output { get; init; }    // [hidden, heads * headDim]

    public required VectorWeight QNorm { get; init; }     // [headDim]

    public required VectorWeight KNorm { get; init; }     // [headDim]

    // residual [T, hidden] += attention(normed)
    public void Forward(FloatView normed, FloatView residual, AttentionActivations a, TrainingPass pass)
    {
        AttentionBuffers s = pass.Scratch.Attention;
        int rows = pass.RowCount;
        Q.Forward(normed, a.QGate, rows, accumulate: false, pass);
        K.Forward(normed, a.K, rows, accumulate: false, pass);
        V.Forward(normed, a.V, rows, accumulate: false, pass);
        RotateHeads(a, pass);
        CausalAttention.Forward(pass.AttentionShape, s.Q, s.K, a.V, a.Output, a.LogSumExp, pass.Borders, pass.Attention, pass.Team);
        Gate(a, pass);
        Output.Forward(s.Gated, residual, rows, accumulate: true, pass);
    }

    // dNormed [T, hidden] = gradient, from that of the residual stream.
    public void Backward(FloatView normed, FloatView dResidual, FloatView dNormed, AttentionActivations a, TrainingPass pass)
    {
        AttentionBuffers s = pass.Scratch.Attention;
        ThreadTeam team = pass.Team;
        int rows = pass.RowCount, heads = pass.Config.AttentionHeads, kvHeads = pass.Config.KvHeads, dim = pass.Config.HeadDim, rotary = pass.Config.RotaryDim;
        int qWidth = heads * dim, kvWidth = kvHeads * dim;
        float epsilon = pass.Config.NormEpsilon;

        RotateHeads(a, pass);
        Gate(a, pass);
        Output.Backward(s.Gated, dResidual, s.DGated, rows, accumulate: false, pass);
        OutputGate.Backward(a.Output, a.QGate, s.DGated, s.DOutput, s.DQGate, rows, heads, dim, team);
        CausalAttention.Backward(pass.AttentionShape, s.Q, s.K, a.V, a.Output, a.LogSumExp, s.DOutput, s.DQ, s.DK, s.DV, pass.Borders, pass.Attention, team);
        // The gate halves of DQGate are written; this writes the query halves.
        HeadNormRope.Backward(a.QGate, 2 * qWidth, 2 * dim, rows, heads, dim, QNorm.Value, epsilon, pass.Scratch.CosSin, rotary, s.DQ, s.DQGate, QNorm.Gradient, team);
        HeadNormRope.Backward(a.K, kvWidth, dim, rows, kvHeads, dim, KNorm.Value, epsilon, pass.Scratch.CosSin, rotary, s.DK, s.DKRaw, KNorm.Gradient, team);
        Q.Backward(normed, s.DQGate, dNormed, rows, accumulate: false, pass);
        K.Backward(normed, s.DKRaw, dNormed, rows, accumulate: true, pass);
        V.Backward(normed, s.DV, dNormed, rows, accumulate: true, pass);
    }

    private void RotateHeads(AttentionActivations a, TrainingPass pass)
    {
        AttentionBuffers s = pass.Scratch.Attention;
        int rows = pass.RowCount, heads = pass.Config.AttentionHeads, kvHeads = pass.Config.KvHeads, dim = pass.Config.HeadDim, rotary = pass.Config.RotaryDim;
        float epsilon = pass.Config.NormEpsilon;
        HeadNormRope.Apply(a.QGate, 2 * heads * dim, 2 * dim, rows, heads, dim, QNorm.Value, epsilon, pass.Scratch.CosSin, rotary, s.Q, pass.Team);
        HeadNormRope.Apply(a.K, kvHeads * dim, dim, rows, kvHeads, dim, KNorm.Value, epsilon, pass.Scratch.CosSin, rotary, s.K, pass.Team);
    }

    // The gate works in place, and attention's own output is needed on the way back.
    private static void Gate(AttentionActivations a, TrainingPass pass)
    {
        int rows = pass.RowCount, heads = pass.Config.AttentionHeads, dim = pass.Config.HeadDim;
        FloatView gated = pass.Scratch.Attention.Gated;
        gated.CopyFrom(a.Output.Slice(0, (long)rows * heads * dim));
        OutputGate.Apply(gated, a.QGate, rows, heads, dim, pass.Team);
    }
}
