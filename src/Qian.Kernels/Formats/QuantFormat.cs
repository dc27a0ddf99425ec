using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace Qian.Kernels;

// What the types with integers under scales share. Each is defined by one routine, UnpackBlock, which turns a block into
// value = scale * quant + offset with one scale and one offset per 16 values (a larger group repeats its scale).
// Scales have so few bits that scale * quant is exact or rounded once in float32: decoding is that very product.
// Not known here: any layout.
internal abstract class QuantFormat(WeightType type, string name, int blockValues, int blockBytes)
    : BlockFormat(type, name, blockValues, blockBytes)
{
    // Values under one unpacked scale: the smallest group of any type, and one vector of bytes.
    public const int GroupValues = 16;

    private const int MostBlockValues = 256;

    // Relative weight of a column of no importance: it must still be rounded to something near it.
    private const float ImportanceFloor = 1e-6f;

    // True for the types that add a minimum.
    public virtual bool HasOffsets => false;

    // One block. Offsets may be left alone by types without them.
    protected abstract void UnpackBlock(ReadOnlySpan<byte> block, Span<sbyte> quants, Span<float> scales, Span<float> offsets);

    // One block; weights are positive and about 1 on average. The block's bytes are zero on entry, which every type
    // decodes as zeros.
    protected virtual void EncodeBlock(ReadOnlySpan<float> values, ReadOnlySpan<float> weights, bool fast, Span<byte> block) =>
        throw new NotSupportedException($"{Name} is only read.");

    // Offsets may be empty for types without them.
    public void Unpack(ReadOnlySpan<byte> source, Span<sbyte> quants, Span<float> scales, Span<float> offsets)
    {
        if (!HasOffsets)
            offsets.Clear();
        int groupCount = BlockValues / GroupValues;
        for (int index = 0, position = 0; position < source.Length; index++, position += BlockBytes)
        {
            UnpackBlock(
                source.Slice(position, BlockBytes),
                quants.Slice(index * BlockValues, BlockValues),
                scales.Slice(index * groupCount, groupCount),
                HasOffsets ? offsets.Slice(index * groupCount, groupCount) : default);
        }
    }

    public sealed override void Decode(ReadOnlySpan<byte> source, Span<float> destination)
    {
        Span<sbyte> quants = stackalloc sbyte[MostBlockValues];
        Span<float> scales = stackalloc float[MostBlockValues / GroupValues];
        Span<float> offsets = stackalloc float[MostBlockValues / GroupValues];
        quants = quants[..BlockValues];
        offsets.Clear();
        for (int position = 0; position < source.Length; position += BlockBytes)
        {
            UnpackBlock(source.Slice(position, BlockBytes), quants, scales, offsets);
            for (int index = 0; index < BlockValues; index += GroupValues)
            {
                (Vector128<short> low, Vector128<short> high) = Vector128.Widen(Vector128.Create<sbyte>(quants.Slice(index, GroupValues)));
                float scale = scales[index / GroupValues];
                Vector256<float> offset = Vector256.Create(offsets[index / GroupValues]);
                (ToSingle(low) * scale + offset).CopyTo(destination.Slice(index, 8));
                (ToSingle(high) * scale + offset).CopyTo(destination.Slice(index + 8, 8));
            }

            destination = destination[BlockValues..];
        }
    }

    public sealed override void Encode(ReadOnlySpan<float> source, Span<byte> destination, ReadOnlySpan<float> importance, bool fast)
    {
        Span<float> weights = stackalloc float[MostBlockValues];
        weights = weights[..BlockValues];
        weights.Fill(1 + ImportanceFloor); // what equal importance gives
        destination.Clear();
        int column = 0;
        for (int position = 0; position < source.Length; position += BlockValues)
        {
            if (!importance.IsEmpty)
            {
                Weigh(importance.Slice(column, BlockValues), weights);
                column = column + BlockValues == importance.Length ? 0 : column + BlockValues;
            }

            EncodeBlock(source.Slice(position, BlockValues), weights, fast, destination[..BlockBytes]);
            destination = destination[BlockBytes..];
        }
    }

    protected static Vector256<float> ToSingle(Vector128<short> values)
    {
        (Vector128<int> low, Vector128<int> high) = Vector128.Widen(values);
        return Vector256.ConvertToSingle(Vector256.Create(low, high));
    }

    private static void Weigh(ReadOnlySpan<float> importance, Span<float> weights)
    {
        double sum = 0;
        foreach (float value in importance)
            sum += value;
        double factor = sum > 0 ? importance.Length / sum : 0;
        for (int index = 0; index < weights.Length; index++)
            weights[index] = (float)(importance[index] * factor) + ImportanceFloor;
    }
}
