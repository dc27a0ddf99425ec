using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Qian.Kernels;

/// <summary>A block of the packed layout into <see cref="UnpackedBlock"/>, 8 rows to a Vector256 (on Arm64 a pair of registers); the same values as the 512-bit form.</summary>
internal static unsafe partial class PanelUnpack256
{
    public static void Unpack(in WeightRows weight, int panel, int blockIndex, int groupCount, in UnpackedBlock block)
    {
        PanelLayout layout = weight.Layout;
        if (layout.IsBook)
        {
            PanelUnpackBooks.Unpack(inRegisters: false, weight, panel, blockIndex, groupCount, block);
            return;
        }

        byte* start = weight.Data + panel * layout.PanelBytes;
        byte* head = start + (long)blockIndex * layout.HeadBlockBytes;
        byte* quants = start + layout.HeadBytes + (long)blockIndex * PanelLayout.BlockGroups * layout.QuantGroupBytes;
        switch (layout.Type)
        {
            case WeightType.Q4_K:
                ScalesAndMins(head, groupCount, block);
                Nibbles(quants, groupCount, block.Quants);
                break;
            case WeightType.Q5_K:
                ScalesAndMins(head, groupCount, block);
                NibblesAndBits(quants, groupCount, block.Quants);
                break;
            case WeightType.Q6_K:
                SignedScales(head, groupCount, block);
                NibblesAndPairs(quants, groupCount, block.Quants);
                break;
            case WeightType.Q2_K:
                ScalesAndMinsOfHalves(head, groupCount, block);
                Pairs(quants, groupCount, block.Quants);
                break;
            case WeightType.Q3_K:
                SignedScales(head, groupCount, block);
                PairsAndBits(quants, groupCount, block.Quants);
                break;
            case WeightType.Q4_0:
                Halves(head, groupCount, -8, block);
                Nibbles(quants, groupCount, block.Quants);
                break;
            case WeightType.IQ4_NL:
                Halves(head, groupCount, -128, block);
                DenseLevels(quants, groupCount, block.Quants);
                break;
            case WeightType.IQ4_XS:
                ScalesOffBy32(head, groupCount, block);
                DenseLevels(quants, groupCount, block.Quants);
                break;
            case WeightType.MXFP4:
                Exponents(head, groupCount, block);
                Codes((FloatE2M1.Table + Vector128.Create((sbyte)12)).AsByte(), quants, groupCount, block.Quants);
                break;
            case WeightType.NVFP4:
                MiniFloats(head, groupCount, block);
                Codes((FloatE2M1.Table + Vector128.Create((sbyte)12)).AsByte(), quants, groupCount, block.Quants);
                break;
            default:
                Halves(head, groupCount, -128, block);
                Bytes(quants, groupCount, block.Quants);
                break;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void ScalesAndMins(byte* head, int groupCount, in UnpackedBlock block)
    {
        for (int half = 0; half < 16; half += 8)
        {
            Vector256<float> d = HalvesAt(head + 2 * half);
            Vector256<float> dmin = -HalvesAt(head + 32 + 2 * half);
            for (int g = half; g < half + 16 * groupCount; g += 16)
            {
                (d * Small(head + 64 + g)).Store(block.Scales + g);
                (dmin * Small(head + 192 + g)).Store(block.Offsets + g);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void SignedScales(byte* head, int groupCount, in UnpackedBlock block)
    {
        for (int half = 0; half < 16; half += 8)
        {
            HalvesAt(head + 2 * half).Store(block.Scales + half);
            for (int s = half; s < half + 32 * groupCount; s += 16)
            {
                Vector256<int> scale = Registers.Widen((sbyte*)head + 32 + s);
                Vector256.ConvertToSingle(scale).Store(block.Offsets + s);
                (scale << 16 | scale & Vector256.Create(0xffff)).Store(block.RunScales + s);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Halves(byte* head, int groupCount, float bias, in UnpackedBlock block)
    {
        for (int i = 0; i < 16 * groupCount; i += 8)
        {
            Vector256<float> d = HalvesAt(head + 2 * i);
            d.Store(block.Scales + i);
            (d * bias).Store(block.Offsets + i);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Nibbles(byte* source, int groupCount, byte* destination)
    {
        Vector256<byte> low = Vector256.Create((byte)15);
        for (int g = 0; g < groupCount; g++, destination += 256)
        {
            Prefetch(source, 256);
            for (int i = 0; i < 8; i++, source += 32, destination += 32)
            {
                Vector256<byte> q = Vector256.Load(source);
                (q & low).Store(destination);
                (Right(q, 4) & low).Store(destination + 256);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void NibblesAndBits(byte* source, int groupCount, byte* destination)
    {
        Vector256<byte> low = Vector256.Create((byte)15);
        Vector256<byte> bit = Vector256.Create((byte)16);
        for (int g = 0; g < groupCount; g++, source += 320, destination += 512)
        {
            Prefetch(source, 320);
            for (int half = 0; half < 64; half += 32)
            {
                byte* to = destination + half;
                byte* from = source + half;
                Vector256<byte> q0 = Vector256.Load(from), q1 = Vector256.Load(from + 64);
                Vector256<byte> q2 = Vector256.Load(from + 128), q3 = Vector256.Load(from + 192);
                Vector256<byte> fifth = Vector256.Load(from + 256);
                (q0 & low | Left(fifth, 4) & bit).Store(to);
                (q1 & low | Left(fifth, 3) & bit).Store(to + 64);
                (q2 & low | Left(fifth, 2) & bit).Store(to + 128);
                (q3 & low | Left(fifth, 1) & bit).Store(to + 192);
                (Right(q0, 4) & low | fifth & bit).Store(to + 256);
                (Right(q1, 4) & low | Right(fifth, 1) & bit).Store(to + 320);
                (Right(q2, 4) & low | Right(fifth, 2) & bit).Store(to + 384);
                (Right(q3, 4) & low | Right(fifth, 3) & bit).Store(to + 448);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void NibblesAndPairs(byte* source, int groupCount, byte* destination)
    {
        Vector256<byte> low = Vector256.Create((byte)15);
        Vector256<byte> pair = Vector256.Create((byte)0x30);
        for (int g = 0; g < groupCount; g++, source += 384, destination += 512)
        {
            Prefetch(source, 384);
            for (int half = 0; half < 64; half += 32)
            {
                byte* to = destination + half;
                byte* from = source + half;
                Vector256<byte> q0 = Vector256.Load(from), q1 = Vector256.Load(from + 64);
                Vector256<byte> q2 = Vector256.Load(from + 128), q3 = Vector256.Load(from + 192);
                Vector256<byte> first = Vector256.Load(from + 256), second = Vector256.Load(from + 320);
                (q0 & low | Left(first, 4) & pair).Store(to);
                (q1 & low | Left(first, 2) & pair).Store(to + 64);
                (q2 & low | first & pair).Store(to + 128);
                (q3 & low | Right(first, 2) & pair).Store(to + 192);
                (Right(q0, 4) & low | Left(second, 4) & pair).Store(to + 256);
                (Right(q1, 4) & low | Left(second, 2) & pair).Store(to + 320);
                (Right(q2, 4) & low | second & pair).Store(to + 384);
                (Right(q3, 4) & low | Right(second, 2) & pair).Store(to + 448);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Bytes(byte* source, int groupCount, byte* destination)
    {
        Vector256<byte> low = Vector256.Create((byte)15);
        for (int g = 0; g < groupCount; g++, destination += 512)
        {
            Prefetch(source, 512);
            for (int i = 0; i < 16; i++, source += 32, destination += 32)
            {
                Vector256<byte> q = Vector256.Load(source);
                (q & low).Store(destination);
                (Right(q, 4) & low).Store(destination + 512);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void ScalesOffBy32(byte* head, int groupCount, in UnpackedBlock block)
    {
        for (int half = 0; half < 16; half += 8)
        {
            Vector256<float> d = HalvesAt(head + 2 * half);
            for (int g = half; g < half + 16 * groupCount; g += 16)
            {
                Vector256<float> scale = d * (Small(head + 32 + g) - Vector256.Create(32f));
                scale.Store(block.Scales + g);
                (scale * -128f).Store(block.Offsets + g);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Exponents(byte* head, int groupCount, in UnpackedBlock block)
    {
        for (int i = 0; i < 16 * groupCount; i += 8)
        {
            Vector256<int> exponent = Registers.Widen(head + i);
            // 2^(e - 128): two subnormal ends, and 255 for NaN.
            Vector256<int> bits = exponent - Vector256<int>.One << 23;
            bits = Vector256.ConditionalSelect(Vector256.Equals(exponent, Vector256<int>.Zero), Vector256.Create(0x00200000), bits);
            bits = Vector256.ConditionalSelect(Vector256.Equals(exponent, Vector256<int>.One), Vector256.Create(0x00400000), bits);
            bits = Vector256.ConditionalSelect(Vector256.Equals(exponent, Vector256.Create(255)), Vector256.Create(0x7fc00000), bits);
            bits.AsSingle().Store(block.Scales + i);
            (bits.AsSingle() * -12f).Store(block.Offsets + i);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void MiniFloats(byte* head, int groupCount, in UnpackedBlock block)
    {
        for (int i = 0; i < 32 * groupCount; i += 8)
        {
            Vector128<ushort> bits = Vector128.WidenLower(Vector128.CreateScalarUnsafe(*(ulong*)(head + i)).AsByte()) << 7;
            Vector256<float> scale = HalfFloat.Widen(bits) * PanelLayout.MiniFloatUnit;
            scale.Store(block.Scales + i);
            (scale * -12f).Store(block.Offsets + i);
        }
    }

    // Levels + 128 as two planes of nibbles: a table each.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void DenseLevels(byte* source, int groupCount, byte* destination)
    {
        Vector128<byte> levels = DenseCentre.Table.AsByte() ^ Vector128.Create((byte)0x80);
        Vector256<byte> lows = Double(levels & Vector128.Create((byte)15));
        Vector256<byte> highs = Double(levels >> 4);
        Vector256<byte> low = Vector256.Create((byte)15);
        for (int g = 0; g < groupCount; g++, destination += 768)
        {
            Prefetch(source, 256);
            for (int i = 0; i < 8; i++, source += 32, destination += 32)
            {
                Vector256<byte> q = Vector256.Load(source);
                Vector256<byte> first = q & low, second = Right(q, 4) & low;
                Registers.LookUp(lows, first).Store(destination);
                Registers.LookUp(lows, second).Store(destination + 256);
                Registers.LookUp(highs, first).Store(destination + 512);
                Registers.LookUp(highs, second).Store(destination + 768);
            }
        }
    }

    // Levels plus what their offset takes off again: 12 for the four-bit floats, 128 for the uneven ones.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Codes(Vector128<byte> table, byte* source, int groupCount, byte* destination)
    {
        Vector256<byte> levels = Double(table);
        Vector256<byte> low = Vector256.Create((byte)15);
        for (int g = 0; g < groupCount; g++, destination += 256)
        {
            Prefetch(source, 256);
            for (int i = 0; i < 8; i++, source += 32, destination += 32)
            {
                Vector256<byte> q = Vector256.Load(source);
                Registers.LookUp(levels, q & low).Store(destination);
                Registers.LookUp(levels, Right(q, 4) & low).Store(destination + 256);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<byte> Double(Vector128<byte> table) => Vector256.Create(table, table);

    // A group further on. Unpacking reads in bursts between products, too irregular for the hardware's own prefetching: this
    // nearly doubles the speed of a single row. Past the end of a panel it fetches the next one's head.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Prefetch(byte* source, int bytes)
    {
        for (int i = 0; i < bytes; i += 64)
            Registers.Prefetch0(source + PanelLayout.PrefetchBytes + i);
    }

    // Shifts of 16-bit lanes: what crosses a byte is masked away by every caller.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<byte> Right(Vector256<byte> v, int count) => (v.AsUInt16() >> count).AsByte();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<byte> Left(Vector256<byte> v, int count) => (v.AsUInt16() << count).AsByte();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<float> Small(byte* values) => Vector256.ConvertToSingle(Registers.Widen(values));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<float> HalvesAt(byte* values) => HalfFloat.Widen(Vector128.Load((ushort*)values));
}
