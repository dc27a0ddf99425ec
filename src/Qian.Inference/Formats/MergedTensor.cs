using System.Numerics;
using System.Runtime.InteropServices;
using Qian.Kernels;

namespace Qian.Inference.Formats;

// Rows of another tensor with an adapter's product added: W + scale · B A, in float32, whatever the weights are stored as.
// `target` stands in the tensor's own order of the value heads.
internal sealed class MergedTensor : TensorSource
{
    private readonly TensorSource _source;
    private readonly AdapterTarget _target;
    private readonly double _scale;

    public MergedTensor(TensorSource source, AdapterTarget target, double scale)
    {
        _source = source;
        _target = target;
        _scale = scale;
    }

    public override WeightType? Type => null;

    public override ByteView Data => throw new InvalidOperationException($"{Name} is computed; it has no stored bytes");

    public override void DecodeRows(int firstRow, int count, Span<float> destination)
    {
        _source.DecodeRows(firstRow, count, destination);
        var change = new float[ColumnCount];
        for (int i = 0; i < count; i++)
        {
            Array.Clear(change);
            for (int k = 0; k < _target.Rank; k++)
                AddScaled(_target.A.AsSpan(k * ColumnCount, ColumnCount), (float)(_scale * _target.B[(firstRow + i) * _target.Rank + k]), change);
            AddScaled(change, 1, destination.Slice(i * ColumnCount, ColumnCount));
        }
    }

    private static void AddScaled(ReadOnlySpan<float> values, float factor, Span<float> sums)
    {
        Span<Vector<float>> wideSums = MemoryMarshal.Cast<float, Vector<float>>(sums);
        ReadOnlySpan<Vector<float>> wide = MemoryMarshal.Cast<float, Vector<float>>(values);
        var factors = new Vector<float>(factor);
        for (int i = 0; i < wideSums.Length; i++)
            wideSums[i] += wide[i] * factors;
        for (int i = wideSums.Length * Vector<float>.Count; i < sums.Length; i++)
            sums[i] += values[i] * factor;
    }
}
