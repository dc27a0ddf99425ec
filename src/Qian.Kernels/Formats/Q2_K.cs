using System.Runtime.Intrinsics;

namespace Qian.Kernels;

// 256 values in 16 sub-blocks of 16: a byte each with the multiplier of d (low half) and of dmin (high half), then 64 bytes
// of 2-bit codes, then half d and half dmin. Value = d * multiplier * code − dmin * minimum.
internal sealed class Q2_K() : QuantFormat(WeightType.Q2_K, "Q2_K", TwoBits.Values, MinimumScaleAt + 2)
{
    private const int CodesAt = TwoBits.SubBlocks;
    private const int ScaleAt = CodesAt + TwoBits.Bytes;
    private const int MinimumScaleAt = ScaleAt + 2;
    private const int Highest = 3;
    private const int HighestMultiplier = 15;

    public override bool HasOffsets => true;

    public override float LargestMagnitude => BlockPieces.LargestHalf * HighestMultiplier;

    protected override void UnpackBlock(ReadOnlySpan<byte> block, Span<sbyte> quants, Span<float> scales, Span<float> offsets)
    {
        float scale = BlockPieces.ReadHalf(block, ScaleAt);
        float minimumScale = BlockPieces.ReadHalf(block, MinimumScaleAt);
        for (int index = 0; index < TwoBits.SubBlocks; index++)
        {
            scales[index] = scale * (block[index] & 15);
            offsets[index] = -minimumScale * (block[index] >> 4);
        }

        TwoBits.Unpack(block.Slice(CodesAt, TwoBits.Bytes), quants);
    }

    protected override void EncodeBlock(ReadOnlySpan<float> values, ReadOnlySpan<float> weights, bool fast, Span<byte> block)
    {
        Span<byte> multipliers = stackalloc byte[TwoBits.SubBlocks];
        Span<byte> minima = stackalloc byte[TwoBits.SubBlocks];
        (float scale, float minimumScale) = SuperBlock.FitOffset(values, weights, Highest, HighestMultiplier, fast, multipliers, minima);
        Span<sbyte> codes = stackalloc sbyte[TwoBits.Values];
        for (int index = 0; index < TwoBits.SubBlocks; index++)
        {
            OffsetSearch.Quantize(values.Slice(index * 16, 16), scale * multipliers[index], -minimumScale * minima[index], Highest, codes[(index * 16)..]);
            block[index] = (byte)(multipliers[index] | (minima[index] << 4));
        }

        TwoBits.Pack(codes, block.Slice(CodesAt, TwoBits.Bytes));
        BlockPieces.WriteHalf(block, ScaleAt, scale);
        BlockPieces.WriteHalf(block, MinimumScaleAt, minimumScale);
    }
}

// The 2-bit codes of Q2_K and Q3_K: each half of 128 values has 32 bytes, whose bit pairs, lowest first, are four runs of 32.
internal static class TwoBits
{
    public const int Values = 256;
    public const int SubBlocks = 16;
    public const int Bytes = 64;

    public static void Unpack(ReadOnlySpan<byte> bytes, Span<sbyte> quants)
    {
        Vector128<byte> mask = Vector128.Create((byte)3);
        for (int position = 0; position < Bytes; position += 16)
        {
            Vector128<byte> packed = BlockPieces.Load(bytes, position);
            int first = position / 32 * 128 + position % 32;
            for (int run = 0; run < 4; run++)
                BlockPieces.Store((packed >>> (2 * run)) & mask, quants, first + 32 * run);
        }
    }

    // Bits above the lowest two of a code are left out.
    public static void Pack(ReadOnlySpan<sbyte> codes, Span<byte> bytes)
    {
        Vector128<byte> mask = Vector128.Create((byte)3);
        for (int position = 0; position < Bytes; position += 16)
        {
            int first = position / 32 * 128 + position % 32;
            Vector128<byte> packed = Vector128<byte>.Zero;
            for (int run = 0; run < 4; run++)
                packed |= (Vector128.Create<sbyte>(codes.Slice(first + 32 * run, 16)).AsByte() & mask) << (2 * run);
            packed.CopyTo(bytes.Slice(position, 16));
        }
    }
}
