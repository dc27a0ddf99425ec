using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace Qian.Kernels;

// The IEEE half float.
internal sealed class F16() : BlockFormat(WeightType.F16, "F16", 1, 2)
{
    // Half has a 5-bit exponent biased by 15, float an 8-bit one biased by 127.
    private const int MantissaShift = 13;
    private const float ExponentFactor = 5192296858534827628530496329220096f; // 2^(127 - 15)

    // The last float that rounds down to a finite value.
    public override float LargestMagnitude => BitConverter.UInt32BitsToSingle(0x477FEFFF);

    public override void Decode(ReadOnlySpan<byte> source, Span<float> destination)
    {
        ReadOnlySpan<ushort> halves = MemoryMarshal.Cast<byte, ushort>(source);
        int index = 0;
        for (; index <= halves.Length - 16; index += 16)
        {
            (Vector256<uint> low, Vector256<uint> high) = Vector256.Widen(Vector256.Create(halves.Slice(index, 16)));
            Widen(low).CopyTo(destination.Slice(index, 8));
            Widen(high).CopyTo(destination.Slice(index + 8, 8));
        }

        for (; index < halves.Length; index++)
            destination[index] = (float)BitConverter.UInt16BitsToHalf(halves[index]);
    }

    public override void Encode(ReadOnlySpan<float> source, Span<byte> destination, ReadOnlySpan<float> importance, bool fast)
    {
        Span<Half> halves = MemoryMarshal.Cast<byte, Half>(destination);
        for (int index = 0; index < source.Length; index++)
            halves[index] = (Half)source[index];
    }

    // Exponent and mantissa moved to their places make a float that is too small by a fixed power of two, subnormals
    // included; the multiplication is exact. The exponent of infinities and NaNs is filled by hand.
    private static Vector256<float> Widen(Vector256<uint> half)
    {
        Vector256<uint> size = half & Vector256.Create(0x7FFFu);
        Vector256<uint> scaled = ((size << MantissaShift).AsSingle() * ExponentFactor).AsUInt32();
        Vector256<uint> special = Vector256.GreaterThan(size, Vector256.Create(0x7BFFu)) & Vector256.Create(0x7F800000u);
        Vector256<uint> sign = (half & Vector256.Create(0x8000u)) << 16;
        return (scaled | special | sign).AsSingle();
    }
}
