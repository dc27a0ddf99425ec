using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Qian.Kernels;

// From the file's blocks to the panel's, four rows at a time: their dwords are transposed in registers.
internal static unsafe partial class PanelPacking
{
    // sources[16]: where the block starts in each row.
    private static void PackBlock(in PanelLayout layout, byte** sources, byte* head, byte* quants, int groupCount)
    {
        if (layout.IsBook)
        {
            PackBooks(layout, sources, head, quants, groupCount);
            return;
        }

        WeightType type = layout.Type;
        for (int r = 0; r < PanelLayout.PanelRows; r++)
            PackScales(type, sources[r], head, r, groupCount);
        for (int r = 0; r < PanelLayout.PanelRows; r += 4)
        {
            switch (type)
            {
                case WeightType.Q2_K:
                    FourRows<Q2K>(sources + r, quants + 4 * r, groupCount);
                    break;
                case WeightType.Q3_K:
                    FourRows<Q3K>(sources + r, quants + 4 * r, groupCount);
                    break;
                case WeightType.Q4_K:
                    FourRows<Q4K>(sources + r, quants + 4 * r, groupCount);
                    break;
                case WeightType.Q5_K:
                    FourRows<Q5K>(sources + r, quants + 4 * r, groupCount);
                    break;
                case WeightType.Q6_K:
                    FourRows<Q6K>(sources + r, quants + 4 * r, groupCount);
                    break;
                case WeightType.Q8_0:
                    FourRows<Q80>(sources + r, quants + 4 * r, groupCount);
                    break;
                case WeightType.Q4_0 or WeightType.IQ4_NL:
                    FourRows<Q40>(sources + r, quants + 4 * r, groupCount);
                    break;
                case WeightType.IQ4_XS:
                    FourRows<IQ4XS>(sources + r, quants + 4 * r, groupCount);
                    break;
                case WeightType.MXFP4:
                    FourRows<MX4>(sources + r, quants + 4 * r, groupCount);
                    break;
                case WeightType.NVFP4:
                    FourRows<NV4>(sources + r, quants + 4 * r, groupCount);
                    break;
                default:
                    throw new ArgumentOutOfRangeException(nameof(type));
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void PackScales(WeightType type, byte* source, byte* head, int r, int groupCount)
    {
        switch (type)
        {
            case WeightType.Q4_K or WeightType.Q5_K:
                ((ushort*)head)[r] = ((ushort*)source)[0];
                ((ushort*)(head + 32))[r] = ((ushort*)source)[1];
                byte* six = source + 4;
                for (int j = 0; j < 4; j++)
                {
                    head[64 + j * 16 + r] = (byte)(six[j] & 63);
                    head[192 + j * 16 + r] = (byte)(six[j + 4] & 63);
                    head[64 + (j + 4) * 16 + r] = (byte)(six[j + 8] & 15 | six[j] >> 6 << 4);
                    head[192 + (j + 4) * 16 + r] = (byte)(six[j + 8] >> 4 | six[j + 4] >> 6 << 4);
                }

                break;
            case WeightType.Q2_K:
                ((ushort*)head)[r] = *(ushort*)(source + 80);
                ((ushort*)(head + 32))[r] = *(ushort*)(source + 82);
                for (int j = 0; j < 16; j++)
                    head[64 + j * 16 + r] = source[j];
                break;
            case WeightType.Q3_K:
                ((ushort*)head)[r] = *(ushort*)(source + 108);
                for (int j = 0; j < 16; j++)
                {
                    int multiplier = source[96 + j % 8] >> 4 * (j / 8) & 15 | (source[104 + j % 4] >> 2 * (j / 4) & 3) << 4;
                    head[32 + j * 16 + r] = (byte)(multiplier - 32);
                }

                break;
            case WeightType.Q6_K:
                ((ushort*)head)[r] = *(ushort*)(source + 208);
                for (int j = 0; j < 16; j++)
                    head[32 + j * 16 + r] = source[192 + j];
                break;
            case WeightType.IQ4_XS:
                ((ushort*)head)[r] = *(ushort*)source;
                for (int g = 0; g < PanelLayout.BlockGroups; g++)
                    head[32 + g * 16 + r] = (byte)(source[4 + g / 2] >> 4 * (g & 1) & 15 | (((ushort*)source)[1] >> 2 * g & 3) << 4);
                break;
            case WeightType.MXFP4:
                for (int g = 0; g < groupCount; g++)
                    head[16 * g + r] = source[17 * g];
                break;
            case WeightType.NVFP4:
                for (int s = 0; s < 2 * groupCount; s++)
                {
                    int scale = source[36 * (s / 4) + s % 4] & 0x7f;
                    head[16 * s + r] = (byte)(scale == 0x7f ? 0 : scale); // no number: counts as 0
                }

                break;
            default:
                int blockBytes = type == WeightType.Q8_0 ? 34 : 18;
                for (int g = 0; g < groupCount; g++)
                    ((ushort*)(head + 32 * g))[r] = *(ushort*)(source + blockBytes * g);
                break;
        }
    }

    // The steps of a group from one row: low dwords are steps 0-3 (and, as high nibbles, 4-7), or steps 0-3 and 4-7 of whole bytes.
    private interface IRowGroups
    {
        static abstract int GroupBytes { get; }

        static abstract int VectorCount { get; }

        static abstract void Load(byte* source, int group, out Vector128<byte> first, out Vector128<byte> second);

        // Further bits of the row's group: dwords at distance StepBytes.
        static abstract void Planes(byte* source, int group, byte* destination);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void FourRows<T>(byte** sources, byte* quants, int groupCount) where T : IRowGroups
    {
        byte* s0 = sources[0], s1 = sources[1], s2 = sources[2], s3 = sources[3];
        for (int g = 0; g < groupCount; g++, quants += T.GroupBytes)
        {
            T.Load(s0, g, out Vector128<byte> a0, out Vector128<byte> b0);
            T.Load(s1, g, out Vector128<byte> a1, out Vector128<byte> b1);
            T.Load(s2, g, out Vector128<byte> a2, out Vector128<byte> b2);
            T.Load(s3, g, out Vector128<byte> a3, out Vector128<byte> b3);
            if (T.VectorCount > 0)
                Transpose(a0, a1, a2, a3, quants);
            if (T.VectorCount == 2)
                Transpose(b0, b1, b2, b3, quants + 4 * PanelLayout.StepBytes);
            byte* planes = quants + T.VectorCount * 4 * PanelLayout.StepBytes;
            T.Planes(s0, g, planes);
            T.Planes(s1, g, planes + 4);
            T.Planes(s2, g, planes + 8);
            T.Planes(s3, g, planes + 12);
        }
    }

    // 4 rows x 4 dwords to 4 steps of 4 rows.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Transpose(Vector128<byte> r0, Vector128<byte> r1, Vector128<byte> r2, Vector128<byte> r3, byte* steps)
    {
        Vector256<uint> pairs = Vector256.Create(0u, 4, 1, 5, 2, 6, 3, 7);
        Vector256<ulong> ab = Vector256.Shuffle(Vector256.Create(r0, r1).AsUInt32(), pairs).AsUInt64();
        Vector256<ulong> cd = Vector256.Shuffle(Vector256.Create(r2, r3).AsUInt32(), pairs).AsUInt64();
        Vector256<ulong> order = Vector256.Create(0ul, 2, 1, 3);
        Vector256<byte> first = Vector256.Shuffle(Vector256.Create(ab.GetLower(), cd.GetLower()), order).AsByte();
        Vector256<byte> second = Vector256.Shuffle(Vector256.Create(ab.GetUpper(), cd.GetUpper()), order).AsByte();
        first.GetLower().Store(steps);
        first.GetUpper().Store(steps + PanelLayout.StepBytes);
        second.GetLower().Store(steps + 2 * PanelLayout.StepBytes);
        second.GetUpper().Store(steps + 3 * PanelLayout.StepBytes);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector128<byte> Nibbles(byte* source, bool high)
    {
        Vector128<byte> low = Vector128.Create((byte)15);
        Vector128<byte> first = Vector128.Load(source), second = Vector128.Load(source + 16);
        return high ? first >> 4 | second & ~low : first & low | second << 4;
    }

    // Bit g of 32 bytes to bits 0..7 of a dword's bytes.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Bits(byte* source, int group, byte* destination)
    {
        uint* bits = (uint*)source;
        uint plane = 0;
        for (int step = 0; step < 8; step++)
            plane |= (bits[step] >> group & 0x01010101) << step;
        *(uint*)destination = plane;
    }

    // Pair g % 4 of 32 bytes, steps 0-3 to one dword and 4-7 to another.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void BitPairs(byte* source, int group, byte* destination)
    {
        uint* pairs = (uint*)(source + 32 * (group / 4));
        int shift = 2 * (group & 3);
        uint first = 0, second = 0;
        for (int step = 0; step < 4; step++)
        {
            first |= (pairs[step] >> shift & 0x03030303) << 2 * step;
            second |= (pairs[step + 4] >> shift & 0x03030303) << 2 * step;
        }

        *(uint*)destination = first;
        *(uint*)(destination + PanelLayout.StepBytes) = second;
    }

    private readonly struct Q2K : IRowGroups
    {
        public static int GroupBytes => 128;

        public static int VectorCount => 0;

        public static void Load(byte* source, int group, out Vector128<byte> first, out Vector128<byte> second) => first = second = default;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static void Planes(byte* source, int group, byte* destination) => BitPairs(source + 16, group, destination);
    }

    private readonly struct Q3K : IRowGroups
    {
        public static int GroupBytes => 192;

        public static int VectorCount => 0;

        public static void Load(byte* source, int group, out Vector128<byte> first, out Vector128<byte> second) => first = second = default;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static void Planes(byte* source, int group, byte* destination)
        {
            BitPairs(source + 32, group, destination);
            Bits(source, group, destination + 2 * PanelLayout.StepBytes);
        }
    }

    private readonly struct Q4K : IRowGroups
    {
        public static int GroupBytes => 256;

        public static int VectorCount => 1;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static void Load(byte* source, int group, out Vector128<byte> first, out Vector128<byte> second)
        {
            first = Nibbles(source + 16 + 32 * (group / 2), high: (group & 1) != 0);
            second = default;
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static void Planes(byte* source, int group, byte* destination)
        {
        }
    }

    private readonly struct Q5K : IRowGroups
    {
        public static int GroupBytes => 320;

        public static int VectorCount => 1;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static void Load(byte* source, int group, out Vector128<byte> first, out Vector128<byte> second)
        {
            first = Nibbles(source + 48 + 32 * (group / 2), high: (group & 1) != 0);
            second = default;
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static void Planes(byte* source, int group, byte* destination)
        {
            Bits(source + 16, group, destination);
        }
    }

    private readonly struct Q6K : IRowGroups
    {
        public static int GroupBytes => 384;

        public static int VectorCount => 1;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static void Load(byte* source, int group, out Vector128<byte> first, out Vector128<byte> second)
        {
            first = Nibbles(source + 64 * (group / 4) + 32 * (group & 1), high: (group & 2) != 0);
            second = default;
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static void Planes(byte* source, int group, byte* destination)
        {
            BitPairs(source + 128, group, destination);
        }
    }

    private readonly struct Q80 : IRowGroups
    {
        public static int GroupBytes => 512;

        public static int VectorCount => 2;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static void Load(byte* source, int group, out Vector128<byte> first, out Vector128<byte> second)
        {
            Vector128<byte> sign = Vector128.Create((byte)0x80);
            first = Vector128.Load(source + 34 * group + 2) ^ sign;
            second = Vector128.Load(source + 34 * group + 18) ^ sign;
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static void Planes(byte* source, int group, byte* destination)
        {
        }
    }

    // In these three low nibbles are columns 0-15 and high ones 16-31 already.
    private readonly struct Q40 : IRowGroups
    {
        public static int GroupBytes => 256;

        public static int VectorCount => 1;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static void Load(byte* source, int group, out Vector128<byte> first, out Vector128<byte> second)
        {
            first = Vector128.Load(source + 18 * group + 2);
            second = default;
        }

        public static void Planes(byte* source, int group, byte* destination)
        {
        }
    }

    private readonly struct IQ4XS : IRowGroups
    {
        public static int GroupBytes => 256;

        public static int VectorCount => 1;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static void Load(byte* source, int group, out Vector128<byte> first, out Vector128<byte> second)
        {
            first = Vector128.Load(source + 16 * group + 8);
            second = default;
        }

        public static void Planes(byte* source, int group, byte* destination)
        {
        }
    }

    private readonly struct MX4 : IRowGroups
    {
        public static int GroupBytes => 256;

        public static int VectorCount => 1;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static void Load(byte* source, int group, out Vector128<byte> first, out Vector128<byte> second)
        {
            first = Vector128.Load(source + 17 * group + 1);
            second = default;
        }

        public static void Planes(byte* source, int group, byte* destination)
        {
        }
    }

    // Either half of a group has its 16 columns in 8 bytes: low nibbles, then high ones.
    private readonly struct NV4 : IRowGroups
    {
        public static int GroupBytes => 256;

        public static int VectorCount => 1;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static void Load(byte* source, int group, out Vector128<byte> first, out Vector128<byte> second)
        {
            Vector128<byte> low = Vector128.Create((byte)15);
            Vector128<byte> both = Vector128.Load(source + 36 * (group / 2) + 4 + 16 * (group & 1));
            Vector128<ulong> lows = (both & low).AsUInt64(), highs = (both >> 4).AsUInt64();
            first = Vector128.Create(lows.GetLower(), highs.GetLower()).AsByte() | Vector128.Create(lows.GetUpper(), highs.GetUpper()).AsByte() << 4;
            second = default;
        }

        public static void Planes(byte* source, int group, byte* destination)
        {
        }
    }
}
