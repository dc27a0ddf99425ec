using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Inference.Model;

// Gated DeltaNet (MODEL.md, "Gated DeltaNet"): short causal convolution, L2-normed q and k, the gated delta rule on a
// float32 state per value head, a gated norm, the output projection.
internal sealed partial class Network
{
    // Epsilon of the q/k L2 norm: x / sqrt(sum x² + 1e-6), fixed in the reference (modeling_qwen3_5.py, l2norm).
    private const float L2Epsilon = 1e-6f;

    private void GatedDeltaNet(DeltaNetWeights w, int layerIndex, int stateIndex, ForwardBatch batch, AdapterRuns runs)
    {
        ForwardScratch s = _scratch;
        int rows = batch.RowCount, channels = _config.ConvChannels, valueHeads = _config.LinearValueHeads, valueWidth = valueHeads * _config.LinearValueDim;

        Project(
            runs, layerIndex, s.Normed, _config.HiddenSize, rows,
            [new Projection(w.Qkv, s.RawQkv, channels), new Projection(w.Z, s.Z, valueWidth), new Projection(w.B, s.B, valueHeads), new Projection(w.A, s.Alpha, valueHeads)],
            [TensorRole.LinearQkv, TensorRole.LinearZ, TensorRole.LinearB, TensorRole.LinearA]);
        Tap?.Invoke("in_proj_qkv", layerIndex, FirstRows(s.RawQkv, rows, channels));
        Tap?.Invoke("in_proj_z", layerIndex, FirstRows(s.Z, rows, valueWidth));

        DeltaGates.Apply(s.Alpha, s.B, w.Decay, w.DtBias, s.Decay, s.Beta, rows, valueHeads, _team);
        foreach (ref readonly Segment segment in batch.Segments)
            ConvRows(w, segment, stateIndex);

        Tap?.Invoke("conv_silu", layerIndex, FirstRows(s.Qkv, rows, channels));
        Tap?.Invoke("g", layerIndex, FirstRows(s.Decay, rows, valueHeads));
        Tap?.Invoke("beta", layerIndex, FirstRows(s.Beta, rows, valueHeads));
        NormQueriesAndKeys(s.Qkv, rows);
        foreach (ref readonly Segment segment in batch.Segments)
        {
            if (segment.IsTrial)
                TryDeltaRows(segment, stateIndex);
            else
                DeltaRows(segment, stateIndex, channels, valueHeads, valueWidth);
        }

        Tap?.Invoke("delta_output", layerIndex, FirstRows(s.DeltaRows, rows, valueWidth));
        GatedNorm.Apply(s.DeltaRows, s.Z, w.Norm, _config.NormEpsilon, s.DeltaRows, rows, valueHeads, _config.LinearValueDim, _team);
        Tap?.Invoke("gated_norm", layerIndex, FirstRows(s.DeltaRows, rows, valueWidth));
        Project(runs, layerIndex, s.DeltaRows, valueWidth, rows, [new Projection(w.Output, s.MixerOutput, _config.HiddenSize)], [TensorRole.LinearOutput]);
    }

    // Whole chunks, then what is left: the chunked form too unless it is short enough for the step.
    private void DeltaRows(in Segment segment, int stateIndex, int channels, int valueHeads, int valueWidth)
    {
        int chunked = segment.RowCount / DeltaChunk * DeltaChunk;
        if (segment.RowCount - chunked > MaxStepRows)
            chunked = segment.RowCount;
        FloatView state = segment.Sequence.Recurrent(stateIndex);
        for (int part = 0; part < 2; part++)
        {
            int first = segment.FirstRow + (part == 0 ? 0 : chunked);
            int count = part == 0 ? chunked : segment.RowCount - chunked;
            if (count == 0)
                continue;
            FloatView qkv = _scratch.Qkv.Slice((long)first * channels, (long)count * channels);
            FloatView g = _scratch.Decay.Slice((long)first * valueHeads, (long)count * valueHeads);
            FloatView beta = _scratch.Beta.Slice((long)first * valueHeads, (long)count * valueHeads);
            FloatView y = _scratch.DeltaRows.Slice((long)first * valueWidth, (long)count * valueWidth);
            if (part == 0)
                DeltaRule.Chunk(_scratch.DeltaShape, qkv, g, beta, state, y, count, _team, _scratch.Delta);
            else
                DeltaRule.Step(_scratch.DeltaShape, qkv, g, beta, state, y, count, _team);
        }
    }
}
