using System.Buffers.Binary;
using System.Runtime.Intrinsics;

namespace Qian.Kernels;

// The types of 1.6 and 1.75 bits: 256 values as 32 groups of 8, each a row of −1, 0, 1 from a book of 2048, all moved by
// an eighth up or down. Value = d * (2 * multiplier + 1) * (row value ± ⅛); unpacked, an eighth is the unit.

// d, 32 low bytes of indices, 8 words: four fields of 3 more index bits, the multiplier (3 bits), the shift's sign.
internal sealed class IQ1_S() : QuantFormat(WeightType.IQ1_S, "IQ1_S", 256, 50)
{
    private const int IndicesAt = 2;
    private const int WordsAt = 34;

    protected override void UnpackBlock(ReadOnlySpan<byte> block, Span<sbyte> quants, Span<float> scales, Span<float> offsets)
    {
        float scale = BlockPieces.ReadHalf(block, 0);
        for (int sub = 0; sub < 8; sub++)
        {
            int word = BinaryPrimitives.ReadUInt16LittleEndian(block[(WordsAt + 2 * sub)..]);
            scales.Slice(2 * sub, 2).Fill(scale * (2 * (word >> 12 & 7) + 1) * 0.125f);
            ReadOnlySpan<byte> indices = block.Slice(IndicesAt + 4 * sub, 4);
            ShiftedRows.Store(indices[0] | (word & 7) << 8, word >> 15, indices[1] | (word >> 3 & 7) << 8, word >> 15, quants, 32 * sub);
            ShiftedRows.Store(indices[2] | (word >> 6 & 7) << 8, word >> 15, indices[3] | (word >> 9 & 7) << 8, word >> 15, quants, 32 * sub + 16);
        }
    }
}

// 32 low bytes of indices, 16 bytes of two nibbles (3 more index bits and the shift's sign per group), 4 words of four
// multipliers of 3 bits, one per 16 values. The top nibbles of the words are d, lowest nibble first.
internal sealed class IQ1_M() : QuantFormat(WeightType.IQ1_M, "IQ1_M", 256, 56)
{
    private const int NibblesAt = 32;
    private const int WordsAt = 48;

    protected override void UnpackBlock(ReadOnlySpan<byte> block, Span<sbyte> quants, Span<float> scales, Span<float> offsets)
    {
        ulong words = BinaryPrimitives.ReadUInt64LittleEndian(block[WordsAt..]);
        ulong bits = (words >> 12 & 0xF) | (words >> 24 & 0xF0) | (words >> 36 & 0xF00) | (words >> 48 & 0xF000);
        float scale = (float)BitConverter.UInt16BitsToHalf((ushort)bits);
        for (int index = 0; index < 16; index++)
        {
            int multiplier = (int)(words >> (16 * (index / 4) + 3 * (index % 4)) & 7);
            scales[index] = scale * (2 * multiplier + 1) * 0.125f;
            int nibbles = block[NibblesAt + index];
            ShiftedRows.Store(
                block[2 * index] | (nibbles & 7) << 8, nibbles >> 3 & 1,
                block[2 * index + 1] | (nibbles >> 4 & 7) << 8, nibbles >> 7, quants, 16 * index);
        }
    }
}

// Two groups: 8 * row + 1, or − 1 where the shift is negative (1).
internal static class ShiftedRows
{
    private const ulong Ones = 0x0101010101010101;

    public static void Store(int first, int firstNegative, int second, int secondNegative, Span<sbyte> quants, int offset)
    {
        Vector128<byte> rows = Vector128.Create(CodeBooks.Iq1[first], CodeBooks.Iq1[second]).AsByte();
        Vector128<byte> shifts = Vector128.Create(Shift(firstNegative), Shift(secondNegative)).AsByte();
        BlockPieces.Store((rows << 3) + shifts, quants, offset);
    }

    // +1 in every byte, or −1: all ones.
    private static ulong Shift(int negative) => negative != 0 ? ulong.MaxValue : Ones;
}
