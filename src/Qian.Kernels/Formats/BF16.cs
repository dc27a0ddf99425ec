using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace Qian.Kernels;

// The upper half of a float.
internal sealed class BF16() : BlockFormat(WeightType.BF16, "BF16", 1, 2)
{
    // The last float that rounds down to a finite value.
    public override float LargestMagnitude => BitConverter.UInt32BitsToSingle(0x7F7F7FFF);

    public override void Decode(ReadOnlySpan<byte> source, Span<float> destination)
    {
        ReadOnlySpan<ushort> halves = MemoryMarshal.Cast<byte, ushort>(source);
        int index = 0;
        for (; index <= halves.Length - 16; index += 16)
        {
            (Vector256<uint> low, Vector256<uint> high) = Vector256.Widen(Vector256.Create(halves.Slice(index, 16)));
            (low << 16).AsSingle().CopyTo(destination.Slice(index, 8));
            (high << 16).AsSingle().CopyTo(destination.Slice(index + 8, 8));
        }

        for (; index < halves.Length; index++)
            destination[index] = BitConverter.UInt32BitsToSingle((uint)halves[index] << 16);
    }

    public override void Encode(ReadOnlySpan<float> source, Span<byte> destination, ReadOnlySpan<float> importance, bool fast)
    {
        ReadOnlySpan<uint> bits = MemoryMarshal.Cast<float, uint>(source);
        Span<ushort> halves = MemoryMarshal.Cast<byte, ushort>(destination);
        int index = 0;
        for (; index <= bits.Length - 16; index += 16)
        {
            Vector256<uint> low = Round(Vector256.Create(bits.Slice(index, 8)));
            Vector256<uint> high = Round(Vector256.Create(bits.Slice(index + 8, 8)));
            Vector256.Narrow(low, high).CopyTo(halves.Slice(index, 16));
        }

        for (; index < bits.Length; index++)
            halves[index] = (ushort)Round(Vector256.CreateScalar(bits[index])).ToScalar();
    }

    // To nearest, ties to even: just under half of the last place kept, and one more where that place is odd.
    private static Vector256<uint> Round(Vector256<uint> bits) =>
        (bits + Vector256.Create(0x7FFFu) + ((bits >>> 16) & Vector256<uint>.One)) >>> 16;
}
