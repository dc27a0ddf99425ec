using System.Diagnostics.CodeAnalysis;

namespace Qian.Kernels;

/// <summary>
/// What the storage types of weights are: sizes, names. A type stores whole blocks of
/// values; a row of a matrix is a whole number of blocks, and rows follow each other without padding.
/// </summary>
public static class WeightFormat
{
    private sealed class Plain(WeightType type, string name, int values, int bytes) : BlockFormat(type, name, values, bytes);

    // Indexed by the type's number; null where GGUF has no (living) type.
    private static readonly BlockFormat?[] s_formats = Index(
    [
        new Plain(WeightType.F32, "F32", 1, 4),
        new Plain(WeightType.F16, "F16", 1, 2),
        new Plain(WeightType.BF16, "BF16", 1, 2),
        new Plain(WeightType.Q8_0, "Q8_0", 32, 34),
        new Plain(WeightType.Q4_0, "Q4_0", 32, 18),
        new Plain(WeightType.Q4_1, "Q4_1", 32, 20),
        new Plain(WeightType.Q5_0, "Q5_0", 32, 22),
        new Plain(WeightType.Q5_1, "Q5_1", 32, 24),
        new Plain(WeightType.Q2_K, "Q2_K", 256, 84),
        new Plain(WeightType.Q3_K, "Q3_K", 256, 110),
        new Plain(WeightType.Q4_K, "Q4_K", 256, 144),
        new Plain(WeightType.Q5_K, "Q5_K", 256, 176),
        new Plain(WeightType.Q6_K, "Q6_K", 256, 210),
        new Plain(WeightType.IQ4_NL, "IQ4_NL", 32, 18),
        new Plain(WeightType.IQ4_XS, "IQ4_XS", 256, 136),
        new Plain(WeightType.MXFP4, "MXFP4", 32, 17),
        new Plain(WeightType.NVFP4, "NVFP4", 64, 36),
        new Plain(WeightType.IQ1_S, "IQ1_S", 256, 50),
        new Plain(WeightType.IQ1_M, "IQ1_M", 256, 56),
        new Plain(WeightType.IQ2_XXS, "IQ2_XXS", 256, 66),
        new Plain(WeightType.IQ2_XS, "IQ2_XS", 256, 74),
        new Plain(WeightType.IQ2_S, "IQ2_S", 256, 82),
        new Plain(WeightType.IQ3_XXS, "IQ3_XXS", 256, 98),
        new Plain(WeightType.IQ3_S, "IQ3_S", 256, 110),
    ]);

    /// <summary>True for the types that this library can read; a file may claim any number.</summary>
    public static bool IsDefined(WeightType type) => (uint)type < (uint)s_formats.Length && s_formats[(int)type] is not null;

    /// <summary>True for the types that store integers under scales: all but F32, F16 and BF16.</summary>
    /// <exception cref="ArgumentException">The type is not defined.</exception>
    public static bool IsQuantized(WeightType type) => Of(type).BlockValues > 1;

    /// <summary>True for the types that <c>Encode</c> can write; the code-book types (IQ1, IQ2, IQ3) are only read.</summary>
    /// <exception cref="ArgumentException">The type is not defined.</exception>
    public static bool CanEncode(WeightType type) => Of(type).Type is not
        (WeightType.IQ1_S or WeightType.IQ1_M or WeightType.IQ2_XXS or WeightType.IQ2_XS or WeightType.IQ2_S or WeightType.IQ3_XXS or WeightType.IQ3_S);

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
