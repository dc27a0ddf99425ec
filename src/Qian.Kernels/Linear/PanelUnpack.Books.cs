using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Qian.Kernels;

/// <summary>
/// Code-book types from the packed layout to <see cref="UnpackedBlock"/>. Where the CPU looks bytes up in registers (VBMI) a row of the book is two
/// bytes of small codes: 64 indices, 16 rows' four runs each, become codes at once, and one shuffle of bits per step spreads the codes
/// of four columns to their bytes. Elsewhere the rows are gathered from memory, 8 at a time. Both give the same bytes.
/// </summary>
internal static unsafe partial class PanelUnpackBooks
{
    public static bool LooksUpInRegisters => Avx512Vbmi.IsSupported;

    // For the kernels in C#: whole bytes become planes of nibbles where their kind wants these.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Unpack(bool inRegisters, in WeightRows weight, int panel, int blockIndex, int groupCount, in UnpackedBlock block)
    {
        DotKind kind = weight.DotKind;
        bool hasPlanes = kind is DotKind.U8 or DotKind.U8By16;
        // The bytes stand in the second half of what the planes will fill, so that a group is read before it is overwritten.
        byte* bytes = block.Quants + (hasPlanes ? PanelLayout.BlockColumns * PanelLayout.PanelRows : 0);
        Bytes(inRegisters, weight, panel, blockIndex, groupCount, block, bytes);
        if (hasPlanes)
            Split(bytes, groupCount, kind == DotKind.U8 ? 8 : 4, block.Quants);
    }

    // Scales and offsets to the block, a byte per weight to `destination`.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Bytes(bool inRegisters, in WeightRows weight, int panel, int blockIndex, int groupCount, in UnpackedBlock block, byte* destination)
    {
        PanelLayout layout = weight.Layout;
        byte* start = weight.Data + panel * layout.PanelBytes;
        byte* head = start + (long)blockIndex * layout.HeadBlockBytes;
        byte* quants = start + layout.HeadBytes + (long)blockIndex * PanelLayout.BlockGroups * layout.QuantGroupBytes;
        switch (layout.Type)
        {
            case WeightType.IQ1_S:
                MovedScales(head, groupCount, block);
                Groups<Iq1SBook>(inRegisters, head, quants, groupCount, destination);
                break;
            case WeightType.IQ1_M:
                RunScales(head, groupCount, block);
                Groups<Iq1MBook>(inRegisters, head, quants, groupCount, destination);
                break;
            case WeightType.IQ2_XXS:
                ScalesInSigns<Iq2XxsBook>(head, quants + PanelLayout.StepBytes, groupCount, block);
                Groups<Iq2XxsBook>(inRegisters, head, quants, groupCount, destination);
                break;
            case WeightType.IQ2_XS:
                ScalesOfHalves<Iq2XsBook>(head, groupCount, block);
                Groups<Iq2XsBook>(inRegisters, head, quants, groupCount, destination);
                break;
            case WeightType.IQ2_S:
                ScalesOfHalves<Iq2SBook>(head, groupCount, block);
                Groups<Iq2SBook>(inRegisters, head, quants, groupCount, destination);
                break;
            case WeightType.IQ3_XXS:
                ScalesInSigns<Iq3XxsBook>(head, quants + 2 * PanelLayout.StepBytes, groupCount, block);
                Groups<Iq3XxsBook>(inRegisters, head, quants, groupCount, destination);
                break;
            default:
                Scales<Iq3SBook>(head, groupCount, block);
                Groups<Iq3SBook>(inRegisters, head, quants, groupCount, destination);
                break;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Groups<T>(bool inRegisters, byte* head, byte* quants, int groupCount, byte* destination)
        where T : struct, IBook
    {
        ulong* masks = (ulong*)(head + BookHead.MasksAt<T>());
        if (Avx512Vbmi.IsSupported && inRegisters)
            GroupsInRegisters<T>(masks, quants, groupCount, destination);
        else
            GroupsGathered<T>(masks, quants, groupCount, destination);
    }

    // Scales 8 rows at a time: a small part of the work.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Scales<T>(byte* head, int groupCount, in UnpackedBlock block)
        where T : struct, IBook
    {
        for (int half = 0; half < 16; half += 8)
        {
            Vector256<float> d = Halves(head, half) * T.Unit;
            for (int g = 0; g < groupCount; g++)
                Store<T>(d, Nibbles(head + 16 * (g / 2) + half) >> 4 * (g & 1) & Vector256.Create(15), block, 16 * g + half);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void ScalesOfHalves<T>(byte* head, int groupCount, in UnpackedBlock block)
        where T : struct, IBook
    {
        for (int half = 0; half < 16; half += 8)
        {
            Vector256<float> d = Halves(head, half) * T.Unit;
            for (int g = 0; g < groupCount; g++)
            {
                Vector256<int> both = Nibbles(head + 16 * g + half);
                Store<T>(d, both & Vector256.Create(15), block, 32 * g + half);
                Store<T>(d, both >> 4, block, 32 * g + 16 + half);
            }
        }
    }

    // The multiplier stands in the places that even signs leave free.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void ScalesInSigns<T>(byte* head, byte* signs, int groupCount, in UnpackedBlock block)
        where T : struct, IBook
    {
        for (int half = 0; half < 16; half += 8)
        {
            Vector256<float> d = Halves(head, half) * T.Unit;
            for (int g = 0; g < groupCount; g++)
            {
                Vector256<uint> bits = Vector256.Load((uint*)(signs + g * BookHead.GroupBytes<T>()) + half) >> 25 & Vector256.Create(0x55u);
                bits = (bits | bits >> 1) & Vector256.Create(0x33u);
                Store<T>(d, ((bits | bits >> 2) & Vector256.Create(0x0fu)).AsInt32(), block, 16 * g + half);
            }
        }
    }

    // IQ1_S: up or down by an eighth together.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void MovedScales(byte* head, int groupCount, in UnpackedBlock block)
    {
        for (int half = 0; half < 16; half += 8)
        {
            Vector256<float> d = Halves(head, half);
            for (int g = 0; g < groupCount; g++)
            {
                Vector256<int> nibble = Nibbles(head + 16 * (g / 2) + half) >> 4 * (g & 1);
                Vector256<float> scale = d * Odd(nibble & Vector256.Create(7));
                Vector256<int> isDown = Vector256.Equals(nibble & Vector256.Create(8), Vector256.Create(8));
                Vector256<float> start = Vector256.ConditionalSelect(isDown.AsSingle(), Vector256.Create(-1.125f), Vector256.Create(-0.875f));
                scale.Store(block.Scales + 16 * g + half);
                (scale * start).Store(block.Offsets + 16 * g + half);
            }
        }
    }

    // IQ1_M: integer scales, as in Q6_K.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void RunScales(byte* head, int groupCount, in UnpackedBlock block)
    {
        for (int half = 0; half < 16; half += 8)
        {
            (Halves(head, half) * Iq1MBook.Unit).Store(block.Scales + half);
            for (int s = 0; s < 2 * groupCount; s++)
            {
                Vector256<int> scale = Nibbles(head + 16 * (s / 2) + half) >> 4 * (s & 1) & Vector256.Create(7);
                scale += scale + Vector256<int>.One;
                Vector256.ConvertToSingle(scale).Store(block.Offsets + 16 * s + half);
                (scale << 16 | scale).Store(block.RunScales + 16 * s + half);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Store<T>(Vector256<float> d, Vector256<int> multiplier, in UnpackedBlock block, int at)
        where T : struct, IBook
    {
        Vector256<float> scale = d * Odd(multiplier);
        scale.Store(block.Scales + at);
        (scale * -(float)T.Lift).Store(block.Offsets + at);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<float> Odd(Vector256<int> multiplier) => Vector256.ConvertToSingle(multiplier + multiplier + Vector256<int>.One);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<int> Nibbles(byte* values) => Registers.Widen(values + BookHead.NibblesAt);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<float> Halves(byte* head, int row) => HalfFloat.Widen(Vector128.Load((ushort*)head + row));

    // Low and high nibbles of `steps` steps at a time.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Split(byte* bytes, int groupCount, int steps, byte* destination)
    {
        Vector256<byte> low = Vector256.Create((byte)15);
        int size = steps * PanelLayout.StepBytes;
        for (byte* end = bytes + groupCount * 8 * PanelLayout.StepBytes; bytes < end; destination += 2 * size)
        {
            for (int at = 0; at < size; at += 32, bytes += 32)
            {
                Vector256<byte> q = Vector256.Load(bytes);
                (q & low).Store(destination + at);
                ((q.AsUInt16() >> 4).AsByte() & low).Store(destination + size + at);
            }
        }
    }

    // 4-byte steps of 8 rows each: an index of a dword per gather.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void GroupsGathered<T>(ulong* masks, byte* quants, int groupCount, byte* destination)
        where T : struct, IBook
    {
        int* rows = (int*)T.Table.Rows;
        Vector256<uint> rowShifts = Vector256.Create(0u, 4, 8, 12, 16, 20, 24, 28);
        Vector256<uint> byteMask = Vector256.Create(255u), one = Vector256.Create(1u);
        Vector256<byte> twice = Vector256.Create(unchecked((byte)(2 * T.Lift)));
        int planes = T.IsShort ? 2 : 1;
        for (int g = 0; g < groupCount; g++, quants += BookHead.GroupBytes<T>(), masks += BookHead.MaskCount<T>(), destination += 512)
        {
            for (int at = 0; at < BookHead.GroupBytes<T>(); at += 64)
                Registers.Prefetch0(quants + PanelLayout.PrefetchBytes + at);
            for (int half = 0; half < 2; half++)
            {
                byte* to = destination + 32 * half;
                Vector256<uint> signs = default;
                if (T.HasSigns)
                    signs = Vector256.Load((uint*)(quants + planes * 64 + 32 * half));
                Vector256<uint> stored = signs;
                if (T.HasEvenSigns)
                    signs = WithEighths(signs);
                Vector256<byte> bit = Vector256<byte>.One;
                for (int plane = 0; plane < planes; plane++)
                {
                    Vector256<uint> low = Vector256.Load((uint*)(quants + 64 * plane + 32 * half));
                    for (int run = 0; run < 4; run++)
                    {
                        Vector256<uint> index = low >> 8 * run & byteMask;
                        if (T.HasEvenSigns && T.IndexBits == 9)
                        {
                            index |= (stored >> 25 + 2 * run & one) << 8;
                        }
                        else
                        {
                            for (int b = 8; b < T.IndexBits; b++)
                                index |= (MaskBits(masks + plane * (T.IndexBits - 8) + b - 8, half, rowShifts) >> run & one) << b;
                        }

                        Vector256<byte> first, second = default;
                        if (T.IsShort)
                        {
                            first = Registers.Gather(rows, index.AsInt32(), 4).AsByte();
                        }
                        else
                        {
                            first = Registers.Gather(rows, index.AsInt32(), 8).AsByte();
                            second = Registers.Gather(rows + 1, index.AsInt32(), 8).AsByte();
                        }

                        if (T.HasDeltas)
                        {
                            Vector256<uint> isDown = MaskBits(masks + T.IndexBits - 8, half, rowShifts) >> run & one;
                            Vector256<byte> move = Vector256.Equals(isDown, one).AsByte() | Vector256<byte>.One;
                            (first, second) = (first + move, second + move);
                        }

                        if (T.HasSigns)
                            first = Signed(first, signs.AsByte(), bit, twice);
                        first.Store(to);
                        to += 64;
                        bit += bit;
                        if (T.IsShort)
                            continue;
                        if (T.HasSigns)
                            second = Signed(second, signs.AsByte(), bit, twice);
                        second.Store(to);
                        to += 64;
                        bit += bit;
                    }
                }
            }
        }
    }

    // Four bits of each of 8 rows.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<uint> MaskBits(ulong* mask, int half, Vector256<uint> rowShifts) =>
        Registers.ShiftRight(Vector256.Create(((uint*)mask)[half]), rowShifts);

    // Lift + value to lift - value where the sign's bit is set.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<byte> Signed(Vector256<byte> values, Vector256<byte> signs, Vector256<byte> bit, Vector256<byte> twice) =>
        Vector256.ConditionalSelect(Vector256.Equals(signs & bit, bit), twice - values, values);

    // What stands in the free places gives way to the eighth sign of each run: the parity of the other seven.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<uint> WithEighths(Vector256<uint> signs)
    {
        signs &= Vector256.Create(~PanelPacking.FreeSigns);
        Vector256<uint> parity = signs ^ signs >> 16;
        parity ^= parity >> 8;
        parity ^= parity >> 1;
        return signs | (parity & Vector256.Create(0x55u)) << 25;
    }
}
