using System.Buffers.Binary;

namespace Qian.Kernels;

// 256 values in 8 sub-blocks of 32: half d, 16 bits with the high pairs and 4 bytes with the low nibbles of eight 6-bit
// multipliers, 128 bytes of codes. Value = d * (multiplier − 32) * level of the code, the levels of IQ4_NL.
internal sealed class IQ4_XS() : QuantFormat(WeightType.IQ4_XS, "IQ4_XS", Values, CodesAt + Values / 2)
{
    private const int Values = 256;
    private const int SubBlocks = 8;
    private const int SubValues = 32;
    private const int HighPairsAt = 2;
    private const int LowNibblesAt = 4;
    private const int CodesAt = 8;
    private const int LowestMultiplier = -32;

    public override float LargestMagnitude => BlockPieces.LargestHalf * -LowestMultiplier * 113;

    protected override void UnpackBlock(ReadOnlySpan<byte> block, Span<sbyte> quants, Span<float> scales, Span<float> offsets)
    {
        float scale = BlockPieces.ReadHalf(block, 0);
        int highPairs = BinaryPrimitives.ReadUInt16LittleEndian(block[HighPairsAt..]);
        for (int index = 0; index < SubBlocks; index++)
        {
            int low = (block[LowNibblesAt + index / 2] >> (index % 2 * 4)) & 15;
            int high = (highPairs >> (2 * index)) & 3;
            scales.Slice(2 * index, 2).Fill(scale * ((low | (high << 4)) + LowestMultiplier));
            LevelTable.Unpack(block.Slice(CodesAt + 16 * index, 16), DenseCentre.Table, quants[(SubValues * index)..]);
        }
    }

    protected override void EncodeBlock(ReadOnlySpan<float> values, ReadOnlySpan<float> weights, bool fast, Span<byte> block)
    {
        Span<sbyte> multipliers = stackalloc sbyte[SubBlocks];
        float scale = SuperBlock.FitSigned<DenseCentre>(values, weights, LowestMultiplier, fast, multipliers);
        if (scale == 0)
            return;
        Span<sbyte> levels = stackalloc sbyte[SubValues];
        int highPairs = 0;
        for (int index = 0; index < SubBlocks; index++)
        {
            int stored = multipliers[index] - LowestMultiplier;
            block[LowNibblesAt + index / 2] |= (byte)((stored & 15) << (index % 2 * 4));
            highPairs |= stored >> 4 << (2 * index);
            ScaleSearch.Quantize<DenseCentre>(values.Slice(SubValues * index, SubValues), scale * multipliers[index], levels);
            LevelTable.Pack(levels, DenseCentre.Table, block.Slice(CodesAt + 16 * index, 16));
        }

        BlockPieces.WriteHalf(block, 0, scale);
        BinaryPrimitives.WriteUInt16LittleEndian(block[HighPairsAt..], (ushort)highPairs);
    }
}
