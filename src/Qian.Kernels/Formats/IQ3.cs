using System.Buffers.Binary;

namespace Qian.Kernels;

// The types of 3 to 3.4 bits: as IQ2, but with rows of four values, two of which share a byte of signs.

// d, 64 row indices, then 8 words: four fields of 7 signs, and on top the multiplier of 32 values.
// Value = d * (½ + multiplier) / 2 * row value * sign.
internal sealed class IQ3_XXS() : QuantFormat(WeightType.IQ3_XXS, "IQ3_XXS", 256, 98)
{
    private const int IndicesAt = 2;
    private const int WordsAt = 66;
    private const float Unit = 0.25f;

    private static readonly Lazy<BookSearch> s_book = new(() => new BookSearch(Array.ConvertAll(CodeBooks.Iq3Xxs, row => (ulong)row), 4));

    // The highest multiplier with the highest level.
    public override float LargestMagnitude => BlockPieces.LargestHalf * Unit * (2 * BookFit.HighestMultiplier + 1) * 62;

    protected override void UnpackBlock(ReadOnlySpan<byte> block, Span<sbyte> quants, Span<float> scales, Span<float> offsets)
    {
        float scale = BlockPieces.ReadHalf(block, 0);
        for (int sub = 0; sub < 8; sub++)
        {
            uint word = BinaryPrimitives.ReadUInt32LittleEndian(block[(WordsAt + 4 * sub)..]);
            scales.Slice(2 * sub, 2).Fill(scale * (0.5f + (word >> 28)) * 0.5f);
            for (int pair = 0; pair < 2; pair++)
            {
                ReadOnlySpan<byte> indices = block.Slice(IndicesAt + 8 * sub + 4 * pair, 4);
                CodeBooks.Store(
                    CodeBooks.Iq3Xxs[indices[0]] | (ulong)CodeBooks.Iq3Xxs[indices[1]] << 32,
                    CodeBooks.Iq3Xxs[indices[2]] | (ulong)CodeBooks.Iq3Xxs[indices[3]] << 32,
                    CodeBooks.EvenSigns(word >> (14 * pair)), CodeBooks.EvenSigns(word >> (14 * pair + 7)),
                    quants, 32 * sub + 16 * pair);
            }
        }
    }

    protected override void EncodeBlock(ReadOnlySpan<float> values, ReadOnlySpan<float> weights, bool fast, Span<byte> block)
    {
        Span<ushort> rows = stackalloc ushort[64];
        Span<byte> signs = stackalloc byte[32], multipliers = stackalloc byte[8];
        float scale = BookFit.Fit(s_book.Value, values, weights, hasEvenSigns: true, Unit, rows, signs, multipliers);
        if (scale == 0)
            return;
        BlockPieces.WriteHalf(block, 0, scale);
        for (int run = 0; run < rows.Length; run++)
            block[IndicesAt + run] = (byte)rows[run];
        for (int sub = 0; sub < multipliers.Length; sub++)
        {
            uint word = (uint)multipliers[sub] << 28;
            for (int eight = 0; eight < 4; eight++)
                word |= (uint)(signs[4 * sub + eight] & 127) << (7 * eight);
            BinaryPrimitives.WriteUInt32LittleEndian(block[(WordsAt + 4 * sub)..], word);
        }
    }
}

// d, 64 low bytes of indices, 8 bytes with their ninth bits, 32 bytes of signs, 4 bytes of multipliers: a nibble for 32 values.
// Value = d * (1 + 2 * multiplier) * row value * sign.
internal sealed class IQ3_S() : QuantFormat(WeightType.IQ3_S, "IQ3_S", 256, 110)
{
    private const int IndicesAt = 2;
    private const int NinthBitsAt = 66;
    private const int SignsAt = 74;
    private const int MultipliersAt = 106;

    private static readonly Lazy<BookSearch> s_book = new(() => new BookSearch(Array.ConvertAll(CodeBooks.Iq3S, row => (ulong)row), 4));

    // The highest multiplier with the highest level.
    public override float LargestMagnitude => BlockPieces.LargestHalf * (2 * BookFit.HighestMultiplier + 1) * 15;

    protected override void UnpackBlock(ReadOnlySpan<byte> block, Span<sbyte> quants, Span<float> scales, Span<float> offsets)
    {
        float scale = BlockPieces.ReadHalf(block, 0);
        for (int index = 0; index < 16; index++)
        {
            int sub = index / 2;
            scales[index] = scale * (1 + 2 * (block[MultipliersAt + sub / 2] >> (sub % 2 * 4) & 15));
            ReadOnlySpan<byte> indices = block.Slice(IndicesAt + 4 * index, 4);
            int ninth = block[NinthBitsAt + sub] >> (index % 2 * 4);
            CodeBooks.Store(
                Row(indices[0], ninth) | Row(indices[1], ninth >> 1) << 32,
                Row(indices[2], ninth >> 2) | Row(indices[3], ninth >> 3) << 32,
                CodeBooks.Signs(block[SignsAt + 2 * index]), CodeBooks.Signs(block[SignsAt + 2 * index + 1]), quants, 16 * index);
        }
    }

    protected override void EncodeBlock(ReadOnlySpan<float> values, ReadOnlySpan<float> weights, bool fast, Span<byte> block)
    {
        Span<ushort> rows = stackalloc ushort[64];
        Span<byte> signs = stackalloc byte[32], multipliers = stackalloc byte[8];
        float scale = BookFit.Fit(s_book.Value, values, weights, hasEvenSigns: false, unit: 1, rows, signs, multipliers);
        if (scale == 0)
            return;
        BlockPieces.WriteHalf(block, 0, scale);
        signs.CopyTo(block[SignsAt..]);
        for (int run = 0; run < rows.Length; run++)
        {
            block[IndicesAt + run] = unchecked((byte)rows[run]);
            block[NinthBitsAt + run / 8] |= (byte)(rows[run] >> 8 << (run % 8));
        }

        for (int sub = 0; sub < multipliers.Length; sub++)
            block[MultipliersAt + sub / 2] |= (byte)(multipliers[sub] << (sub % 2 * 4));
    }

    private static ulong Row(byte low, int ninth) => CodeBooks.Iq3S[low | (ninth & 1) << 8];
}
