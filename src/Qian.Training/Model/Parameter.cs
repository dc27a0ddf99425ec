using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Training.Model;

// One trainable tensor, under the name and in the convention of the Hugging Face files: norm weights as w (the network uses
// 1 + w), A_log (the network uses -exp), the convolution without its middle axis, value heads in that format's order.
internal sealed class Parameter
{
    // The tensor's name in the file.
    public required string Name { get; init; }

    // Axes in the file, for writing it back.
    public required long[] Sizes { get; init; }

    public required int Rows { get; init; }

    public required int Columns { get; init; }

    // How the source stored it.
    public required SafetensorsType StoredType { get; init; }

    // Projections, embeddings, experts and adapters: what weight decay is for. Norms, gates and filters are not.
    public required bool IsMatrix { get; init; }

    public long Length => (long)Rows * Columns;

    // [Rows, Columns]
    public FloatView Value { get; private set; }

    // [Rows, Columns]: sum of what every pass since ZeroGradients added.
    public FloatView Gradient { get; private set; }

    public void Place(FloatView value, FloatView gradient) => (Value, Gradient) = (value, gradient);
}
