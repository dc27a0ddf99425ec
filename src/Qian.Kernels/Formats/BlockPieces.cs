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

    // The value must have been rounded to half.
    public static void WriteHalf(Span<byte> block, int offset, float value) =>
        BinaryPrimitives.WriteHalfLittleEndian(block[offset..], (Half)value);

    // The nearest finite half float.
    public static float RoundToHalf(float value) => (float)(Half)Math.Clamp(value, -LargestHalf, LargestHalf);

    // The same for a scale: one that is not 0 stays so, since it stands before levels and multipliers that still count.
    public static float RoundScaleToHalf(float value)
    {
        float rounded = RoundToHalf(value);
        return rounded == 0 && value != 0 ? MathF.CopySign(SmallestHalf, value) : rounded;
    }

    public static Vector128<byte> Load(ReadOnlySpan<byte> block, int offset) => Vector128.Create(block.Slice(offset, 16));

    public static Vector128<byte> LowNibbles(Vector128<byte> bytes) => bytes & Vector128.Create((byte)15);

    public static Vector128<byte> HighNibbles(Vector128<byte> bytes) => bytes >>> 4;

    // All ones in byte j where bit j is set.
    public static Vector128<byte> Spread(ushort bits)
    {
        Vector128<byte> halves = Vector128.Shuffle(
            Vector128.CreateScalar(bits).AsByte(), Vector128.Create(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, (byte)1));
        Vector128<byte> own = Vector128.Create(0x8040201008040201u).AsByte();
        return Vector128.Equals(halves & own, own);
    }

    public static void Store(Vector128<byte> values, Span<sbyte> quants, int offset) => values.AsSByte().CopyTo(quants.Slice(offset, 16));

    // Code j in the low half of byte j, the code half the codes later in its high half; bits above the fourth are left out.
    public static void PackNibbles(ReadOnlySpan<sbyte> codes, Span<byte> bytes)
    {
        int half = bytes.Length, index = 0;
        for (; index + 16 <= half; index += 16)
        {
            Vector128<byte> low = Vector128.Create<sbyte>(codes.Slice(index, 16)).AsByte(), high = Vector128.Create<sbyte>(codes.Slice(half + index, 16)).AsByte();
            ((low & Vector128.Create((byte)15)) | (high << 4)).CopyTo(bytes.Slice(index, 16));
        }

        for (; index < half; index++)
            bytes[index] = (byte)((codes[index] & 15) | ((codes[half + index] & 15) << 4));
    }
}
