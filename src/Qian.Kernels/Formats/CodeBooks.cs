using System.Buffers.Binary;
using System.Numerics;
using System.Runtime.Intrinsics;

namespace Qian.Kernels;

// The code books of the IQ1, IQ2 and IQ3 types, unpacked from an embedded resource (its layout and origin: CodeBooks.txt)
// into one integer per row, whose bytes are the row's values, first value lowest; and the sign patterns as byte masks.
// Not known here: how a block finds its rows and signs.
internal static class CodeBooks
{
    private const string ResourceName = "Qian.Kernels.Formats.CodeBooks.bin";
    private const int MagicBytes = 8;

    private static readonly ulong[][] s_books = Load();

    // Rows of 8 signed bytes −1, 0, 1: 2048 of them.
    public static readonly ulong[] Iq1 = s_books[0];

    // Rows of 8 bytes.
    public static readonly ulong[] Iq2Xxs = s_books[1];
    public static readonly ulong[] Iq2Xs = s_books[2];
    public static readonly ulong[] Iq2S = s_books[3];

    // Rows of 4 bytes.
    public static readonly uint[] Iq3Xxs = Array.ConvertAll(s_books[4], row => (uint)row);
    public static readonly uint[] Iq3S = Array.ConvertAll(s_books[5], row => (uint)row);

    // Byte j of entry i is all ones where bit j of i is set.
    private static readonly ulong[] s_masks = Masks();

    // The mask of eight signs stored as they are.
    public static ulong Signs(int bits) => s_masks[bits & 255];

    // The mask of seven stored signs; the eighth makes the number of negative values even.
    public static ulong EvenSigns(uint bits)
    {
        uint seven = bits & 127;
        return s_masks[seven | (uint)(BitOperations.PopCount(seven) & 1) << 7];
    }

    // Two rows of eight, negated where the masks say so: x ^ −1 − −1 = −x.
    public static void Store(ulong first, ulong second, ulong firstSigns, ulong secondSigns, Span<sbyte> quants, int offset)
    {
        Vector128<byte> signs = Vector128.Create(firstSigns, secondSigns).AsByte();
        BlockPieces.Store((Vector128.Create(first, second).AsByte() ^ signs) - signs, quants, offset);
    }

    private static ulong[][] Load()
    {
        using Stream stream = typeof(CodeBooks).Assembly.GetManifestResourceStream(ResourceName)
            ?? throw new InvalidOperationException($"{ResourceName} is missing from the assembly.");
        var bytes = new byte[stream.Length];
        stream.ReadExactly(bytes);
        int position = MagicBytes;
        var books = new ulong[bytes[position++]][];
        for (int book = 0; book < books.Length; book++)
        {
            int rowCount = BinaryPrimitives.ReadUInt16LittleEndian(bytes.AsSpan(position));
            int rowValues = bytes[position + 2];
            int bitCount = bytes[position + 3];
            ReadOnlySpan<byte> levels = bytes.AsSpan(position + 4, 1 << bitCount);
            position += 4 + levels.Length;
            var rows = new ulong[rowCount];
            for (int index = 0; index < rowCount * rowValues; index++)
            {
                int code = 0;
                for (int bit = 0; bit < bitCount; bit++)
                {
                    int at = index * bitCount + bit;
                    code |= ((bytes[position + at / 8] >> (at % 8)) & 1) << bit;
                }

                rows[index / rowValues] |= (ulong)levels[code] << (8 * (index % rowValues));
            }

            books[book] = rows;
            position += rowCount * rowValues * bitCount / 8;
        }

        return books;
    }

    private static ulong[] Masks()
    {
        var masks = new ulong[256];
        for (int index = 0; index < masks.Length; index++)
        {
            for (int bit = 0; bit < 8; bit++)
            {
                if ((index >> bit & 1) != 0)
                    masks[index] |= 0xFFUL << (8 * bit);
            }
        }

        return masks;
    }
}
