using System.Numerics;
using System.Runtime.CompilerServices;

namespace Qian.Kernels;

/// <summary>32 columns of one row of a code-book type, as their fields: what packing takes from the file and <see cref="PanelRow"/> from the panel.</summary>
internal struct BookGroup
{
    // Indices of 8 runs of 4 columns, or of 4 runs of 8: 16 bits each.
    public ulong FirstIndices, SecondIndices;

    // Bit k: column k is negative.
    public uint Signs;

    // Bit j: the 8 columns of run j are moved down instead of up.
    public int Deltas;

    // Of the first and the second 16 columns.
    public int FirstMultiplier, SecondMultiplier;
}

/// <summary>
/// What the unpackers know of a type whose values are rows of a code book. Constants to the JIT, so each type has code of its own.
/// Value = d * (2 * multiplier + 1) * Unit * row value, signed or moved by an eighth.
/// </summary>
internal unsafe interface IBook
{
    static abstract BookTable Table { get; }

    // Rows of 4 values, else of 8.
    static abstract bool IsShort { get; }

    static abstract int IndexBits { get; }

    static abstract bool HasSigns { get; }

    // The number of negative values of 8 is even, so that their last sign says nothing: its bit holds the multiplier (8 index bits) or the ninth index bit.
    static abstract bool HasEvenSigns { get; }

    // Runs of 8 moved up or down by 1 each.
    static abstract bool HasDeltas { get; }

    // A multiplier per 16 columns, else per 32.
    static abstract bool HasHalves { get; }

    // Added to the values to make them unsigned.
    static abstract int Lift { get; }

    static abstract float Unit { get; }

    // The bits of d in a block of the file.
    static abstract ushort Scale(byte* block);

    static abstract BookGroup Read(byte* block, int group);
}

internal readonly unsafe struct Iq2XxsBook : IBook
{
    private static readonly BookTable s_table = new(CodeBooks.Iq2Xxs, 8, 1, 128);

    public static BookTable Table => s_table;

    public static bool IsShort => false;

    public static int IndexBits => 8;

    public static bool HasSigns => true;

    public static bool HasEvenSigns => true;

    public static bool HasDeltas => false;

    public static bool HasHalves => false;

    public static int Lift => 128;

    public static float Unit => 0.125f;

    public static ushort Scale(byte* block) => *(ushort*)block;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static BookGroup Read(byte* block, int group)
    {
        byte* part = block + 2 + 8 * group;
        uint word = *(uint*)(part + 4);
        return new BookGroup
        {
            FirstIndices = BookFields.Widen(*(uint*)part),
            Signs = BookFields.EvenSigns(word),
            FirstMultiplier = (int)(word >> 28),
            SecondMultiplier = (int)(word >> 28),
        };
    }
}

internal readonly unsafe struct Iq2XsBook : IBook
{
    private static readonly BookTable s_table = new(CodeBooks.Iq2Xs, 8, 1, 128);

    public static BookTable Table => s_table;

    public static bool IsShort => false;

    public static int IndexBits => 9;

    public static bool HasSigns => true;

    public static bool HasEvenSigns => true;

    public static bool HasDeltas => false;

    public static bool HasHalves => true;

    public static int Lift => 128;

    public static float Unit => 0.125f;

    public static ushort Scale(byte* block) => *(ushort*)block;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static BookGroup Read(byte* block, int group)
    {
        ulong words = *(ulong*)(block + 2 + 8 * group);
        ulong sevens = words >> 9 & 0x007f_007f_007f_007f;
        return new BookGroup
        {
            FirstIndices = words & 0x01ff_01ff_01ff_01ff,
            Signs = BookFields.EvenSigns((uint)(sevens & 127 | sevens >> 9 & 127 << 7 | sevens >> 18 & 127 << 14 | sevens >> 27 & 127 << 21)),
            FirstMultiplier = block[66 + group] & 15,
            SecondMultiplier = block[66 + group] >> 4,
        };
    }
}

internal readonly unsafe struct Iq2SBook : IBook
{
    private static readonly BookTable s_table = new(CodeBooks.Iq2S, 8, 1, 128);

    public static BookTable Table => s_table;

    public static bool IsShort => false;

    public static int IndexBits => 10;

    public static bool HasSigns => true;

    public static bool HasEvenSigns => false;

    public static bool HasDeltas => false;

    public static bool HasHalves => true;

    public static int Lift => 128;

    public static float Unit => 0.125f;

    public static ushort Scale(byte* block) => *(ushort*)block;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static BookGroup Read(byte* block, int group)
    {
        ulong high = block[66 + group];
        return new BookGroup
        {
            FirstIndices = BookFields.Widen(*(uint*)(block + 2 + 4 * group)) | (high & 3 | (high & 12) << 14 | (high & 48) << 28 | (high & 192) << 42) << 8,
            Signs = *(uint*)(block + 34 + 4 * group),
            FirstMultiplier = block[74 + group] & 15,
            SecondMultiplier = block[74 + group] >> 4,
        };
    }
}

internal readonly unsafe struct Iq3XxsBook : IBook
{
    private static readonly BookTable s_table = new(Array.ConvertAll(CodeBooks.Iq3Xxs, row => (ulong)row), 4, 1, 128);

    public static BookTable Table => s_table;

    public static bool IsShort => true;

    public static int IndexBits => 8;

    public static bool HasSigns => true;

    public static bool HasEvenSigns => true;

    public static bool HasDeltas => false;

    public static bool HasHalves => false;

    public static int Lift => 128;

    public static float Unit => 0.25f;

    public static ushort Scale(byte* block) => *(ushort*)block;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static BookGroup Read(byte* block, int group)
    {
        uint* indices = (uint*)(block + 2 + 8 * group);
        uint word = *(uint*)(block + 66 + 4 * group);
        return new BookGroup
        {
            FirstIndices = BookFields.Widen(indices[0]),
            SecondIndices = BookFields.Widen(indices[1]),
            Signs = BookFields.EvenSigns(word),
            FirstMultiplier = (int)(word >> 28),
            SecondMultiplier = (int)(word >> 28),
        };
    }
}

internal readonly unsafe struct Iq3SBook : IBook
{
    private static readonly BookTable s_table = new(Array.ConvertAll(CodeBooks.Iq3S, row => (ulong)row), 4, 1, 16);

    public static BookTable Table => s_table;

    public static bool IsShort => true;

    public static int IndexBits => 9;

    public static bool HasSigns => true;

    public static bool HasEvenSigns => false;

    public static bool HasDeltas => false;

    public static bool HasHalves => false;

    // Values up to 15 in magnitude: five bits.
    public static int Lift => 16;

    public static float Unit => 1;

    public static ushort Scale(byte* block) => *(ushort*)block;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static BookGroup Read(byte* block, int group)
    {
        uint* indices = (uint*)(block + 2 + 8 * group);
        int ninth = block[66 + group];
        int multiplier = block[106 + group / 2] >> 4 * (group & 1) & 15;
        return new BookGroup
        {
            FirstIndices = BookFields.Widen(indices[0]) | BookFields.Ninths(ninth & 15),
            SecondIndices = BookFields.Widen(indices[1]) | BookFields.Ninths(ninth >> 4),
            Signs = *(uint*)(block + 74 + 4 * group),
            FirstMultiplier = multiplier,
            SecondMultiplier = multiplier,
        };
    }
}

// The move by an eighth is the same for 32 columns, so that it enters their offset: values are 0, 1, 2 here.
internal readonly unsafe struct Iq1SBook : IBook
{
    private static readonly BookTable s_table = new(CodeBooks.Iq1, 8, 1, 1);

    public static BookTable Table => s_table;

    public static bool IsShort => false;

    public static int IndexBits => 11;

    public static bool HasSigns => false;

    public static bool HasEvenSigns => false;

    public static bool HasDeltas => false;

    public static bool HasHalves => false;

    public static int Lift => 1;

    public static float Unit => 1;

    public static ushort Scale(byte* block) => *(ushort*)block;

    // The multiplier's fourth bit is the direction of the move.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static BookGroup Read(byte* block, int group)
    {
        ulong word = *(ushort*)(block + 34 + 2 * group);
        return new BookGroup
        {
            FirstIndices = BookFields.Widen(*(uint*)(block + 2 + 4 * group)) | (word & 7 | (word & 7 << 3) << 13 | (word & 7 << 6) << 26 | (word & 7 << 9) << 39) << 8,
            FirstMultiplier = (int)(word >> 12),
            SecondMultiplier = (int)(word >> 12),
        };
    }
}

// Eighths are the unit; values lie in -9..9, lifted as those of Q6_K are.
internal readonly unsafe struct Iq1MBook : IBook
{
    private static readonly BookTable s_table = new(CodeBooks.Iq1, 8, 8, ActivationTiles.Bias);

    public static BookTable Table => s_table;

    public static bool IsShort => false;

    public static int IndexBits => 11;

    public static bool HasSigns => false;

    public static bool HasEvenSigns => false;

    public static bool HasDeltas => true;

    public static bool HasHalves => true;

    public static int Lift => ActivationTiles.Bias;

    public static float Unit => 0.125f;

    public static ushort Scale(byte* block)
    {
        ulong words = *(ulong*)(block + 48);
        return (ushort)(words >> 12 & 0xF | words >> 24 & 0xF0 | words >> 36 & 0xF00 | words >> 48 & 0xF000);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static BookGroup Read(byte* block, int group)
    {
        ulong words = *(ulong*)(block + 48);
        ulong nibbles = *(ushort*)(block + 32 + 2 * group);
        int shift = 16 * (group / 2) + 6 * (group & 1);
        return new BookGroup
        {
            FirstIndices = BookFields.Widen(*(uint*)(block + 4 * group)) | (nibbles & 7 | (nibbles & 7 << 4) << 12 | (nibbles & 7 << 8) << 24 | (nibbles & 7 << 12) << 36) << 8,
            Deltas = (int)(nibbles >> 3 & 1 | nibbles >> 6 & 2 | nibbles >> 9 & 4 | nibbles >> 12 & 8),
            FirstMultiplier = (int)(words >> shift & 7),
            SecondMultiplier = (int)(words >> shift + 3 & 7),
        };
    }
}

internal static class BookFields
{
    // Four bytes to four words.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Widen(uint bytes)
    {
        ulong words = (bytes | (ulong)bytes << 16) & 0x0000_ffff_0000_ffff;
        return (words | words << 8) & 0x00ff_00ff_00ff_00ff;
    }

    // Four bits to bit 8 of four words.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Ninths(int bits)
    {
        ulong b = (ulong)bits;
        return (b & 1) << 8 | (b & 2) << 23 | (b & 4) << 38 | (b & 8) << 53;
    }

    // Four fields of seven signs to four of eight.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static uint EvenSigns(uint word)
    {
        uint signs = 0;
        for (int run = 0; run < 4; run++)
        {
            uint seven = word >> 7 * run & 127;
            signs |= (seven | ((uint)BitOperations.PopCount(seven) & 1) << 7) << 8 * run;
        }

        return signs;
    }
}
