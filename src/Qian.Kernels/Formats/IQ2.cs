using System.Buffers.Binary;

namespace Qian.Kernels;

// The types of 2 to 2.6 bits: 256 values as 32 groups of 8, each a row of a code book with signs. The family differs in the
// size of its book and in where the bits of index, signs and multiplier stand.
// Value = d * (½ + multiplier) / 4 * row value * sign, the multiplier 0 … 15.

// d, then 8 times 4 row indices and 32 bits: four fields of 7 signs, and on top the multiplier of the 32 values.
internal sealed class IQ2_XXS() : QuantFormat(WeightType.IQ2_XXS, "IQ2_XXS", 256, 66)
{
    private static readonly Lazy<BookSearch> s_book = new(() => new BookSearch(CodeBooks.Iq2Xxs, 8));

    public override float LargestMagnitude => NibbleMultipliers.LargestMagnitude;

    protected override void UnpackBlock(ReadOnlySpan<byte> block, Span<sbyte> quants, Span<float> scales, Span<float> offsets)
    {
        float scale = BlockPieces.ReadHalf(block, 0);
        for (int sub = 0; sub < 8; sub++)
        {
            ReadOnlySpan<byte> part = block.Slice(2 + 8 * sub, 8);
            uint word = BinaryPrimitives.ReadUInt32LittleEndian(part[4..]);
            scales.Slice(2 * sub, 2).Fill(scale * (0.5f + (word >> 28)) * 0.25f);
            for (int pair = 0; pair < 2; pair++)
            {
                CodeBooks.Store(
                    CodeBooks.Iq2Xxs[part[2 * pair]], CodeBooks.Iq2Xxs[part[2 * pair + 1]],
                    CodeBooks.EvenSigns(word >> (14 * pair)), CodeBooks.EvenSigns(word >> (14 * pair + 7)),
                    quants, 32 * sub + 16 * pair);
            }
        }
    }

    protected override void EncodeBlock(ReadOnlySpan<float> values, ReadOnlySpan<float> weights, bool fast, Span<byte> block)
    {
        Span<ushort> rows = stackalloc ushort[32];
        Span<byte> signs = stackalloc byte[32], multipliers = stackalloc byte[8];
        float scale = BookFit.Fit(s_book.Value, values, weights, hasEvenSigns: true, NibbleMultipliers.Unit, rows, signs, multipliers);
        if (scale == 0)
            return;
        BlockPieces.WriteHalf(block, 0, scale);
        for (int sub = 0; sub < 8; sub++)
        {
            Span<byte> part = block.Slice(2 + 8 * sub, 8);
            uint word = (uint)multipliers[sub] << 28;
            for (int run = 0; run < 4; run++)
            {
                part[run] = unchecked((byte)rows[4 * sub + run]);
                word |= (uint)(signs[4 * sub + run] & 127) << (7 * run);
            }

            BinaryPrimitives.WriteUInt32LittleEndian(part[4..], word);
        }
    }
}

// d, 32 words of 9 bits of index and 7 signs, 8 bytes of multipliers: the low nibble for 16 values, the high for the next.
internal sealed class IQ2_XS() : QuantFormat(WeightType.IQ2_XS, "IQ2_XS", 256, 74)
{
    private const int MultipliersAt = 66;

    private static readonly Lazy<BookSearch> s_book = new(() => new BookSearch(CodeBooks.Iq2Xs, 8));

    public override float LargestMagnitude => NibbleMultipliers.LargestMagnitude;

    protected override void UnpackBlock(ReadOnlySpan<byte> block, Span<sbyte> quants, Span<float> scales, Span<float> offsets)
    {
        NibbleMultipliers.Unpack(BlockPieces.ReadHalf(block, 0), block.Slice(MultipliersAt, 8), scales);
        for (int index = 0; index < 16; index++)
        {
            uint first = BinaryPrimitives.ReadUInt16LittleEndian(block[(2 + 4 * index)..]);
            uint second = BinaryPrimitives.ReadUInt16LittleEndian(block[(4 + 4 * index)..]);
            CodeBooks.Store(
                CodeBooks.Iq2Xs[first & 511], CodeBooks.Iq2Xs[second & 511],
                CodeBooks.EvenSigns(first >> 9), CodeBooks.EvenSigns(second >> 9), quants, 16 * index);
        }
    }

    protected override void EncodeBlock(ReadOnlySpan<float> values, ReadOnlySpan<float> weights, bool fast, Span<byte> block)
    {
        Span<ushort> rows = stackalloc ushort[32];
        Span<byte> signs = stackalloc byte[32], multipliers = stackalloc byte[16];
        float scale = BookFit.Fit(s_book.Value, values, weights, hasEvenSigns: true, NibbleMultipliers.Unit, rows, signs, multipliers);
        if (scale == 0)
            return;
        BlockPieces.WriteHalf(block, 0, scale);
        for (int run = 0; run < rows.Length; run++)
            BinaryPrimitives.WriteUInt16LittleEndian(block[(2 + 2 * run)..], (ushort)(rows[run] | (signs[run] & 127) << 9));
        NibbleMultipliers.Pack(multipliers, block.Slice(MultipliersAt, 8));
    }
}

// d, 32 low bytes of indices, 32 bytes of signs, 8 bytes with two more index bits for four groups each, 8 of multipliers.
internal sealed class IQ2_S() : QuantFormat(WeightType.IQ2_S, "IQ2_S", 256, 82)
{
    private const int IndicesAt = 2;
    private const int SignsAt = 34;
    private const int HighBitsAt = 66;
    private const int MultipliersAt = 74;

    private static readonly Lazy<BookSearch> s_book = new(() => new BookSearch(CodeBooks.Iq2S, 8));

    public override float LargestMagnitude => NibbleMultipliers.LargestMagnitude;

    protected override void UnpackBlock(ReadOnlySpan<byte> block, Span<sbyte> quants, Span<float> scales, Span<float> offsets)
    {
        NibbleMultipliers.Unpack(BlockPieces.ReadHalf(block, 0), block.Slice(MultipliersAt, 8), scales);
        for (int index = 0; index < 16; index++)
        {
            int high = block[HighBitsAt + index / 2] >> (index % 2 * 4);
            int first = block[IndicesAt + 2 * index] | (high & 3) << 8;
            int second = block[IndicesAt + 2 * index + 1] | (high >> 2 & 3) << 8;
            CodeBooks.Store(
                CodeBooks.Iq2S[first], CodeBooks.Iq2S[second],
                CodeBooks.Signs(block[SignsAt + 2 * index]), CodeBooks.Signs(block[SignsAt + 2 * index + 1]), quants, 16 * index);
        }
    }

    protected override void EncodeBlock(ReadOnlySpan<float> values, ReadOnlySpan<float> weights, bool fast, Span<byte> block)
    {
        Span<ushort> rows = stackalloc ushort[32];
        Span<byte> multipliers = stackalloc byte[16], signs = stackalloc byte[32];
        float scale = BookFit.Fit(s_book.Value, values, weights, hasEvenSigns: false, NibbleMultipliers.Unit, rows, signs, multipliers);
        if (scale == 0)
            return;
        BlockPieces.WriteHalf(block, 0, scale);
        signs.CopyTo(block[SignsAt..]);
        for (int run = 0; run < rows.Length; run++)
        {
            block[IndicesAt + run] = unchecked((byte)rows[run]);
            block[HighBitsAt + run / 4] |= (byte)(rows[run] >> 8 << (run % 4 * 2));
        }

        NibbleMultipliers.Pack(multipliers, block.Slice(MultipliersAt, 8));
    }
}

// The 16 scales of IQ2_XS and IQ2_S; the encoders' view of all three: d * unit * (2 * multiplier + 1).
internal static class NibbleMultipliers
{
    public const float Unit = 0.125f;

    // The highest multiplier with the highest level.
    public const float LargestMagnitude = BlockPieces.LargestHalf * Unit * (2 * BookFit.HighestMultiplier + 1) * 43;

    public static void Pack(ReadOnlySpan<byte> multipliers, Span<byte> bytes)
    {
        for (int index = 0; index < bytes.Length; index++)
            bytes[index] = (byte)(multipliers[2 * index] | multipliers[2 * index + 1] << 4);
    }

    public static void Unpack(float scale, ReadOnlySpan<byte> multipliers, Span<float> scales)
    {
        for (int index = 0; index < multipliers.Length; index++)
        {
            scales[2 * index] = scale * (0.5f + (multipliers[index] & 15)) * 0.25f;
            scales[2 * index + 1] = scale * (0.5f + (multipliers[index] >> 4)) * 0.25f;
        }
    }
}
