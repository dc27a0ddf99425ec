using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Qian.Kernels;

// The lookup in registers: tables of 128 bytes at a time, the further index bits choosing between them.
internal static unsafe partial class PanelUnpackBooks
{
    // Where the codes of four columns begin in two rows' dwords, for the first run: 2 bits apart, or 1 bit apart and two places lower.
    private const ulong PairsAt = 0x2624_2220_0604_0200, ThirdsAt = 0x2120_1f1e_0100_3f3e;

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void GroupsInRegisters<T>(ulong* masks, byte* quants, int groupCount, byte* destination)
        where T : struct, IBook
    {
        byte* codes = T.Table.Codes;
        Vector256<byte> two = Vector256.Create(T.Table.Levels, T.Table.Levels);
        Vector512<byte> levels = Vector512.Create(two, two);
        Vector512<byte> twice = Vector512.Create(unchecked((byte)(2 * T.Lift)));
        Vector512<byte> pair = Vector512.Create((byte)3), third = Vector512.Create((byte)4), eight = Vector512.Create((byte)8);
        const int planes = 2;
        for (int g = 0; g < groupCount; g++, quants += BookHead.GroupBytes<T>(), masks += BookHead.MaskCount<T>())
        {
            for (int at = 0; at < BookHead.GroupBytes<T>(); at += 64)
                Sse.Prefetch0(quants + PanelLayout.PrefetchBytes + at);
            Vector512<byte> signs = default, ninths = default;
            if (T.HasSigns)
                signs = Vector512.Load(quants + (T.IsShort ? planes : 1) * 64);
            if (T.HasEvenSigns)
            {
                if (T.IndexBits == 9)
                    ninths = Ninths(signs);
                signs = WithEighths(signs.AsUInt32()).AsByte();
            }

            Vector512<byte> moves = default;
            if (T.HasDeltas)
                moves = Spread(masks[T.IndexBits - 8]) | Vector512<byte>.One;
            Vector512<byte> bit = Vector512<byte>.One;
            for (int plane = 0; plane < (T.IsShort ? planes : 1); plane++)
            {
                Vector512<byte> indices = Vector512.Load(quants + 64 * plane);
                Lookup<T>(codes, indices, ninths, masks + plane * (T.IndexBits - 8), out Vector512<byte> first, out Vector512<byte> second);
                Vector512<byte> pairsAt = Vector512.Create(PairsAt).AsByte(), thirdsAt = Vector512.Create(ThirdsAt).AsByte();
                Vector512<byte> runBytes = Vector512.Create(0u, 0x04040404, 0x08080808, 0x0c0c0c0c, 0, 0x04040404, 0x08080808, 0x0c0c0c0c, 0, 0x04040404, 0x08080808, 0x0c0c0c0c, 0, 0x04040404, 0x08080808, 0x0c0c0c0c).AsByte();
                for (int run = 0; run < 4; run++, pairsAt += eight)
                {
                    Vector512<byte> code = Avx512Vbmi.MultiShift(pairsAt, first.AsUInt64()) & pair;
                    if (T.IsShort)
                    {
                        code |= Avx512Vbmi.MultiShift(thirdsAt, second.AsUInt64()) & third;
                        thirdsAt += eight;
                    }

                    Vector512<byte> move = default;
                    if (T.HasDeltas)
                    {
                        move = Avx512BW.Shuffle(moves, runBytes);
                        runBytes += Vector512<byte>.One;
                    }

                    Step<T>(code, levels, move, signs, bit, twice).Store(destination);
                    destination += 64;
                    bit += bit;
                    if (T.IsShort)
                        continue;
                    code = Avx512Vbmi.MultiShift(pairsAt, second.AsUInt64()) & pair;
                    Step<T>(code, levels, move, signs, bit, twice).Store(destination);
                    destination += 64;
                    bit += bit;
                }
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<byte> Step<T>(Vector512<byte> code, Vector512<byte> levels, Vector512<byte> move, Vector512<byte> signs, Vector512<byte> bit, Vector512<byte> twice)
        where T : struct, IBook
    {
        Vector512<byte> value = Avx512BW.Shuffle(levels, code);
        if (T.HasDeltas)
            value += move;
        if (T.HasSigns)
            value = Vector512.ConditionalSelect(Vector512.Equals(signs & bit, Vector512<byte>.Zero), value, twice - value);
        return value;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Lookup<T>(byte* codes, Vector512<byte> indices, Vector512<byte> ninths, ulong* masks, out Vector512<byte> first, out Vector512<byte> second)
        where T : struct, IBook
    {
        Vector512<byte> eighth = Vector512.LessThan(indices.AsSByte(), Vector512<sbyte>.Zero).AsByte();
        if (T.IndexBits == 8)
        {
            first = Of256(codes, indices, eighth);
            second = Of256(codes + 256, indices, eighth);
            return;
        }

        Vector512<byte> ninth = T.HasEvenSigns ? ninths : Spread(masks[0]);
        if (T.IndexBits == 9)
        {
            first = Of512(codes, indices, eighth, ninth);
            second = Of512(codes + 512, indices, eighth, ninth);
            return;
        }

        Vector512<byte> tenth = Spread(masks[1]);
        if (T.IndexBits == 10)
        {
            first = Of1024(codes, indices, eighth, ninth, tenth);
            second = Of1024(codes + 1024, indices, eighth, ninth, tenth);
            return;
        }

        Vector512<byte> eleventh = Spread(masks[2]);
        first = Vector512.ConditionalSelect(eleventh, Of1024(codes + 1024, indices, eighth, ninth, tenth), Of1024(codes, indices, eighth, ninth, tenth));
        codes += 2048;
        second = Vector512.ConditionalSelect(eleventh, Of1024(codes + 1024, indices, eighth, ninth, tenth), Of1024(codes, indices, eighth, ninth, tenth));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<byte> Of128(byte* table, Vector512<byte> indices) =>
        Avx512Vbmi.PermuteVar64x8x2(Vector512.Load(table), indices, Vector512.Load(table + 64));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<byte> Of256(byte* table, Vector512<byte> indices, Vector512<byte> eighth) =>
        Vector512.ConditionalSelect(eighth, Of128(table + 128, indices), Of128(table, indices));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<byte> Of512(byte* table, Vector512<byte> indices, Vector512<byte> eighth, Vector512<byte> ninth) =>
        Vector512.ConditionalSelect(ninth, Of256(table + 256, indices, eighth), Of256(table, indices, eighth));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<byte> Of1024(byte* table, Vector512<byte> indices, Vector512<byte> eighth, Vector512<byte> ninth, Vector512<byte> tenth) =>
        Vector512.ConditionalSelect(tenth, Of512(table + 512, indices, eighth, ninth), Of512(table, indices, eighth, ninth));

    // Byte i all ones where bit i is set.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<byte> Spread(ulong bits)
    {
        Vector512<byte> bytes = Avx512BW.Shuffle(
            Vector512.Create(bits).AsByte(),
            Vector512.Create(0ul, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303, 0x0404040404040404, 0x0505050505050505, 0x0606060606060606, 0x0707070707070707).AsByte());
        Vector512<byte> own = Vector512.Create(0x8040201008040201ul).AsByte();
        return Vector512.Equals(bytes & own, own);
    }

    // The free places of a row's signs, a byte for each of its runs.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<byte> Ninths(Vector512<byte> signs)
    {
        Vector512<byte> last = Avx512BW.Shuffle(signs, Vector512.Create(0x03030303u, 0x07070707, 0x0b0b0b0b, 0x0f0f0f0f, 0x03030303, 0x07070707, 0x0b0b0b0b, 0x0f0f0f0f, 0x03030303, 0x07070707, 0x0b0b0b0b, 0x0f0f0f0f, 0x03030303, 0x07070707, 0x0b0b0b0b, 0x0f0f0f0f).AsByte());
        Vector512<byte> own = Vector512.Create(0x80200802u).AsByte();
        return Vector512.Equals(last & own, own);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<uint> WithEighths(Vector512<uint> signs)
    {
        signs &= Vector512.Create(~PanelPacking.FreeSigns);
        Vector512<uint> parity = signs ^ signs >> 16;
        parity ^= parity >> 8;
        parity ^= parity >> 1;
        return signs | (parity & Vector512.Create(0x55u)) << 25;
    }
}
