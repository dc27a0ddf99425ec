using System.Buffers.Binary;
using System.Runtime.Intrinsics;

namespace Qian.Kernels;

// Pieces that several layouts are made of: half floats, 16 bytes at a time, nibbles, single bits.
internal static class BlockPieces
{
    // The largest finite half float.
    public const float LargestHalf = 65504;

    private const float SmallestHalf = 1 / 16777216f;

    public static float ReadHalf(ReadOnlySpan<byte> block, int offset) =>
        (float)BinaryPrimitives.ReadHalfLittleEndian(block[offset..]);

    // The value must come from RoundToHalf.
    public static void WriteHalf(Span<byte> block, int offset, float value) =>
        BinaryPrimitives.WriteHalfLittleEndian(block[offset..], (Half)value);

    // The nearest finite half float; a scale that is not 0 stays so, since multipliers and levels may still use it.
    public static float RoundToHalf(float value)
    {
        float rounded = (float)(Half)Math.Clamp(value, -LargestHalf, LargestHalf);
        return rounded == 0 && value != 0 ? MathF.CopySign(SmallestHalf, value) : rounded;
    }

    public static Vector128<byte> Load(ReadOnlySpan<byte> block, int offset) => Vector128.Create(block.Slice(offset, 16));

    public static Vector128<byte> LowNibbles(Vector128<byte> bytes) => bytes & Vector128.Create((byte)15);

    public static Vector128<byte> HighNibbles(Vector128<byte> bytes) => bytes >>> 4;

    // All ones in byte j where bit j is set.
    public static Vector128<byte> Spread(ushort bits)
    {
        Vector128<byte> halves = Vector128.Create(Vector64.Create((byte)bits), Vector64.Create((byte)(bits >> 8)));
        Vector128<byte> own = Vector128.Create(0x8040201008040201u).AsByte();
        return Vector128.Equals(halves & own, own);
    }

    public static void Store(Vector128<byte> values, Span<sbyte> quants, int offset) => values.AsSByte().CopyTo(quants.Slice(offset, 16));

    // Code j in the low half of byte j, code 16 + j in its high half.
    public static void PackNibbles(ReadOnlySpan<sbyte> codes, Span<byte> bytes)
    {
        int half = bytes.Length;
        for (int index = 0; index < half; index++)
            bytes[index] = (byte)((codes[index] & 15) | (codes[half + index] << 4));
    }
}
