using System.Runtime.Intrinsics;

namespace Qian.Kernels;

// 256 values in 16 sub-blocks of 16: 32 bytes of third bits (bit r of byte l belongs to value 32 r + l), 64 bytes of 2-bit
// codes as in Q2_K, 12 bytes with sixteen 6-bit multipliers, half d. Value = d * (multiplier − 32) * (code − 4).
internal sealed class Q3_K() : QuantFormat(WeightType.Q3_K, "Q3_K", TwoBits.Values, ScaleAt + 2)
{
    private const int ThirdBitBytes = 32;
    private const int CodesAt = ThirdBitBytes;
    private const int MultipliersAt = CodesAt + TwoBits.Bytes;
    private const int ScaleAt = MultipliersAt + 12;
    private const int LowestMultiplier = -32;
    private const sbyte Zero = 4;

    public override float LargestMagnitude => BlockPieces.LargestHalf * -LowestMultiplier * 3;

    protected override void UnpackBlock(ReadOnlySpan<byte> block, Span<sbyte> quants, Span<float> scales, Span<float> offsets)
    {
        float scale = BlockPieces.ReadHalf(block, ScaleAt);
        ReadOnlySpan<byte> multipliers = block.Slice(MultipliersAt, 12);
        for (int index = 0; index < TwoBits.SubBlocks; index++)
        {
            // Low four bits: a nibble of the first eight bytes. High two: a pair of the last four, four at each shift.
            int low = (multipliers[index % 8] >> (index / 8 * 4)) & 15;
            int high = (multipliers[8 + index % 4] >> (index / 4 * 2)) & 3;
            scales[index] = scale * ((low | (high << 4)) + LowestMultiplier);
        }

        TwoBits.Unpack(block.Slice(CodesAt, TwoBits.Bytes), quants);
        Vector128<byte> one = Vector128<byte>.One;
        Vector128<byte> zero = Vector128.Create((byte)Zero);
        for (int position = 0; position < ThirdBitBytes; position += 16)
        {
            Vector128<byte> bits = BlockPieces.Load(block, position);
            for (int run = 0; run < 8; run++)
            {
                Span<sbyte> part = quants.Slice(position + ThirdBitBytes * run, 16);
                Vector128<byte> low = Vector128.Create<sbyte>(part).AsByte();
                Vector128<byte> third = ((bits >>> run) & one) << 2;
                BlockPieces.Store((low | third) - zero, part, 0);
            }
        }
    }

    protected override void EncodeBlock(ReadOnlySpan<float> values, ReadOnlySpan<float> weights, bool fast, Span<byte> block)
    {
        Span<sbyte> multipliers = stackalloc sbyte[TwoBits.SubBlocks];
        float scale = SuperBlock.FitSigned<Signed3>(values, weights, LowestMultiplier, fast, multipliers);
        if (scale == 0)
            return;
        Span<sbyte> codes = stackalloc sbyte[TwoBits.Values];
        for (int index = 0; index < TwoBits.SubBlocks; index++)
        {
            ScaleSearch.Quantize<Signed3>(values.Slice(index * 16, 16), scale * multipliers[index], codes[(index * 16)..]);
            int stored = multipliers[index] - LowestMultiplier;
            block[MultipliersAt + index % 8] |= (byte)((stored & 15) << (index / 8 * 4));
            block[MultipliersAt + 8 + index % 4] |= (byte)((stored >> 4) << (index / 4 * 2));
        }

        Vector128<byte> zero = Vector128.Create((byte)Zero);
        for (int position = 0; position < ThirdBitBytes; position += 16)
        {
            Vector128<byte> bits = Vector128<byte>.Zero;
            for (int run = 0; run < 8; run++)
            {
                Span<sbyte> part = codes.Slice(position + ThirdBitBytes * run, 16);
                Vector128<byte> code = Vector128.Create<sbyte>(part).AsByte() + zero;
                code.AsSByte().CopyTo(part);
                bits |= (code >>> 2) << run;
            }

            bits.CopyTo(block.Slice(position, 16));
        }

        TwoBits.Pack(codes, block.Slice(CodesAt, TwoBits.Bytes));
        BlockPieces.WriteHalf(block, ScaleAt, scale);
    }
}
