using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace Qian.Weights;

// Turns random bytes in place into floats spread evenly around 0 with a given standard deviation.
internal static class RandomFloats
{
    // A number spread evenly over (-1, 1) times this has deviation 1.
    private static readonly double s_halfWidth = Math.Sqrt(3);

    public static void ToSingle(Span<byte> bytes, double deviation)
    {
        float factor = (float)(deviation * s_halfWidth / 2147483648.0);
        Span<Vector256<int>> vectors = MemoryMarshal.Cast<byte, Vector256<int>>(bytes);
        foreach (ref Vector256<int> vector in vectors)
            vector = (Vector256.ConvertToSingle(vector) * factor).AsInt32();
        foreach (ref int value in MemoryMarshal.Cast<byte, int>(bytes[(vectors.Length * Vector256<byte>.Count)..]))
            value = BitConverter.SingleToInt32Bits(value * factor);
    }

    public static void ToBFloat(Span<byte> bytes, double deviation) => ToSixteenBits(bytes, deviation, half: false);

    public static void ToHalf(Span<byte> bytes, double deviation) => ToSixteenBits(bytes, deviation, half: true);

    private static void ToSixteenBits(Span<byte> bytes, double deviation, bool half)
    {
        float factor = (float)(deviation * s_halfWidth / 32768.0);
        Span<Vector256<short>> vectors = MemoryMarshal.Cast<byte, Vector256<short>>(bytes);
        foreach (ref Vector256<short> vector in vectors)
            vector = Convert(vector, factor, half);
        Span<byte> rest = bytes[(vectors.Length * Vector256<byte>.Count)..];
        if (rest.IsEmpty)
            return;
        Span<Vector256<short>> last = [default];
        Span<byte> lastBytes = MemoryMarshal.AsBytes(last);
        rest.CopyTo(lastBytes);
        last[0] = Convert(last[0], factor, half);
        lastBytes[..rest.Length].CopyTo(rest);
    }

    private static Vector256<short> Convert(Vector256<short> integers, float factor, bool half)
    {
        (Vector256<int> low, Vector256<int> high) = Vector256.Widen(integers);
        Vector256<uint> first = (Vector256.ConvertToSingle(low) * factor).AsUInt32();
        Vector256<uint> second = (Vector256.ConvertToSingle(high) * factor).AsUInt32();
        return half
            ? Vector256.Narrow(HalfBits(first), HalfBits(second)).AsInt16()
            : Vector256.Narrow(first >>> 16, second >>> 16).AsInt16();
    }

    // Magnitudes below 2^16, cut and not rounded. Multiplied by 2^-112 a float has a half's exponent, subnormals included.
    private static Vector256<uint> HalfBits(Vector256<uint> single)
    {
        Vector256<uint> magnitude = ((single & Vector256.Create(0x7FFFFFFFu)).AsSingle() * BitConverter.Int32BitsToSingle((127 - 112) << 23)).AsUInt32();
        return (magnitude >>> 13) | ((single >>> 16) & Vector256.Create(0x8000u));
    }
}
