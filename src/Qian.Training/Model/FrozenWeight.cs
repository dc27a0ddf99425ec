using Qian.Kernels;

namespace Qian.Training.Model;

// A matrix of any stored type that is not trained: its rows are decoded to floats a block at a time, so that a quantised base
// costs one bounded block of memory more than its file.
internal sealed class FrozenWeight(WeightMatrix matrix) : LinearWeight
{
    public override int Rows => matrix.RowCount;

    public override int Columns => matrix.ColumnCount;

    public override void Forward(FloatView x, FloatView y, int rowCount, bool accumulate, TrainingPass pass)
    {
        MatrixView input = MatrixView.Rows(x, rowCount, Columns);
        for (int first = 0; first < Rows;)
        {
            MatrixView block = Decode(first, pass);
            pass.Multiply(input, block.Transposed, MatrixView.Rows(y.Slice(first), rowCount, block.RowCount, Rows), accumulate);
            first += block.RowCount;
        }
    }

    public override void Backward(FloatView x, FloatView dy, FloatView dx, int rowCount, bool accumulate, TrainingPass pass)
    {
        for (int first = 0; first < Rows;)
        {
            MatrixView block = Decode(first, pass);
            pass.Multiply(MatrixView.Rows(dy.Slice(first), rowCount, block.RowCount, Rows), block, MatrixView.Rows(dx, rowCount, Columns), accumulate || first > 0);
            first += block.RowCount;
        }
    }

    private MatrixView Decode(int firstRow, TrainingPass pass)
    {
        AdapterBuffers buffers = pass.Adapter!;
        int count = (int)Math.Min(Rows - firstRow, Math.Max(1, buffers.Decoded.Length / Columns));
        Span<int> indices = buffers.RowIndices.AsSpan(0, count);
        for (int i = 0; i < count; i++)
            indices[i] = firstRow + i;
        Embedding.Gather(matrix, indices, buffers.Decoded, pass.Team);
        return MatrixView.Rows(buffers.Decoded, count, Columns);
    }
}
