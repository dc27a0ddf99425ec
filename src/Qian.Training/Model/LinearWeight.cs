using Qian.Kernels;

namespace Qian.Training.Model;

// A weight matrix [Rows, Columns] of the chain: y = W x for rows of x, and on the way back the gradients of x and of whatever
// of W is trained. What is trained (all of it, an adapter, nothing) is the implementation's business.
internal abstract class LinearWeight
{
    public abstract int Rows { get; }

    public abstract int Columns { get; }

    // y [rowCount, Rows] (+)= x [rowCount, Columns] · Wᵀ.
    public abstract void Forward(FloatView x, FloatView y, int rowCount, bool accumulate, TrainingPass pass);

    // dx [rowCount, Columns] (+)= dy [rowCount, Rows] · W; adds to the gradients of what is trained. x is the forward's.
    public abstract void Backward(FloatView x, FloatView dy, FloatView dx, int rowCount, bool accumulate, TrainingPass pass);
}

// A matrix trained as it is.
internal sealed class DenseWeight : LinearWeight
{
    private readonly MatrixView _value, _gradient;

    // Columns may be a part of a wider matrix's: `stride` floats lie between rows.
    public DenseWeight(FloatView value, FloatView gradient, int rows, int columns, int stride)
    {
        Rows = rows;
        Columns = columns;
        _value = MatrixView.Rows(value, rows, columns, stride);
        _gradient = MatrixView.Rows(gradient, rows, columns, stride);
    }

    public override int Rows { get; }

    public override int Columns { get; }

    public override void Forward(FloatView x, FloatView y, int rowCount, bool accumulate, TrainingPass pass) =>
        pass.Multiply(MatrixView.Rows(x, rowCount, Columns), _value.Transposed, MatrixView.Rows(y, rowCount, Rows), accumulate);

    public override void Backward(FloatView x, FloatView dy, FloatView dx, int rowCount, bool accumulate, TrainingPass pass)
    {
        MatrixView dyRows = MatrixView.Rows(dy, rowCount, Rows);
        pass.Multiply(dyRows, _value, MatrixView.Rows(dx, rowCount, Columns), accumulate);
        pass.Multiply(dyRows.Transposed, MatrixView.Rows(x, rowCount, Columns), _gradient, accumulate: true);
    }
}
