using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace Qian.Kernels;

/// <summary>
/// A code book in the two forms that unpacking wants, in memory that does not move and is never given back: a few KiB per type in use.
/// Where bytes can be looked up in registers, a row is two bytes of small codes (in two tables, so that either is one lookup) and
/// a table of 16 says what a code stands for; where they cannot, a row is its values as bytes, to be gathered.
/// </summary>
internal sealed unsafe class BookTable
{
    // Values are factor * value + lift, without signs.
    public BookTable(ulong[] rows, int rowValues, int factor, int lift)
    {
        int count = rows.Length;
        Rows = (byte*)NativeMemory.AlignedAlloc((nuint)(count * rowValues), 64);
        Codes = (byte*)NativeMemory.AlignedAlloc((nuint)(2 * count), 64);
        var levels = new SortedSet<sbyte>();
        for (int i = 0; i < count * rowValues; i++)
            levels.Add(Value(rows, rowValues, i));
        sbyte[] sorted = [.. levels];
        if (sorted.Length > (rowValues == 4 ? 8 : 4))
            throw new InvalidOperationException($"A book of rows of {rowValues} has {sorted.Length} levels.");
        Span<byte> table = stackalloc byte[16];
        table.Clear();
        for (int code = 0; code < sorted.Length; code++)
            table[code] = (byte)(factor * sorted[code] + lift);
        Levels = Vector128.Create<byte>(table);

        new Span<byte>(Codes, 2 * count).Clear();
        for (int i = 0; i < count * rowValues; i++)
        {
            sbyte value = Value(rows, rowValues, i);
            int code = Array.IndexOf(sorted, value), row = i / rowValues, column = i % 4;
            Rows[i] = (byte)(factor * value + lift);
            bool isSecond = i % rowValues >= 4;
            Codes[(isSecond ? count : 0) + row] |= (byte)((code & 3) << 2 * column);
            if (rowValues == 4)
                Codes[count + row] |= (byte)(code >> 2 << column);
        }
    }

    // [row][value].
    public byte* Rows { get; }

    // [row]: bit pairs of the first four values; then [row]: bit pairs of the second four, or the third bits of four.
    public byte* Codes { get; }

    public Vector128<byte> Levels { get; }

    private static sbyte Value(ulong[] rows, int rowValues, int index) => unchecked((sbyte)(rows[index / rowValues] >> 8 * (index % rowValues)));
}
