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

    // What the matrix is stored as, for people, when that is none of the kernels' types; null where Type says it.
    public virtual string? Encoding => null;

    // When Type is null: a type that kernels read whose blocks hold the very values, times Factor; or null.
    public virtual WeightType? BlockType => null;

    public virtual float Factor => 1;

    // float[count * ColumnCount] = rows first … first + count - 1, exactly as stored values times scales in float32.
    public abstract void DecodeRows(int firstRow, int count, Span<float> destination);

    // One row as blocks of BlockType.
    public virtual void WriteBlocks(int row, Span<byte> blocks) => throw new InvalidOperationException($"{Name} has no blocks");
}
