using System.Runtime.Intrinsics;

namespace Qian.Kernels;

// 256 values in 8 sub-blocks of 32: half d, half dmin, 12 bytes with a 6-bit multiplier of each per sub-block, 128 bytes of
// codes: each run of 32 bytes holds one sub-block in its low and the next in its high halves.
// Value = d * multiplier * code − dmin * minimum.
internal sealed class Q4_K() : QuantFormat(WeightType.Q4_K, "Q4_K", Values, CodesAt + Values / 2)
{
    private const int Values = 256;
    private const int CodesAt = SixBitPairs.End;
    private const int Highest = 15;

    public override bool HasOffsets => true;

    public override float LargestMagnitude => BlockPieces.LargestHalf * SixBitPairs.Highest;

    protected override void UnpackBlock(ReadOnlySpan<byte> block, Span<sbyte> quants, Span<float> scales, Span<float> offsets)
    {
        SixBitPairs.Unpack(block, scales, offsets);
        for (int position = 0; position < Values / 2; position += 16)
        {
            Vector128<byte> bytes = BlockPieces.Load(block, CodesAt + position);
            int first = position / 32 * 64 + position % 32;
            BlockPieces.Store(BlockPieces.LowNibbles(bytes), quants, first);
            BlockPieces.Store(BlockPieces.HighNibbles(bytes), quants, first + 32);
        }
    }

    protected override void EncodeBlock(ReadOnlySpan<float> values, ReadOnlySpan<float> weights, bool fast, Span<byte> block)
    {
        Span<sbyte> codes = stackalloc sbyte[Values];
        SixBitPairs.Encode(values, weights, Highest, fast, block, codes);
        for (int run = 0; run < 4; run++)
            BlockPieces.PackNibbles(codes.Slice(64 * run, 64), block.Slice(CodesAt + 32 * run, 32));
    }
}

// What Q4_K and Q5_K share: the head of the block, that is the two half scales and, packed into 12 bytes, eight pairs of
// 6-bit multipliers. The first four pairs have bytes of their own, whose top two bits complete the nibbles of the others.
internal static class SixBitPairs
{
    public const int End = PairsAt + 12;
    public const int Highest = 63;

    private const int MinimumScaleAt = 2;
    private const int PairsAt = 4;
    private const int Count = 8;
    private const int SubValues = 32;

    public static void Unpack(ReadOnlySpan<byte> block, Span<float> scales, Span<float> offsets)
    {
        float scale = BlockPieces.ReadHalf(block, 0);
        float minimumScale = BlockPieces.ReadHalf(block, MinimumScaleAt);
        ReadOnlySpan<byte> pairs = block[PairsAt..End];
        for (int index = 0; index < Count / 2; index++)
        {
            scales.Slice(2 * index, 2).Fill(scale * (pairs[index] & 63));
            offsets.Slice(2 * index, 2).Fill(-minimumScale * (pairs[index + 4] & 63));
            int multiplier = (pairs[index + 8] & 15) | (pairs[index] >> 6 << 4);
            int minimum = (pairs[index + 8] >> 4) | (pairs[index + 4] >> 6 << 4);
            scales.Slice(Count + 2 * index, 2).Fill(scale * multiplier);
            offsets.Slice(Count + 2 * index, 2).Fill(-minimumScale * minimum);
        }
    }

    // Searches, writes the head and gives the codes of all values.
    public static void Encode(ReadOnlySpan<float> values, ReadOnlySpan<float> weights, int highestCode, bool fast, Span<byte> block, Span<sbyte> codes)
    {
        Span<byte> multipliers = stackalloc byte[Count];
        Span<byte> minima = stackalloc byte[Count];
        (float scale, float minimumScale) = SuperBlock.FitOffset(values, weights, highestCode, Highest, fast, multipliers, minima);
        BlockPieces.WriteHalf(block, 0, scale);
        BlockPieces.WriteHalf(block, MinimumScaleAt, minimumScale);
        Span<byte> pairs = block[PairsAt..End];
        for (int index = 0; index < Count / 2; index++)
        {
            pairs[index] = (byte)(multipliers[index] | (multipliers[index + 4] >> 4 << 6));
            pairs[index + 4] = (byte)(minima[index] | (minima[index + 4] >> 4 << 6));
            pairs[index + 8] = (byte)((multipliers[index + 4] & 15) | ((minima[index + 4] & 15) << 4));
        }

        for (int index = 0; index < Count; index++)
        {
            OffsetSearch.Quantize(
                values.Slice(index * SubValues, SubValues), scale * multipliers[index], -minimumScale * minima[index], highestCode,
                codes[(index * SubValues)..]);
        }
    }
}
