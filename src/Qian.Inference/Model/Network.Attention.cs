using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Inference.Model;

// Gated attention (MODEL.md, "Gated attention"): query and gate side by side per head, per-head norms, partial rotary,
// grouped heads, and the output multiplied by sigmoid(gate) before the output projection.
internal sealed partial class Network
{
    private void GatedAttention(AttentionWeights w, int layerIndex, int cacheIndex, ForwardBatch batch, AdapterRuns runs)
    {
        ForwardScratch s = _scratch;
        int rows = batch.RowCount, heads = _config.AttentionHeads, kvHeads = _config.KvHeads, dim = _config.HeadDim;
        int qWidth = heads * dim, kvWidth = kvHeads * dim;
        float epsilon = _config.NormEpsilon;

        Project(
            runs, layerIndex, s.Normed, _config.HiddenSize, rows,
            [new Projection(w.Q, s.QGate, 2 * qWidth), new Projection(w.K, s.K, kvWidth), new Projection(w.V, s.V, kvWidth)],
            [TensorRole.AttentionQ, TensorRole.AttentionK, TensorRole.AttentionV]);
        Tap?.Invoke("q_proj", layerIndex, FirstRows(s.QGate, rows, 2 * qWidth));

        HeadNormRope.Apply(s.QGate, 2 * qWidth, 2 * dim, rows, heads, dim, w.QNorm, epsilon, s.CosSin, _config.RotaryDim, s.Q, _team);
        HeadNormRope.Apply(s.K, kvWidth, dim, rows, kvHeads, dim, w.KNorm, epsilon, s.CosSin, _config.RotaryDim, s.K, _team);

        foreach (ref readonly Segment segment in batch.Segments)
        {
            KvBlock[] blocks = segment.Sequence.Blocks;
            KvCache.Write(_kv, blocks, cacheIndex, segment.FirstToken, RowsOf(s.K, segment, kvWidth), RowsOf(s.V, segment, kvWidth), segment.RowCount, _team);
            Attention.Apply(s.AttentionShape, _kv, RowsOf(s.Q, segment, qWidth), blocks, cacheIndex, segment.FirstToken, segment.RowCount, RowsOf(s.AttentionRows, segment, qWidth), s.Attention, _team);
        }

        OutputGate.Apply(s.AttentionRows, s.QGate, rows, heads, dim, _team);
        Tap?.Invoke("gated_attention", layerIndex, FirstRows(s.AttentionRows, rows, qWidth));
        Project(runs, layerIndex, s.AttentionRows, qWidth, rows, [new Projection(w.Output, s.MixerOutput, _config.HiddenSize)], [TensorRole.AttentionOutput]);
    }
}
