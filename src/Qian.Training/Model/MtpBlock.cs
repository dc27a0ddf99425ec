using Qian.Kernels;

namespace Qian.Training.Model;

// The multi-token-prediction head in training: from the trunk's normed row t and the embedding of token t + 1 it predicts
// token t + 2, within each sample. It keeps the batch's rows and borders: a sample's last row, which has no next token, takes
// its own token and no label, and no earlier row attends to it. Its gradient flows into trunk, embedding and output head.
internal sealed class MtpBlock(MtpBuffers buffers)
{
    public required VectorWeight EmbeddingNorm { get; init; }

    public required VectorWeight HiddenNorm { get; init; }

    public required LinearWeight FromEmbedding { get; init; }   // left half of mtp.fc, [hidden, hidden]

    public required LinearWeight FromHidden { get; init; }      // right half

    public required DecoderLayer Layer { get; init; }

    public required VectorWeight OutputNorm { get; init; }

    // Loss sum and number of targets. With dTrunk [T, hidden]: adds the gradient of the sum times gradientScale to it, to the
    // block's weights, the embedding's and the head's.
    public (double LossSum, int TargetCount) Run(FloatView trunk, FloatView dTrunk, float gradientScale, EmbeddingTable embedding, LossHead head, TrainingPass pass)
    {
        TrainingScratch s = pass.Scratch;
        int rows = pass.RowCount, hidden = pass.Config.HiddenSize;
        float epsilon = pass.Config.NormEpsilon;
        ReadOnlySpan<int> nextIds = buffers.NextIds.AsSpan(0, rows);
        Shift(pass.Batch);

        embedding.Gather(nextIds, buffers.Embedded, pass);
        RmsNorm.Apply(buffers.Embedded, EmbeddingNorm.Value, epsilon, s.Normed, rows, hidden, pass.Team);
        FromEmbedding.Forward(s.Normed, buffers.Residual, rows, accumulate: false, pass);
        RmsNorm.Apply(trunk, HiddenNorm.Value, epsilon, s.Normed, rows, hidden, pass.Team);
        FromHidden.Forward(s.Normed, buffers.Residual, rows, accumulate: true, pass);
        Layer.Forward(buffers.Residual, buffers.Layer, pass);
        RmsNorm.Apply(buffers.Residual, OutputNorm.Value, epsilon, buffers.Hidden, rows, hidden, pass.Team);

        bool train = dTrunk.Length > 0;
        (double, int) loss = head.Run(buffers.Hidden, buffers.Labels.AsSpan(0, rows), train ? s.DNormed : default, gradientScale, pass);
        if (!train)
            return loss;

        RmsNorm.Backward(buffers.Residual, OutputNorm.Value, epsilon, s.DNormed, buffers.DResidual, OutputNorm.Gradient, rows, hidden, pass.Team);
        Layer.Backward(buffers.DResidual, buffers.Layer, pass);
        RmsNorm.Apply(trunk, HiddenNorm.Value, epsilon, s.Normed, rows, hidden, pass.Team);
        FromHidden.Backward(s.Normed, buffers.DResidual, s.DNormed, rows, accumulate: false, pass);
        RmsNorm.BackwardAdd(trunk, HiddenNorm.Value, epsilon, s.DNormed, dTrunk, HiddenNorm.Gradient, rows, hidden, pass.Team);
        RmsNorm.Apply(buffers.Embedded, EmbeddingNorm.Value, epsilon, s.Normed, rows, hidden, pass.Team);
        FromEmbedding.Backward(s.Normed, buffers.DResidual, s.DNormed, rows, accumulate: false, pass);
        RmsNorm.Backward(buffers.Embedded, EmbeddingNorm.Value, epsilon, s.DNormed, buffers.DEmbedded, EmbeddingNorm.Gradient, rows, hidden, pass.Team);
        embedding.AddGradient(nextIds, buffers.DEmbedded, pass);
        return loss;
    }

    // Row t: token t + 1, and the label of row t + 1.
    private void Shift(TrainingBatch batch)
    {
        for (int sample = 0; sample < batch.SampleCount; sample++)
        {
            int last = batch.Borders[sample + 1] - 1;
            for (int row = batch.Borders[sample]; row < last; row++)
                (buffers.NextIds[row], buffers.Labels[row]) = (batch.TokenIds[row + 1], batch.Labels[row + 1]);
            (buffers.NextIds[last], buffers.Labels[last]) = (batch.TokenIds[last], TrainingBatch.Ignored);
        }
    }
}
