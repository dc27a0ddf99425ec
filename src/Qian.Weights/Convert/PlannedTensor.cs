using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Weights;

// One tensor of the file to write: its GGUF name (also when a folder is written: rules and tables speak of it), where its rows come
// from (one source per expert, else one) and the type it takes.
internal sealed record PlannedTensor(string Name, TensorRole Role, int Layer, IReadOnlyList<TensorSource> Sources, WeightType Type)
{
    public int RowCount => Sources[0].RowCount;

    public int ColumnCount => Sources[0].ColumnCount;

    public long ValueCount => (long)RowCount * ColumnCount * Sources.Count;

    public long ByteCount => WeightFormat.RowBytes(Type, ColumnCount) * RowCount * Sources.Count;

    // True for what no mix and no rule touches: vectors, the convolution's taps, what chooses experts.
    public bool StaysFloat => RowCount == 1 || TensorShapes.IsVector(Role) || Role is TensorRole.LinearConv or TensorRole.RouterGate;

    // Contiguous axis first.
    public long[] GgufSizes => RowCount == 1 || TensorShapes.IsVector(Role)
        ? [ColumnCount]
        : TensorShapes.IsExpert(Role) ? [ColumnCount, RowCount, Sources.Count] : [ColumnCount, RowCount];

    // The name without the layer: blk.7.ffn_down.weight is one of the ffn_down.
    public string Class
    {
        get
        {
            string[] parts = Name.Split('.');
            int first = parts[0] == "blk" ? 2 : 0;
            int end = parts[^1] == "weight" ? parts.Length - 1 : parts.Length;
            return string.Join('.', parts[first..end]);
        }
    }
}
