using Qian.Kernels;

namespace Qian.Inference.Formats;

// One tensor of an open checkpoint, ready for the model: transforms of the file format (norm + 1, -exp, squeezed conv,
// one expert out of a fused tensor) are already applied, so nobody above this folder knows them.
// Views stay valid while the checkpoint is open.
internal abstract class TensorSource
{
    // The spelling in the file, for messages.
    public required string Name { get; init; }

    public required int RowCount { get; init; }

    public required int ColumnCount { get; init; }

    // The stored type when `Data` can be used as it is, null when rows must be decoded (FP8, a transposed int4, …).
    public abstract WeightType? Type { get; }

    // The stored bytes, row after row, when Type is not null.
    public abstract ByteView Data { get; }

    // float[count * ColumnCount] = rows first … first + count - 1, exactly as stored values times scales in float32.
    public abstract void DecodeRows(int firstRow, int count, Span<float> destination);
}
