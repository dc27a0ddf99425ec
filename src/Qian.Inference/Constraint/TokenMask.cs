using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Qian.Inference.Constraint;

// Sets of token ids as bits, 64 to a word.
internal static class TokenMask
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Set(Span<ulong> mask, int id) => mask[id >> 6] |= 1UL << (id & 63);

    public static void Unite(Span<ulong> mask, ReadOnlySpan<ulong> more)
    {
        Span<Vector<ulong>> wide = MemoryMarshal.Cast<ulong, Vector<ulong>>(mask);
        ReadOnlySpan<Vector<ulong>> wideMore = MemoryMarshal.Cast<ulong, Vector<ulong>>(more);
        for (int i = 0; i < wide.Length; i++)
            wide[i] |= wideMore[i];
        for (int i = wide.Length * Vector<ulong>.Count; i < mask.Length; i++)
            mask[i] |= more[i];
    }
}
