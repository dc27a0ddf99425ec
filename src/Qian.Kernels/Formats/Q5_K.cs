using System.Runtime.Intrinsics;

namespace Qian.Kernels;

// As Q4_K, with 32 bytes of fifth bits between head and codes: bit s of byte l belongs to value l of sub-block s.
internal sealed class Q5_K() : QuantFormat(WeightType.Q5_K, "Q5_K", Values, CodesAt + Values / 2)
{
    private const int Values = 256;
    private const int SubValues = 32;
    private const int FifthBitsAt = SixBitPairs.End;
    private const int CodesAt = FifthBitsAt + SubValues;
    private const int Highest = 31;

    public override bool HasOffsets => true;

    public override float LargestMagnitude => BlockPieces.LargestHalf * SixBitPairs.Highest;

    protected override void UnpackBlock(ReadOnlySpan<byte> block, Span<sbyte> quants, Span<float> scales, Span<float> offsets)
    {
        SixBitPairs.Unpack(block, scales, offsets);
        Vector128<byte> one = Vector128<byte>.One;
        for (int position = 0; position < Values / 2; position += 16)
        {
            Vector128<byte> bytes = BlockPieces.Load(block, CodesAt + position);
            Vector128<byte> bits = BlockPieces.Load(block, FifthBitsAt + position % SubValues) >>> (position / SubValues * 2);
            int first = position / SubValues * 64 + position % SubValues;
            BlockPieces.Store(BlockPieces.LowNibbles(bytes) | ((bits & one) << 4), quants, first);
            BlockPieces.Store(BlockPieces.HighNibbles(bytes) | (((bits >>> 1) & one) << 4), quants, first + SubValues);
        }
    }

    protected override void EncodeBlock(ReadOnlySpan<float> values, ReadOnlySpan<float> weights, bool fast, Span<byte> block)
    {
        Span<sbyte> codes = stackalloc sbyte[Values];
        SixBitPairs.Encode(values, weights, Highest, fast, block, codes);
        for (int position = 0; position < SubValues; position += 16)
        {
            Vector128<byte> bits = Vector128<byte>.Zero;
            for (int sub = 0; sub < Values / SubValues; sub++)
                bits |= (Vector128.Create<sbyte>(codes.Slice(sub * SubValues + position, 16)).AsByte() >>> 4) << sub;
            bits.CopyTo(block.Slice(FifthBitsAt + position, 16));
        }

        for (int run = 0; run < 4; run++)
            BlockPieces.PackNibbles(codes.Slice(64 * run, 64), block.Slice(CodesAt + 32 * run, 32));
    }
}
