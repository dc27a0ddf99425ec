using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Qian.Kernels;

/// <summary>A block of the packed layout into <see cref="UnpackedBlock"/>, 16 rows to a register.</summary>
internal static unsafe partial class PanelUnpackAvx512
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Unpack(in WeightRows weight, int panel, int blockIndex, int groupCount, in UnpackedBlock block)
    {
        if (weight.Layout.IsBook)
        {
            PanelUnpackBooks.Unpack(PanelUnpackBooks.LooksUpInRegisters, weight, panel, blockIndex, groupCount, block);
            return;
        }

        byte* quants = UnpackHead(weight, panel, blockIndex, groupCount, block);
        switch (weight.Type)
        {
            case WeightType.Q4_K or WeightType.Q4_0:
                Nibbles(quants, groupCount, block.Quants);
                break;
            case WeightType.Q5_K:
                NibblesAndBits(quants, groupCount, block.Quants);
                break;
            case WeightType.Q6_K:
                NibblesAndPairs(quants, groupCount, block.Quants);
                break;
            case WeightType.Q2_K:
                Pairs(quants, groupCount, block.Quants);
                break;
            case WeightType.Q3_K:
                PairsAndBits(quants, groupCount, block.Quants);
                break;
            case WeightType.IQ4_NL or WeightType.IQ4_XS:
                DenseLevels(quants, groupCount, block.Quants);
                break;
            case WeightType.MXFP4 or WeightType.NVFP4:
                FloatLevels(quants, groupCount, block.Quants);
                break;
            default:
                Bytes(quants, groupCount, block.Quants);
                break;
        }
    }

    // The scales and offsets of a block; returns where its quants are.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static byte* UnpackHead(in WeightRows weight, int panel, int blockIndex, int groupCount, in UnpackedBlock block)
    {
        PanelLayout layout = weight.Layout;
        byte* start = weight.Data + panel * layout.PanelBytes;
        byte* head = start + (long)blockIndex * layout.HeadBlockBytes;
        switch (layout.Type)
        {
            case WeightType.Q4_K or WeightType.Q5_K:
                ScalesAndMins(head, groupCount, block);
                break;
            case WeightType.Q2_K:
                ScalesAndMinsOfHalves(head, groupCount, block);
                break;
            case WeightType.Q3_K or WeightType.Q6_K:
                SignedScales(head, groupCount, block);
                break;
            case WeightType.Q4_0:
                Halves(head, groupCount, -8, block);
                break;
            case WeightType.IQ4_XS:
                ScalesOffBy32(head, groupCount, block);
                break;
            case WeightType.MXFP4:
                Exponents(head, groupCount, block);
                break;
            case WeightType.NVFP4:
                MiniFloats(head, groupCount, block);
                break;
            default:
                Halves(head, groupCount, -128, block);
                break;
        }

        return start + layout.HeadBytes + (long)blockIndex * PanelLayout.BlockGroups * layout.QuantGroupBytes;
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void ScalesAndMins(byte* head, int groupCount, in UnpackedBlock block)
    {
        Vector512<float> d = HalvesAt(head);
        Vector512<float> dmin = -HalvesAt(head + 32);
        for (int g = 0; g < groupCount; g++)
        {
            (d * Small(head + 64 + 16 * g)).Store(block.Scales + 16 * g);
            (dmin * Small(head + 192 + 16 * g)).Store(block.Offsets + 16 * g);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void SignedScales(byte* head, int groupCount, in UnpackedBlock block)
    {
        HalvesAt(head).Store(block.Scales);
        for (int s = 0; s < 2 * groupCount; s++)
        {
            Vector512<int> scale = Avx512F.ConvertToVector512Int32(Vector128.Load((sbyte*)head + 32 + 16 * s));
            Vector512.ConvertToSingle(scale).Store(block.Offsets + 16 * s);
            (scale << 16 | scale & Vector512.Create(0xffff)).Store(block.RunScales + 16 * s);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Halves(byte* head, int groupCount, float bias, in UnpackedBlock block)
    {
        for (int g = 0; g < groupCount; g++)
        {
            Vector512<float> d = HalvesAt(head + 32 * g);
            d.Store(block.Scales + 16 * g);
            (d * bias).Store(block.Offsets + 16 * g);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Nibbles(byte* source, int groupCount, byte* destination)
    {
        Vector512<byte> low = Vector512.Create((byte)15);
        for (int i = 0; i < groupCount; i++, source += 256, destination += 512)
        {
            Prefetch(source, 256);
            Vector512<byte> q0 = Vector512.Load(source), q1 = Vector512.Load(source + 64);
            Vector512<byte> q2 = Vector512.Load(source + 128), q3 = Vector512.Load(source + 192);
            (q0 & low).Store(destination);
            (q1 & low).Store(destination + 64);
            (q2 & low).Store(destination + 128);
            (q3 & low).Store(destination + 192);
            (Right(q0, 4) & low).Store(destination + 256);
            (Right(q1, 4) & low).Store(destination + 320);
            (Right(q2, 4) & low).Store(destination + 384);
            (Right(q3, 4) & low).Store(destination + 448);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void NibblesAndBits(byte* source, int groupCount, byte* destination)
    {
        Vector512<byte> low = Vector512.Create((byte)15);
        Vector512<byte> bit = Vector512.Create((byte)16);
        for (int i = 0; i < groupCount; i++, source += 320, destination += 512)
        {
            Prefetch(source, 320);
            Vector512<byte> q0 = Vector512.Load(source), q1 = Vector512.Load(source + 64);
            Vector512<byte> q2 = Vector512.Load(source + 128), q3 = Vector512.Load(source + 192);
            Vector512<byte> fifth = Vector512.Load(source + 256);
            (q0 & low | Left(fifth, 4) & bit).Store(destination);
            (q1 & low | Left(fifth, 3) & bit).Store(destination + 64);
            (q2 & low | Left(fifth, 2) & bit).Store(destination + 128);
            (q3 & low | Left(fifth, 1) & bit).Store(destination + 192);
            (Right(q0, 4) & low | fifth & bit).Store(destination + 256);
            (Right(q1, 4) & low | Right(fifth, 1) & bit).Store(destination + 320);
            (Right(q2, 4) & low | Right(fifth, 2) & bit).Store(destination + 384);
            (Right(q3, 4) & low | Right(fifth, 3) & bit).Store(destination + 448);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void NibblesAndPairs(byte* source, int groupCount, byte* destination)
    {
        Vector512<byte> low = Vector512.Create((byte)15);
        Vector512<byte> pair = Vector512.Create((byte)0x30);
        for (int i = 0; i < groupCount; i++, source += 384, destination += 512)
        {
            Prefetch(source, 384);
            Vector512<byte> q0 = Vector512.Load(source), q1 = Vector512.Load(source + 64);
            Vector512<byte> q2 = Vector512.Load(source + 128), q3 = Vector512.Load(source + 192);
            Vector512<byte> first = Vector512.Load(source + 256), second = Vector512.Load(source + 320);
            (q0 & low | Left(first, 4) & pair).Store(destination);
            (q1 & low | Left(first, 2) & pair).Store(destination + 64);
            (q2 & low | first & pair).Store(destination + 128);
            (q3 & low | Right(first, 2) & pair).Store(destination + 192);
            (Right(q0, 4) & low | Left(second, 4) & pair).Store(destination + 256);
            (Right(q1, 4) & low | Left(second, 2) & pair).Store(destination + 320);
            (Right(q2, 4) & low | second & pair).Store(destination + 384);
            (Right(q3, 4) & low | Right(second, 2) & pair).Store(destination + 448);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Bytes(byte* source, int groupCount, byte* destination)
    {
        Vector512<byte> low = Vector512.Create((byte)15);
        for (int i = 0; i < groupCount; i++, destination += 512)
        {
            Prefetch(source, 512);
            for (int step = 0; step < 8; step++, source += 64, destination += 64)
            {
                Vector512<byte> q = Vector512.Load(source);
                (q & low).Store(destination);
                (Right(q, 4) & low).Store(destination + 512);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void ScalesOffBy32(byte* head, int groupCount, in UnpackedBlock block)
    {
        Vector512<float> d = HalvesAt(head);
        for (int g = 0; g < groupCount; g++)
        {
            Vector512<float> scale = d * (Small(head + 32 + 16 * g) - Vector512.Create(32f));
            scale.Store(block.Scales + 16 * g);
            (scale * -128f).Store(block.Offsets + 16 * g);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Exponents(byte* head, int groupCount, in UnpackedBlock block)
    {
        for (int g = 0; g < groupCount; g++)
        {
            Vector512<int> exponent = Avx512F.ConvertToVector512Int32(Vector128.Load(head + 16 * g));
            // 2^(e - 128): two subnormal ends, and 255 for NaN.
            Vector512<int> bits = exponent - Vector512<int>.One << 23;
            bits = Vector512.ConditionalSelect(Vector512.Equals(exponent, Vector512<int>.Zero), Vector512.Create(0x00200000), bits);
            bits = Vector512.ConditionalSelect(Vector512.Equals(exponent, Vector512<int>.One), Vector512.Create(0x00400000), bits);
            bits = Vector512.ConditionalSelect(Vector512.Equals(exponent, Vector512.Create(255)), Vector512.Create(0x7fc00000), bits);
            bits.AsSingle().Store(block.Scales + 16 * g);
            (bits.AsSingle() * -12f).Store(block.Offsets + 16 * g);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void MiniFloats(byte* head, int groupCount, in UnpackedBlock block)
    {
        for (int s = 0; s < 2 * groupCount; s++)
        {
            Vector256<ushort> bits = Avx2.ConvertToVector256Int16(Vector128.Load(head + 16 * s)).AsUInt16() << 7;
            Vector512<float> scale = HalfFloat.Widen(bits) * PanelLayout.MiniFloatUnit;
            scale.Store(block.Scales + 16 * s);
            (scale * -12f).Store(block.Offsets + 16 * s);
        }
    }

    // Levels + 128 as two planes of nibbles: a table each.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void DenseLevels(byte* source, int groupCount, byte* destination)
    {
        Vector128<byte> levels = DenseCentre.Table.AsByte() ^ Vector128.Create((byte)0x80);
        Vector512<byte> lows = Quadruple(levels & Vector128.Create((byte)15));
        Vector512<byte> highs = Quadruple(levels >> 4);
        Vector512<byte> low = Vector512.Create((byte)15);
        for (int g = 0; g < groupCount; g++, destination += 768)
        {
            Prefetch(source, 256);
            for (int i = 0; i < 4; i++, source += 64, destination += 64)
            {
                Vector512<byte> q = Vector512.Load(source);
                Vector512<byte> first = q & low, second = Right(q, 4) & low;
                Avx512BW.Shuffle(lows, first).Store(destination);
                Avx512BW.Shuffle(lows, second).Store(destination + 256);
                Avx512BW.Shuffle(highs, first).Store(destination + 512);
                Avx512BW.Shuffle(highs, second).Store(destination + 768);
            }
        }
    }

    // Levels + 12: 0..24.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void FloatLevels(byte* source, int groupCount, byte* destination)
    {
        Vector512<byte> levels = Levels(WeightType.MXFP4);
        Vector512<byte> low = Vector512.Create((byte)15);
        for (int g = 0; g < groupCount; g++, destination += 256)
        {
            Prefetch(source, 256);
            for (int i = 0; i < 4; i++, source += 64, destination += 64)
            {
                Vector512<byte> q = Vector512.Load(source);
                Avx512BW.Shuffle(levels, q & low).Store(destination);
                Avx512BW.Shuffle(levels, Right(q, 4) & low).Store(destination + 256);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<byte> Quadruple(Vector128<byte> table)
    {
        Vector256<byte> twice = Vector256.Create(table, table);
        return Vector512.Create(twice, twice);
    }

    // A group further on. Unpacking reads in bursts between products, too irregular for the hardware's own prefetching: this
    // nearly doubles the speed of a single row. Past the end of a panel it fetches the next one's head.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Prefetch(byte* source, int bytes)
    {
        for (int i = 0; i < bytes; i += 64)
            Sse.Prefetch0(source + PanelLayout.PrefetchBytes + i);
    }

    // Shifts of 16-bit lanes: what crosses a byte is masked away by every caller.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<byte> Right(Vector512<byte> v, int count) => (v.AsUInt16() >> count).AsByte();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<byte> Left(Vector512<byte> v, int count) => (v.AsUInt16() << count).AsByte();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> Small(byte* values) => Vector512.ConvertToSingle(Avx512F.ConvertToVector512Int32(Vector128.Load(values)));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> HalvesAt(byte* values) => HalfFloat.Widen(Vector256.Load((ushort*)values));
}
