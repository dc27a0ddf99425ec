using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Inference.Model;

// The multi-token-prediction head (MODEL.md, "MTP"): from the trunk's hidden row of token p and the id of token p + 1 it
// predicts token p + 2. It has its own attention layer, whose K and V are one more layer in the sequence's blocks.
internal sealed partial class Network
{
    // [rowCount, hidden] of the last MTP pass, after mtp.norm: input of the next draft step and of MtpLogits.
    public FloatView MtpHidden => _scratch.MtpHidden;

    public bool HasMtp => _weights.Mtp is not null;

    // One pass of the MTP layer over rows added with ForwardBatch.AddMtp. hidden[rowCount, hidden]: trunk rows after the
    // final norm, or MtpHidden of the step before when drafting further. Writes the layer's K and V, changes no other state.
    public void MtpForward(ForwardBatch batch, FloatView hidden)
    {
        MtpWeights w = _weights.Mtp ?? throw new InvalidOperationException("this checkpoint has no MTP head");
        ForwardScratch s = _scratch;
        int rows = batch.RowCount, width = _config.HiddenSize;
        float epsilon = _config.NormEpsilon;

        _mtpRuns.Fill(batch);
        RmsNorm.Apply(hidden, w.HiddenNorm, epsilon, s.MixerOutput, rows, width, _team);
        EmbedRows(batch);
        RmsNorm.Apply(s.Residual, w.EmbeddingNorm, epsilon, s.Normed, rows, width, _team);
        Rows.Concatenate(s.Normed, s.MixerOutput, s.MtpInput, rows, width);
        Project(_mtpRuns, _config.LayerCount, s.MtpInput, 2 * width, rows, [new Projection(w.Projection, s.Residual, width)], [TensorRole.MtpProjection]);

        _rope.Fill(batch.Positions, rows, s.CosSin);
        DecoderLayer(w.Layer, _config.LayerCount, MtpCacheIndex, batch, _mtpRuns);
        RmsNorm.Apply(s.Residual, w.OutputNorm, epsilon, s.MtpHidden, rows, width, _team);
    }

    // [hidden]: where the input of row `row` of the next MtpForward(batch, MtpHidden) goes.
    public FloatView MtpRow(int row) => _scratch.MtpHidden.Slice((long)row * _config.HiddenSize, _config.HiddenSize);

    // Moves chosen rows of MtpHidden, rising, to its front: the next draft step goes on from them.
    public void KeepMtpRows(ReadOnlySpan<int> rowIndices) => Rows.Gather(_scratch.MtpHidden, _config.HiddenSize, rowIndices, _scratch.MtpHidden);

    // logits[rowIndices.Length, vocabulary] of chosen rows of the last MTP pass, through the trunk's head.
    public void MtpLogits(ReadOnlySpan<int> rowIndices, FloatView logits) => LogitsOf(_scratch.MtpHidden, rowIndices, _mtpRuns, logits);
}
