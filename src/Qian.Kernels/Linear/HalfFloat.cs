using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Qian.Kernels;

/// <summary>
/// Half precision to single without the conversion instruction, which .NET does not expose: place exponent and mantissa, rebias by a
/// multiplication (exact, and right for subnormals), restore the sign. Infinity and NaN keep their meaning.
/// </summary>
internal static class HalfFloat
{
    private const float Rebias = 5.192296858534828e+33f; // 2^112

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> Widen(Vector256<ushort> halves)
    {
        Vector512<uint> h = Vector512.WidenLower(halves.ToVector512Unsafe());
        Vector512<uint> magnitude = h << 13 & Vector512.Create(0x0fffe000u);
        Vector512<uint> bits = (magnitude.AsSingle() * Rebias).AsUInt32();
        // All exponent bits set: 2^112 only took it to 143, so set the rest.
        bits |= Vector512.GreaterThanOrEqual(magnitude, Vector512.Create(0x0f800000u)) & Vector512.Create(0x7f800000u);
        return (bits | (h & Vector512.Create(0x8000u)) << 16).AsSingle();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<float> Widen(Vector128<ushort> halves)
    {
        Vector256<uint> h = Vector256.WidenLower(halves.ToVector256Unsafe());
        Vector256<uint> magnitude = h << 13 & Vector256.Create(0x0fffe000u);
        Vector256<uint> bits = (magnitude.AsSingle() * Rebias).AsUInt32();
        bits |= Vector256.GreaterThanOrEqual(magnitude, Vector256.Create(0x0f800000u)) & Vector256.Create(0x7f800000u);
        return (bits | (h & Vector256.Create(0x8000u)) << 16).AsSingle();
    }
}
