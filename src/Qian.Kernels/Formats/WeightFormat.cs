using System.Diagnostics.CodeAnalysis;

namespace Qian.Kernels;

/// <summary>
/// The storage types of weights: sizes, names, and the way from bytes to numbers and back. A type stores whole blocks of
/// values; a row of a matrix is a whole number of blocks, and rows follow each other without padding.
/// All methods are pure and safe to call from many threads.
/// </summary>
public static class WeightFormat
{
    // Indexed by the type's number; null where GGUF has no (living) type.
    private static readonly BlockFormat?[] s_formats = Index(
    [
        new F32(), new F16(), new BF16(),
        new Q8_0(), new Q4_0(), new Q4_1(), new Q5_0(), new Q5_1(),
        new Q2_K(), new Q3_K(), new Q4_K(), new Q5_K(), new Q6_K(),
        new IQ4_NL(), new IQ4_XS(), new MXFP4(), new NVFP4(),
        new IQ1_S(), new IQ1_M(), new IQ2_XXS(), new IQ2_XS(), new IQ2_S(), new IQ3_XXS(), new IQ3_S(),
    ]);

    /// <summary>True for the types that this library can read; a file may claim any number.</summary>
    public static bool IsDefined(WeightType type) => type >= 0 && (int)type < s_formats.Length && s_formats[(int)type] is not null;

    /// <summary>True for the types that store integers under scales: all but F32, F16 and BF16.</summary>
    /// <exception cref="ArgumentException">The type is not defined.</exception>
    public static bool IsQuantized(WeightType type) => Of(type).BlockValues > 1;

    /// <summary>True for the types that <see cref="Encode"/> can write; IQ1_S and IQ1_M are only read.</summary>
    /// <exception cref="ArgumentException">The type is not defined.</exception>
    public static bool CanEncode(WeightType type) => Of(type).LargestMagnitude > 0;

    /// <summary>True for the quantized types that add a minimum, whose offsets <see cref="UnpackInt8"/> fills.</summary>
    /// <exception cref="ArgumentException">The type is not defined.</exception>
    public static bool HasOffsets(WeightType type) => Of(type) is QuantFormat { HasOffsets: true };

    /// <summary>Values in one block: 1 for the float types, else 32, 64 or 256.</summary>
    /// <exception cref="ArgumentException">The type is not defined.</exception>
    public static int BlockValues(WeightType type) => Of(type).BlockValues;

    /// <summary>Bytes of one block.</summary>
    /// <exception cref="ArgumentException">The type is not defined.</exception>
    public static int BlockBytes(WeightType type) => Of(type).BlockBytes;

    /// <summary>Bits that a value takes on average, scales included.</summary>
    /// <exception cref="ArgumentException">The type is not defined.</exception>
    public static double BitsPerWeight(WeightType type) => 8.0 * Of(type).BlockBytes / Of(type).BlockValues;

    /// <summary>Bytes of a row of <paramref name="columnCount"/> values.</summary>
    /// <exception cref="ArgumentException">The type is not defined, or the count is negative or not a whole number of blocks.</exception>
    public static long RowBytes(WeightType type, int columnCount)
    {
        BlockFormat format = Of(type);
        if (columnCount < 0 || columnCount % format.BlockValues != 0)
            throw new ArgumentException($"A row of {columnCount} values is not a whole number of {format.Name} blocks of {format.BlockValues}.", nameof(columnCount));
        return (long)(columnCount / format.BlockValues) * format.BlockBytes;
    }

    /// <summary>The name that GGUF tools use, for example <c>Q4_K</c>.</summary>
    /// <exception cref="ArgumentException">The type is not defined.</exception>
    public static string Name(WeightType type) => Of(type).Name;

    /// <summary>The type of a GGUF name, in any case; numbers are not names.</summary>
    public static bool TryParse([NotNullWhen(true)] string? name, out WeightType type)
    {
        foreach (BlockFormat? format in s_formats)
        {
            if (format is not null && format.Name.Equals(name, StringComparison.OrdinalIgnoreCase))
            {
                type = format.Type;
                return true;
            }
        }

        type = default;
        return false;
    }

    /// <summary>
    /// The values that the blocks stand for, exact to one float32 rounding. Any bytes decode; where a stored scale is infinite
    /// or NaN, so are values. NVFP4 values lack the factor that its tensor stores apart.
    /// </summary>
    /// <param name="type">How <paramref name="source"/> is stored.</param>
    /// <param name="source">Whole blocks.</param>
    /// <param name="destination">As many values as the blocks hold.</param>
    /// <exception cref="ArgumentException">The type is not defined, or the lengths do not fit.</exception>
    public static void Decode(WeightType type, ReadOnlySpan<byte> source, Span<float> destination)
    {
        BlockFormat format = Of(type);
        CheckLengths(format, source.Length, destination.Length);
        format.Decode(source, destination);
    }

    /// <summary>
    /// Stores values as blocks. F16 and BF16 round to nearest even; the others search for the scales that give the least
    /// squared error, weighted by <paramref name="importance"/>, or with <paramref name="fast"/> take the scales that the largest values ask for, which is
    /// several times as fast for types of 256 values and larger in error. Equal input gives equal bytes on every machine.
    /// </summary>
    /// <param name="type">A type for which <see cref="CanEncode"/> is true.</param>
    /// <param name="source">Values of whole blocks. For NVFP4, already divided by the tensor's factor.</param>
    /// <param name="destination">As many bytes as the blocks take.</param>
    /// <param name="importance">Empty, or a weight of 0 or more for each value, or for each column of rows that
    /// <paramref name="source"/> holds one after the other.</param>
    /// <param name="fast">Leave the search out where the type has a way without; code-book types (IQ2, IQ3) have none.</param>
    /// <exception cref="ArgumentException">The type is not defined or only read, the lengths do not fit, a value is not finite
    /// or too large for the type, or a weight is negative or not finite; the message names the index.</exception>
    public static void Encode(WeightType type, ReadOnlySpan<float> source, Span<byte> destination, ReadOnlySpan<float> importance = default, bool fast = false)
    {
        BlockFormat format = Of(type);
        if (!CanEncode(type))
            throw new ArgumentException($"{format.Name} is only read, not written.", nameof(type));
        CheckLengths(format, destination.Length, source.Length);
        int index = BlockFormat.IndexOutside(source, format.LargestMagnitude);
        if (index >= 0)
            throw new ArgumentException($"Value {index} is {source[index]}; {format.Name} stores finite values up to {format.LargestMagnitude} in magnitude.");
        if (!importance.IsEmpty)
            CheckImportance(format, importance, source.Length);
        format.Encode(source, destination, importance, fast);
    }

    /// <summary>
    /// Blocks as small integers: value[i] = scales[i / 16] * quants[i] + offsets[i / 16], the form that integer products
    /// use. Quants lie in −127 … 127, except that a Q8_0 block may hold −128.
    /// </summary>
    /// <param name="type">A type for which <see cref="IsQuantized"/> is true.</param>
    /// <param name="source">Whole blocks.</param>
    /// <param name="quants">As many as the blocks hold values.</param>
    /// <param name="scales">One per 16 values.</param>
    /// <param name="offsets">One per 16 values; for a type without offsets they become 0, or the span may be empty.</param>
    /// <exception cref="ArgumentException">The type is not defined or not quantized, or the lengths do not fit.</exception>
    public static void UnpackInt8(WeightType type, ReadOnlySpan<byte> source, Span<sbyte> quants, Span<float> scales, Span<float> offsets)
    {
        if (Of(type) is not QuantFormat format)
            throw new ArgumentException($"{Name(type)} holds no integers to unpack.", nameof(type));
        CheckLengths(format, source.Length, quants.Length);
        int groupCount = quants.Length / QuantFormat.GroupValues;
        if (scales.Length != groupCount)
            throw new ArgumentException($"{quants.Length} values need {groupCount} scales, not {scales.Length}.", nameof(scales));
        if (offsets.Length != groupCount && (format.HasOffsets || !offsets.IsEmpty))
            throw new ArgumentException($"{quants.Length} values need {groupCount} offsets, not {offsets.Length}.", nameof(offsets));
        format.Unpack(source, quants, scales, offsets);
    }

    private static void CheckLengths(BlockFormat format, int byteCount, int valueCount)
    {
        if (byteCount % format.BlockBytes != 0)
            throw new ArgumentException($"{byteCount} bytes are not a whole number of {format.Name} blocks of {format.BlockBytes} bytes.");
        if ((long)(byteCount / format.BlockBytes) * format.BlockValues != valueCount)
            throw new ArgumentException($"{byteCount} bytes of {format.Name} hold {(long)(byteCount / format.BlockBytes) * format.BlockValues} values, not {valueCount}.");
    }

    private static void CheckImportance(BlockFormat format, ReadOnlySpan<float> importance, int valueCount)
    {
        if (importance.Length % format.BlockValues != 0 || valueCount % importance.Length != 0)
            throw new ArgumentException($"{importance.Length} weights fit neither {valueCount} values nor rows of them in {format.Name} blocks.", nameof(importance));
        for (int index = 0; index < importance.Length; index++)
        {
            if (!(importance[index] >= 0 && float.IsFinite(importance[index])))
                throw new ArgumentException($"Weight {index} is {importance[index]}; weights are finite and not negative.", nameof(importance));
        }
    }

    private static BlockFormat Of(WeightType type) => IsDefined(type)
        ? s_formats[(int)type]!
        : throw new ArgumentException($"Weight type {(int)type} is not one that this library reads.", nameof(type));

    private static BlockFormat?[] Index(BlockFormat[] formats)
    {
        var table = new BlockFormat?[Array.ConvertAll(formats, format => (int)format.Type).Max() + 1];
        foreach (BlockFormat format in formats)
            table[(int)format.Type] = format;
        return table;
    }
}
