using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Qian.Kernels;

/// <summary>
/// What a dword of a packed panel holds and how eight of them are made from floats at once. Counts say how many floats may be read, from zero or
/// fewer up; the rest are zeros, and nothing past them is touched.
/// </summary>
internal unsafe interface IPackedValue
{
    /// <summary>k per dword.</summary>
    static abstract int Depth { get; }

    /// <summary>Eight dwords along K of one lane; K is contiguous and <paramref name="count"/> values of it are left.</summary>
    static abstract Vector256<uint> AlongInner(float* from, int count);

    /// <summary>One dword of eight lanes; lanes are contiguous and <paramref name="lanes"/> of them left, <paramref name="count"/> of K.</summary>
    static abstract Vector256<uint> AlongLanes(float* from, long innerStride, int count, int lanes);

    /// <summary>One dword of one lane.</summary>
    static abstract uint Single(float* from, long innerStride, int count);
}

/// <summary>A dword is a float.</summary>
internal readonly unsafe struct SingleFloats : IPackedValue
{
    public static int Depth => 1;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<uint> AlongInner(float* from, int count) => FirstFloats(from, count);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<uint> AlongLanes(float* from, long innerStride, int count, int lanes) => FirstFloats(from, lanes);

    public static uint Single(float* from, long innerStride, int count) => *(uint*)from;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static Vector256<uint> FirstFloats(float* from, int count)
    {
        if (count >= 8)
            return Vector256.Load((uint*)from);
        if (count <= 0)
            return default;
        return Registers.LoadFirst(from, count).AsUInt32();
    }
}

/// <summary>A dword is two bfloat16 of neighbouring k, the first in the low half: the pairs that vdpbf16ps multiplies.</summary>
internal readonly unsafe struct BrainPairs : IPackedValue
{
    public static int Depth => 2;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<uint> AlongInner(float* from, int count)
    {
        Vector256<uint> low = Round(SingleFloats.FirstFloats(from, count)), high = Round(SingleFloats.FirstFloats(from + 8, count - 8));
        // Packs within 128-bit halves, so the middle quarters change places afterwards.
        return Avx2.Permute4x64(Avx2.PackUnsignedSaturate(low.AsInt32(), high.AsInt32()).AsUInt64(), 0b11_01_10_00).AsUInt32();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<uint> AlongLanes(float* from, long innerStride, int count, int lanes)
    {
        Vector256<uint> first = Round(SingleFloats.FirstFloats(from, lanes));
        return count < 2 ? first : first | Round(SingleFloats.FirstFloats(from + innerStride, lanes)) << 16;
    }

    public static uint Single(float* from, long innerStride, int count) =>
        Round(*(uint*)from) | (count < 2 ? 0 : Round(*(uint*)(from + innerStride)) << 16);

    // To the upper 16 bits, ties to even; a NaN stays one (rounding up could carry it into infinity or the sign).
    private static uint Round(uint bits) =>
        (bits & 0x7FFF_FFFF) > 0x7F80_0000 ? bits >> 16 | 0x40 : unchecked(bits + 0x7FFF + (bits >> 16 & 1)) >> 16;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<uint> Round(Vector256<uint> bits)
    {
        Vector256<uint> upper = bits >> 16;
        Vector256<uint> rounded = (bits + Vector256.Create(0x7FFFu) + (upper & Vector256<uint>.One)) >> 16;
        Vector256<float> isNumber = Vector256.Equals(bits.AsSingle(), bits.AsSingle());
        return Vector256.ConditionalSelect(isNumber.AsUInt32(), rounded, upper | Vector256.Create(0x40u));
    }
}
