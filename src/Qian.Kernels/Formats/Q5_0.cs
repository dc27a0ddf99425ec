using System.Buffers.Binary;
using System.Runtime.Intrinsics;

namespace Qian.Kernels;

// 32 values: half d, 32 fifth bits (bit j belongs to value j), 16 bytes of low bits as in Q4_0; value = d * (code − 16).
internal sealed class Q5_0() : QuantFormat(WeightType.Q5_0, "Q5_0", Values, CodesAt + Values / 2)
{
    private const int Values = 32;
    private const int HighBitsAt = 2;
    private const int CodesAt = 6;
    private const sbyte Zero = 16;

    public override float LargestMagnitude => BlockPieces.LargestHalf * Zero;

    protected override void UnpackBlock(ReadOnlySpan<byte> block, Span<sbyte> quants, Span<float> scales, Span<float> offsets)
    {
        scales[..2].Fill(BlockPieces.ReadHalf(block, 0));
        FiveBits.Unpack(block[HighBitsAt..], block[CodesAt..], Zero, quants);
    }

    protected override void EncodeBlock(ReadOnlySpan<float> values, ReadOnlySpan<float> weights, bool fast, Span<byte> block)
    {
        float scale = BlockPieces.RoundScaleToHalf(ScaleSearch.Fit<Signed5>(values, weights, fast));
        if (scale == 0)
            return;
        Span<sbyte> codes = stackalloc sbyte[Values];
        ScaleSearch.Quantize<Signed5>(values, scale, codes);
        foreach (ref sbyte code in codes)
            code += Zero;
        BlockPieces.WriteHalf(block, 0, scale);
        FiveBits.Pack(codes, block[HighBitsAt..], block[CodesAt..]);
    }
}

// Five-bit codes split into a nibble and a bit, for Q5_0 and Q5_1.
internal static class FiveBits
{
    public static void Unpack(ReadOnlySpan<byte> highBits, ReadOnlySpan<byte> nibbles, sbyte zero, Span<sbyte> quants)
    {
        uint bits = BinaryPrimitives.ReadUInt32LittleEndian(highBits);
        Vector128<byte> bytes = BlockPieces.Load(nibbles, 0);
        Vector128<byte> fifth = Vector128.Create((byte)16);
        Vector128<byte> subtracted = Vector128.Create((byte)zero);
        BlockPieces.Store((BlockPieces.LowNibbles(bytes) | (BlockPieces.Spread((ushort)(bits & 0xFFFF)) & fifth)) - subtracted, quants, 0);
        BlockPieces.Store((BlockPieces.HighNibbles(bytes) | (BlockPieces.Spread((ushort)(bits >> 16)) & fifth)) - subtracted, quants, 16);
    }

    public static void Pack(ReadOnlySpan<sbyte> codes, Span<byte> highBits, Span<byte> nibbles)
    {
        uint bits = 0;
        for (int index = 0; index < codes.Length; index++)
            bits |= (uint)(codes[index] >> 4) << index;
        BinaryPrimitives.WriteUInt32LittleEndian(highBits, bits);
        BlockPieces.PackNibbles(codes, nibbles);
    }
}
