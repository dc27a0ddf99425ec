using Qian.Kernels;

namespace Qian.Training.Model;

// Gated DeltaNet of whole samples: projections, the short convolution, the gated delta rule, the gated norm, the output
// projection. Kept are the projections, the gates, the rule's output and its state before every 64 rows; the convolution and
// the unit-length queries and keys are made again on the way back.
internal sealed class DeltaNetLayer
{
    // Epsilon of the q/k L2 norm: x / sqrt(sum x² + 1e-6), fixed in the reference (modeling_qwen3_5.py, l2norm).
    private const float L2Epsilon = 1e-6f;

    public required LinearWeight Qkv { get; init; }       // [convChannels, hidden]

    public required LinearWeight Z { get; init; }         // [valueHeads * valueDim, hidden]

    public required LinearWeight B { get; init; }         // [valueHeads, hidden]

    public required LinearWeight A { get; init; }         // [valueHeads, hidden]

    public required LinearWeight Output { get; init; }    // [hidden, valueHeads * valueDim]

    public required VectorWeight Conv { get; init; }      // [convChannels, kernel]

    public required VectorWeight Decay { get; init; }     // [valueHeads]

    public required VectorWeight DtBias { get; init; }    // [valueHeads]

    public required VectorWeight Norm { get; init; }      // [valueDim]

    // residual [T, hidden] += DeltaNet(normed)
    public void Forward(FloatView normed, FloatView residual, DeltaNetActivations a, TrainingPass pass)
    {
        DeltaNetBuffers s = pass.Scratch.DeltaNet;
        int rows = pass.RowCount, valueHeads = pass.Config.LinearValueHeads;
        Qkv.Forward(normed, a.RawQkv, rows, accumulate: false, pass);
        Z.Forward(normed, a.Z, rows, accumulate: false, pass);
        B.Forward(normed, a.B, rows, accumulate: false, pass);
        A.Forward(normed, a.Alpha, rows, accumulate: false, pass);
        DeltaGates.Apply(a.Alpha, a.B, Decay.Value, DtBias.Value, a.LogDecay, a.Beta, rows, valueHeads, pass.Team);
        Convolve(a, pass);
        DeltaRule.Forward(pass.DeltaShape, s.Qkv, a.LogDecay, a.Beta, a.Core, a.ChunkStates, pass.Borders, pass.Delta, pass.Team);
        GatedNorm.Apply(a.Core, a.Z, Norm.Value, pass.Config.NormEpsilon, s.Gated, rows, valueHeads, pass.Config.LinearValueDim, pass.Team);
        Output.Forward(s.Gated, residual, rows, accumulate: true, pass);
    }

    // dNormed [T, hidden] = gradient, from that of the residual stream.
    public void Backward(FloatView normed, FloatView dResidual, FloatView dNormed, DeltaNetActivations a, TrainingPass pass)
    {
        DeltaNetBuffers s = pass.Scratch.DeltaNet;
        ThreadTeam team = pass.Team;
        int rows = pass.RowCount, valueHeads = pass.Config.LinearValueHeads, valueDim = pass.Config.LinearValueDim;
        int keyHeads = pass.Config.LinearKeyHeads, keyDim = pass.Config.LinearKeyDim, channels = pass.Config.ConvChannels;
        float epsilon = pass.Config.NormEpsilon;

        GatedNorm.Apply(a.Core, a.Z, Norm.Value, epsilon, s.Gated, rows, valueHeads, valueDim, team);
        Output.Backward(s.Gated, dResidual, s.DCore, rows, accumulate: false, pass);
        GatedNorm.Backward(a.Core, a.Z, Norm.Value, epsilon, s.DCore, s.DCore, s.DZ, Norm.Gradient, rows, valueHeads, valueDim, team);
        Z.Backward(normed, s.DZ, dNormed, rows, accumulate: false, pass);

        Convolve(a, pass);
        DeltaRule.Backward(pass.DeltaShape, s.Qkv, a.LogDecay, a.Beta, a.ChunkStates, s.DCore, s.DQkv, s.DLogDecay, s.DBeta, pass.Borders, pass.Delta, team);
        L2Norm.Backward(s.Convolved, channels, 0, rows, keyHeads, keyDim, L2Epsilon, QueryScale(keyDim), s.DQkv, s.DQkv, team);
        L2Norm.Backward(s.Convolved, channels, keyHeads * keyDim, rows, keyHeads, keyDim, L2Epsilon, 1f, s.DQkv, s.DQkv, team);
        // The rule's inputs are no longer needed: their place takes the gradient of the raw projection.
        ConvSilu.Backward(a.RawQkv, Conv.Value, s.DQkv, s.Qkv, Conv.Gradient, pass.Borders, channels, pass.Config.ConvKernel, team);
        Qkv.Backward(normed, s.Qkv, dNormed, rows, accumulate: true, pass);

        DeltaGates.Backward(a.Alpha, a.B, Decay.Value, DtBias.Value, s.DLogDecay, s.DBeta, s.DAlpha, s.DB, Decay.Gradient, DtBias.Gradient, rows, valueHeads, team);
        A.Backward(normed, s.DAlpha, dNormed, rows, accumulate: true, pass);
        B.Backward(normed, s.DB, dNormed, rows, accumulate: true, pass);
    }

    private void Convolve(DeltaNetActivations a, TrainingPass pass)
    {
        DeltaNetBuffers s = pass.Scratch.DeltaNet;
        int rows = pass.RowCount, channels = pass.Config.ConvChannels, keyHeads = pass.Config.LinearKeyHeads, keyDim = pass.Config.LinearKeyDim;
        ConvSilu.ApplySamples(a.RawQkv, Conv.Value, s.Convolved, pass.Borders, channels, pass.Config.ConvKernel, pass.Team);
        s.Qkv.CopyFrom(s.Convolved.Slice(0, (long)rows * channels));
        L2Norm.Apply(s.Qkv, channels, 0, rows, keyHeads, keyDim, L2Epsilon, QueryScale(keyDim), pass.Team);
        L2Norm.Apply(s.Qkv, channels, keyHeads * keyDim, rows, keyHeads, keyDim, L2Epsilon, 1f, pass.Team);
    }

    private static float QueryScale(int keyDim) => 1f / MathF.Sqrt(keyDim);
}
