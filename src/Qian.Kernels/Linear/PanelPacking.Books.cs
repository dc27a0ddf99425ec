using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Qian.Kernels;

// The code-book types stay indices: their point is to be small. Per group and row the low bytes of the indices make a dword (two in books of rows of four)
// and the signs another, bit s of byte c for column c of step s. What does not fill bytes lies in the head: multipliers as nibbles, and the
// high bits of the indices as words of 64 bits, one bit for every byte of the low ones.
internal static unsafe partial class PanelPacking
{
    // Of the bits of signs that even signs leave free.
    public const uint FreeSigns = 0xAA000000;

    private static void PackBooks(in PanelLayout layout, byte** sources, byte* head, byte* quants, int groupCount)
    {
        switch (layout.Type)
        {
            case WeightType.IQ1_S:
                PackBooks<Iq1SBook>(layout, sources, head, quants, groupCount);
                break;
            case WeightType.IQ1_M:
                PackBooks<Iq1MBook>(layout, sources, head, quants, groupCount);
                break;
            case WeightType.IQ2_XXS:
                PackBooks<Iq2XxsBook>(layout, sources, head, quants, groupCount);
                break;
            case WeightType.IQ2_XS:
                PackBooks<Iq2XsBook>(layout, sources, head, quants, groupCount);
                break;
            case WeightType.IQ2_S:
                PackBooks<Iq2SBook>(layout, sources, head, quants, groupCount);
                break;
            case WeightType.IQ3_XXS:
                PackBooks<Iq3XxsBook>(layout, sources, head, quants, groupCount);
                break;
            default:
                PackBooks<Iq3SBook>(layout, sources, head, quants, groupCount);
                break;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void PackBooks<T>(in PanelLayout layout, byte** sources, byte* head, byte* quants, int groupCount)
        where T : struct, IBook
    {
        NativeMemory.Clear(head, (nuint)layout.HeadBlockBytes);
        ulong* masks = (ulong*)(head + BookHead.MasksAt<T>());
        for (int r = 0; r < PanelLayout.PanelRows; r++)
        {
            ((ushort*)head)[r] = T.Scale(sources[r]);
            for (int g = 0; g < groupCount; g++)
            {
                BookGroup fields = T.Read(sources[r], g);
                uint* dwords = (uint*)(quants + g * layout.QuantGroupBytes) + r;
                ulong* words = masks + g * BookHead.MaskCount<T>();
                for (int plane = 0; plane < (T.IsShort ? 2 : 1); plane++, dwords += 16)
                {
                    ulong indices = plane == 0 ? fields.FirstIndices : fields.SecondIndices;
                    *dwords = Bytes(indices);
                    for (int bit = 8; bit < T.IndexBits && !T.HasEvenSigns; bit++)
                        *words++ |= Bits(indices >> bit) << 4 * r;
                }

                if (T.HasDeltas)
                    *words |= (ulong)fields.Deltas << 4 * r;
                if (T.HasSigns)
                    *dwords = T.HasEvenSigns ? Free(Spread(fields.Signs), T.IndexBits == 8 ? (uint)fields.FirstMultiplier : (uint)Bits(fields.FirstIndices >> 8)) : Spread(fields.Signs);
                if (T.HasHalves)
                    head[BookHead.NibblesAt + 16 * g + r] = (byte)(fields.FirstMultiplier | fields.SecondMultiplier << 4);
                else if (BookHead.HasNibbles<T>())
                    head[BookHead.NibblesAt + 16 * (g / 2) + r] |= (byte)(fields.FirstMultiplier << 4 * (g & 1));
            }
        }
    }

    // The low bytes of four words.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static uint Bytes(ulong words)
    {
        words &= 0x00ff_00ff_00ff_00ff;
        words = (words | words >> 8) & 0x0000_ffff_0000_ffff;
        return (uint)(words | words >> 16);
    }

    // The lowest bits of four words.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static ulong Bits(ulong words) => words & 1 | words >> 15 & 2 | words >> 30 & 4 | words >> 45 & 8;

    // Bit 4 s + c to bit s of byte c.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static uint Spread(uint bits)
    {
        uint planes = 0;
        for (int step = 0; step < 8; step++)
            planes |= ((bits >> 4 * step & 15) * 0x00204081 & 0x01010101) << step;
        return planes;
    }

    // Four bits into the free places.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static uint Free(uint signs, uint bits) => signs & ~FreeSigns | (bits & 1) << 25 | (bits & 2) << 26 | (bits & 4) << 27 | (bits & 8) << 28;
}

// Where things stand in a book's head: d [16 rows] as halves, multipliers, words of high index bits [group][plane][bit] and of moves.
internal static class BookHead
{
    public const int NibblesAt = 32;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool HasNibbles<T>() where T : struct, IBook => !(T.HasEvenSigns && T.IndexBits == 8);

    // Nibbles of two groups, or of the halves of one, share a byte.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static int MasksAt<T>() where T : struct, IBook => NibblesAt + (T.HasHalves ? 128 : HasNibbles<T>() ? 64 : 0);

    // Words per group.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static int MaskCount<T>() where T : struct, IBook => (T.HasEvenSigns ? 0 : (T.IndexBits - 8) * (T.IsShort ? 2 : 1)) + (T.HasDeltas ? 1 : 0);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static int Bytes<T>() where T : struct, IBook => MasksAt<T>() + 8 * PanelLayout.BlockGroups * MaskCount<T>();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static int GroupBytes<T>() where T : struct, IBook => (T.IsShort ? 2 : 1) * PanelLayout.StepBytes + (T.HasSigns ? PanelLayout.StepBytes : 0);
}
