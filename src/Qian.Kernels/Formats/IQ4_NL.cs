using System.Runtime.Intrinsics;

namespace Qian.Kernels;

// 32 values: half d, 16 bytes of codes as in Q4_0; value = d * level of the code, from a fixed table of 16.
internal sealed class IQ4_NL() : QuantFormat(WeightType.IQ4_NL, "IQ4_NL", Values, CodesAt + Values / 2)
{
    private const int Values = 32;
    private const int CodesAt = 2;

    public override float LargestMagnitude => BlockPieces.LargestHalf * 127;

    protected override void UnpackBlock(ReadOnlySpan<byte> block, Span<sbyte> quants, Span<float> scales, Span<float> offsets)
    {
        scales[..2].Fill(BlockPieces.ReadHalf(block, 0));
        LevelTable.Unpack(block[CodesAt..], DenseCentre.Table, quants);
    }

    protected override void EncodeBlock(ReadOnlySpan<float> values, ReadOnlySpan<float> weights, bool fast, Span<byte> block)
    {
        float scale = BlockPieces.RoundScaleToHalf(ScaleSearch.Fit<DenseCentre>(values, weights, fast));
        // No level is 0: where the least scale is too large for the values, zeros are nearer.
        if (ScaleSearch.Error<DenseCentre>(values, weights, scale) >= ScaleSearch.Error<DenseCentre>(values, weights, 0))
            return;
        Span<sbyte> levels = stackalloc sbyte[Values];
        ScaleSearch.Quantize<DenseCentre>(values, scale, levels);
        BlockPieces.WriteHalf(block, 0, scale);
        LevelTable.Pack(levels, DenseCentre.Table, block[CodesAt..]);
    }
}

// 32 codes of four bits that choose from a table of 16 levels.
internal static class LevelTable
{
    public static void Unpack(ReadOnlySpan<byte> nibbles, Vector128<sbyte> table, Span<sbyte> quants)
    {
        Vector128<byte> bytes = BlockPieces.Load(nibbles, 0);
        BlockPieces.Store(Vector128.Shuffle(table.AsByte(), BlockPieces.LowNibbles(bytes)), quants, 0);
        BlockPieces.Store(Vector128.Shuffle(table.AsByte(), BlockPieces.HighNibbles(bytes)), quants, 16);
    }

    // Replaces levels by their codes and packs these. A level that stands twice (0 and −0) gets its first code.
    public static void Pack(Span<sbyte> levels, Vector128<sbyte> table, Span<byte> nibbles)
    {
        foreach (ref sbyte level in levels)
        {
            uint matches = Vector128.Equals(table, Vector128.Create(level)).ExtractMostSignificantBits();
            level = (sbyte)uint.TrailingZeroCount(matches);
        }

        BlockPieces.PackNibbles(levels, nibbles);
    }
}
