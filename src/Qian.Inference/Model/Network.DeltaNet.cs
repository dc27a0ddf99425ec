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
                DeltaRows(segment, stateIndex);
        }

        Tap?.Invoke("delta_output", layerIndex, FirstRows(s.DeltaRows, rows, valueWidth));
        GatedNorm.Apply(s.DeltaRows, s.Z, w.Norm, _config.NormEpsilon, s.DeltaRows, rows, valueHeads, _config.LinearValueDim, _team);
        Tap?.Invoke("gated_norm", layerIndex, FirstRows(s.DeltaRows, rows, valueWidth));
        Project(runs, layerIndex, s.DeltaRows, valueWidth, rows, [new Projection(w.Output, s.MixerOutput, _config.HiddenSize)], [TensorRole.LinearOutput]);
    }

    // Token by token, whatever the number of rows: so the state is a function of the tokens alone, and a text that was read is
    // the text that was written, bit for bit, wherever passes were cut. The chunked form costs two thirds of it, of a
    // hundredth of a large model's pass (SPEED.md).
    private void DeltaRows(in Segment segment, int stateIndex, int firstRow, int count)
    {
        int channels = _config.ConvChannels, valueHeads = _config.LinearValueHeads, valueWidth = valueHeads * _config.LinearValueDim;
        int first = segment.FirstRow + firstRow;
        DeltaRule.Step(
            _scratch.DeltaShape,
            _scratch.Qkv.Slice((long)first * channels, (long)count * channels),
            _scratch.Decay.Slice((long)first * valueHeads, (long)count * valueHeads),
            _scratch.Beta.Slice((long)first * valueHeads, (long)count * valueHeads),
            segment.Sequence.Recurrent(stateIndex),
            _scratch.DeltaRows.Slice((long)first * valueWidth, (long)count * valueWidth), count, _team);
    }

    // With a copy of the state as it is in the middle of the run, where one is wanted.
    private void DeltaRows(in Segment segment, int stateIndex)
    {
        int before = segment.Capture is null ? 0 : segment.CaptureRows;
        if (before > 0)
        {
            DeltaRows(segment, stateIndex, 0, before);
            segment.Capture!.Recurrent(stateIndex).CopyFrom(segment.Sequence.Recurrent(stateIndex));
        }

        DeltaRows(segment, stateIndex, before, segment.RowCount - before);
    }
}
