using System.Runtime.Intrinsics;

namespace Qian.Kernels;

// 256 values in 16 sub-blocks of 16: 128 bytes of low nibbles, 64 bytes of high bit pairs, 16 signed multipliers, half d.
// Value = d * multiplier * (code − 32). In each half of 128 values, 64 bytes hold values 0 … 63 in their low and
// 64 … 127 in their high nibbles, and the pairs of 32 bytes, lowest first, belong to four runs of 32 values.
internal sealed class Q6_K() : QuantFormat(WeightType.Q6_K, "Q6_K", Values, ScaleAt + 2)
{
    private const int Values = 256;
    private const int SubBlocks = 16;
    private const int HighPairsAt = Values / 2;
    private const int MultipliersAt = HighPairsAt + Values / 4;
    private const int ScaleAt = MultipliersAt + SubBlocks;
    private const int LowestMultiplier = -128;
    private const sbyte Zero = 32;

    public override float LargestMagnitude => BlockPieces.LargestHalf * -LowestMultiplier * (Zero - 1);

    protected override void UnpackBlock(ReadOnlySpan<byte> block, Span<sbyte> quants, Span<float> scales, Span<float> offsets)
    {
        float scale = BlockPieces.ReadHalf(block, ScaleAt);
        for (int index = 0; index < SubBlocks; index++)
            scales[index] = scale * unchecked((sbyte)block[MultipliersAt + index]);

        Vector128<byte> three = Vector128.Create((byte)3);
        Vector128<byte> zero = Vector128.Create((byte)Zero);
        for (int half = 0; half < 2; half++)
        {
            for (int part = 0; part < 32; part += 16)
            {
                Vector128<byte> pairs = BlockPieces.Load(block, HighPairsAt + 32 * half + part);
                Vector128<byte> even = BlockPieces.Load(block, 64 * half + part);
                Vector128<byte> odd = BlockPieces.Load(block, 64 * half + 32 + part);
                int first = 128 * half + part;
                BlockPieces.Store((BlockPieces.LowNibbles(even) | ((pairs & three) << 4)) - zero, quants, first);
                BlockPieces.Store((BlockPieces.LowNibbles(odd) | (((pairs >>> 2) & three) << 4)) - zero, quants, first + 32);
                BlockPieces.Store((BlockPieces.HighNibbles(even) | (((pairs >>> 4) & three) << 4)) - zero, quants, first + 64);
                BlockPieces.Store((BlockPieces.HighNibbles(odd) | ((pairs >>> 6) << 4)) - zero, quants, first + 96);
            }
        }
    }

    protected override void EncodeBlock(ReadOnlySpan<float> values, ReadOnlySpan<float> weights, bool fast, Span<byte> block)
    {
        Span<sbyte> multipliers = stackalloc sbyte[SubBlocks];
        float scale = SuperBlock.FitSigned<Signed6>(values, weights, LowestMultiplier, fast, multipliers);
        if (scale == 0)
            return;
        Span<sbyte> codes = stackalloc sbyte[Values];
        for (int index = 0; index < SubBlocks; index++)
        {
            ScaleSearch.Quantize<Signed6>(values.Slice(index * 16, 16), scale * multipliers[index], codes[(index * 16)..]);
            block[MultipliersAt + index] = unchecked((byte)multipliers[index]);
        }

        Vector128<byte> zero = Vector128.Create((byte)Zero), low = Vector128.Create((byte)15);
        for (int half = 0; half < 2; half++)
        {
            for (int part = 0; part < 32; part += 16)
            {
                int first = 128 * half + part;
                Vector128<byte> a = Vector128.Create<sbyte>(codes.Slice(first, 16)).AsByte() + zero, b = Vector128.Create<sbyte>(codes.Slice(first + 32, 16)).AsByte() + zero;
                Vector128<byte> c = Vector128.Create<sbyte>(codes.Slice(first + 64, 16)).AsByte() + zero, d = Vector128.Create<sbyte>(codes.Slice(first + 96, 16)).AsByte() + zero;
                ((a & low) | (c << 4)).CopyTo(block.Slice(64 * half + part, 16));
                ((b & low) | (d << 4)).CopyTo(block.Slice(64 * half + 32 + part, 16));
                ((a >>> 4) | ((b >>> 4) << 2) | ((c >>> 4) << 4) | ((d >>> 4) << 6)).CopyTo(block.Slice(HighPairsAt + 32 * half + part, 16));
            }
        }

        BlockPieces.WriteHalf(block, ScaleAt, scale);
    }
}
