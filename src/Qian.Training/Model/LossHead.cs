using Qian.Kernels;

namespace Qian.Training.Model;

// The output head with its cross-entropy, over the rows that have a label and no others, a bounded number of rows at a time:
// a batch's logits never exist at once, and their gradient takes the place of the logits.
internal sealed class LossHead(LinearWeight weight, HeadBuffers buffers)
{
    // The sum of -log p(label) over rows with a label, and their number. With dHidden [T, hidden]: overwritten with the gradient
    // of that sum times gradientScale, and the head's own gradient is added. Empty for evaluation.
    public (double LossSum, int TargetCount) Run(FloatView hidden, ReadOnlySpan<int> labels, FloatView dHidden, float gradientScale, TrainingPass pass)
    {
        int vocabulary = pass.Config.VocabularySize, width = pass.Config.HiddenSize;
        bool train = dHidden.Length > 0;
        if (train)
            dHidden.Slice(0, (long)labels.Length * width).Clear();
        double sum = 0;
        int count = 0, next = 0;
        while (Gather(labels, ref next) is int rows and > 0)
        {
            ReadOnlySpan<int> rowIndices = buffers.RowIndices.AsSpan(0, rows), chunkLabels = buffers.Labels.AsSpan(0, rows);
            Rows.Gather(hidden, width, rowIndices, buffers.Input);
            weight.Forward(buffers.Input, buffers.Logits, rows, accumulate: false, pass);
            if (train)
            {
                CrossEntropy.Apply(buffers.Logits, rows, vocabulary, chunkLabels, gradientScale, buffers.RowLoss, pass.Team);
                weight.Backward(buffers.Input, buffers.Logits, buffers.DInput, rows, accumulate: false, pass);
                Rows.Scatter(buffers.DInput, width, rowIndices, dHidden);
            }
            else
            {
                CrossEntropy.Loss(buffers.Logits, rows, vocabulary, chunkLabels, buffers.RowLoss, pass.Team);
            }

            foreach (float loss in buffers.RowLoss.Slice(0, rows).Span)
                sum += loss;
            count += rows;
        }

        return (sum, count);
    }

    // The next rows that have a label.
    private int Gather(ReadOnlySpan<int> labels, ref int next)
    {
        int rows = 0;
        for (; next < labels.Length && rows < buffers.ChunkRows; next++)
        {
            if (labels[next] == TrainingBatch.Ignored)
                continue;
            (buffers.RowIndices[rows], buffers.Labels[rows]) = (next, labels[next]);
            rows++;
        }

        return rows;
    }
}
