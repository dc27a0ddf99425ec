using Qian.Inference.Runtime;
using Qian.Kernels;

namespace Qian.Training.Model;

// A frozen matrix with a trained adapter beside it: y = W x + scale · B (A x). A x is made again on the way back. Dropout leaves
// out inputs of the adapter by a pure function of seed, pass and place, so that a layer run twice drops the same ones, and a
// resumed run what it would have dropped.
internal sealed class LowRankWeight(FrozenWeight frozen, Parameter a, Parameter b, LoraOptions options, int adapterIndex) : LinearWeight
{
    public override int Rows => frozen.Rows;

    public override int Columns => frozen.Columns;

    public override void Forward(FloatView x, FloatView y, int rowCount, bool accumulate, TrainingPass pass)
    {
        frozen.Forward(x, y, rowCount, accumulate, pass);
        FloatView reduced = pass.Adapter!.Reduced;
        Reduce(Kept(x, rowCount, pass), reduced, rowCount, pass);
        pass.Multiply(MatrixView.Rows(reduced, rowCount, options.Rank), MatrixView.Rows(b.Value, Rows, options.Rank).Transposed, MatrixView.Rows(y, rowCount, Rows), accumulate: true);
    }

    public override void Backward(FloatView x, FloatView dy, FloatView dx, int rowCount, bool accumulate, TrainingPass pass)
    {
        frozen.Backward(x, dy, dx, rowCount, accumulate, pass);
        AdapterBuffers buffers = pass.Adapter!;
        int rank = options.Rank;
        FloatView kept = Kept(x, rowCount, pass);
        Reduce(kept, buffers.Reduced, rowCount, pass);
        MatrixView reduced = MatrixView.Rows(buffers.Reduced, rowCount, rank), dReduced = MatrixView.Rows(buffers.DReduced, rowCount, rank), dyRows = MatrixView.Rows(dy, rowCount, Rows);
        pass.Multiply(dyRows.Transposed, reduced, MatrixView.Rows(b.Gradient, Rows, rank), accumulate: true);
        pass.Multiply(dyRows, MatrixView.Rows(b.Value, Rows, rank), dReduced, accumulate: false);
        Scale(buffers.DReduced.Slice(0, (long)rowCount * rank).Span);
        pass.Multiply(dReduced.Transposed, MatrixView.Rows(kept, rowCount, Columns), MatrixView.Rows(a.Gradient, rank, Columns), accumulate: true);
        if (!Drops(pass))
        {
            pass.Multiply(dReduced, MatrixView.Rows(a.Value, rank, Columns), MatrixView.Rows(dx, rowCount, Columns), accumulate: true);
            return;
        }

        long count = (long)rowCount * Columns;
        pass.Multiply(dReduced, MatrixView.Rows(a.Value, rank, Columns), MatrixView.Rows(buffers.Kept, rowCount, Columns), accumulate: false);
        Drop(buffers.Kept.Slice(0, count), pass);
        Residual.Add(dx, buffers.Kept, count, pass.Team);
    }

    // reduced [rowCount, rank] = scale · A x
    private void Reduce(FloatView x, FloatView reduced, int rowCount, TrainingPass pass)
    {
        pass.Multiply(MatrixView.Rows(x, rowCount, Columns), MatrixView.Rows(a.Value, options.Rank, Columns).Transposed, MatrixView.Rows(reduced, rowCount, options.Rank), accumulate: false);
        Scale(reduced.Slice(0, (long)rowCount * options.Rank).Span);
    }

    private void Scale(Span<float> values)
    {
        float scale = options.Scale;
        foreach (ref float value in values)
            value *= scale;
    }

    private bool Drops(TrainingPass pass) => pass.IsTraining && options.Dropout > 0;

    // The adapter's input: x, or what dropout leaves of it.
    private FloatView Kept(FloatView x, int rowCount, TrainingPass pass)
    {
        if (!Drops(pass))
            return x;
        FloatView kept = pass.Adapter!.Kept.Slice(0, (long)rowCount * Columns);
        kept.CopyFrom(x.Slice(0, kept.Length));
        Drop(kept, pass);
        return kept;
    }

    // 16 random bits per value; what is kept is enlarged, so that the expectation stays.
    private void Drop(FloatView values, TrainingPass pass)
    {
        ulong stream = CounterRandom.Bits(CounterRandom.Bits(options.Seed, pass.PassIndex), adapterIndex);
        int dropBelow = (int)Math.Round(options.Dropout * 65536);
        float enlarge = 65536f / (65536 - dropBelow);
        Span<float> span = values.Span;
        for (int i = 0; i < span.Length; i += 4)
        {
            ulong bits = CounterRandom.Bits(stream, i / 4);
            for (int j = i; j < Math.Min(i + 4, span.Length); j++, bits >>= 16)
                span[j] = (int)(bits & 0xFFFF) < dropBelow ? 0 : span[j] * enlarge;
        }
    }
}
