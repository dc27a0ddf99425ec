namespace Qian.Inference.Constraint;

// A range of code points as the fewest sequences of byte ranges whose products are exactly its UTF-8: split where the length of the encoding
// changes and where a continuation byte would not run through all of 80..BF.
internal static class Utf8Sequences
{
    private static readonly int[] s_lastOfLength = [0x7F, 0x7FF, 0xFFFF, CodePointSet.Last];

    public static void Add(CodePointSet set, List<(byte Low, byte High)[]> sequences)
    {
        foreach ((int low, int high) in set.Ranges)
            Add(low, high, sequences);
    }

    private static void Add(int low, int high, List<(byte Low, byte High)[]> sequences)
    {
        foreach (int last in s_lastOfLength)
        {
            if (low <= last && high > last)
            {
                Add(low, last, sequences);
                low = last + 1;
            }
        }

        int length = LengthOf(low);
        for (int i = 1; i < length; i++)
        {
            int mask = (1 << (6 * i)) - 1;
            if ((low & ~mask) == (high & ~mask))
                continue;
            if ((low & mask) != 0)
            {
                Add(low, low | mask, sequences);
                Add((low | mask) + 1, high, sequences);
                return;
            }

            if ((high & mask) != mask)
            {
                Add(low, (high & ~mask) - 1, sequences);
                Add(high & ~mask, high, sequences);
                return;
            }
        }

        var sequence = new (byte, byte)[length];
        for (int i = 0; i < length; i++)
            sequence[i] = (ByteOf(low, i, length), ByteOf(high, i, length));
        sequences.Add(sequence);
    }

    private static int LengthOf(int value) => value <= 0x7F ? 1 : value <= 0x7FF ? 2 : value <= 0xFFFF ? 3 : 4;

    private static byte ByteOf(int value, int index, int length)
    {
        int bits = value >> (6 * (length - 1 - index));
        if (index > 0)
            return (byte)(0x80 | (bits & 0x3F));
        return (byte)(length switch
        {
            1 => bits,
            2 => 0xC0 | bits,
            3 => 0xE0 | bits,
            _ => 0xF0 | bits,
        });
    }
}
