using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Qian.Kernels;

// The integers that a code can stand for, as seen by the search for a scale: the nearest of them to eight numbers at once.
// Each is a struct without fields, so that the search is compiled once per set and the calls vanish.
internal interface ILevels
{
    static abstract float Lowest { get; }

    static abstract float Highest { get; }

    // The nearest level; ties may fall to either side.
    static abstract Vector256<float> Nearest(Vector256<float> values);
}

// All integers of a signed code of some bits.
internal readonly struct Signed3 : ILevels
{
    public static float Lowest => -4;

    public static float Highest => 3;

    public static Vector256<float> Nearest(Vector256<float> values) => Whole.Nearest(values, Lowest, Highest);
}

internal readonly struct Signed4 : ILevels
{
    public static float Lowest => -8;

    public static float Highest => 7;

    public static Vector256<float> Nearest(Vector256<float> values) => Whole.Nearest(values, Lowest, Highest);
}

internal readonly struct Signed5 : ILevels
{
    public static float Lowest => -16;

    public static float Highest => 15;

    public static Vector256<float> Nearest(Vector256<float> values) => Whole.Nearest(values, Lowest, Highest);
}

internal readonly struct Signed6 : ILevels
{
    public static float Lowest => -32;

    public static float Highest => 31;

    public static Vector256<float> Nearest(Vector256<float> values) => Whole.Nearest(values, Lowest, Highest);
}

// −128 is left out: no writer of this type uses it, and readers may negate.
internal readonly struct Signed8 : ILevels
{
    public static float Lowest => -127;

    public static float Highest => 127;

    public static Vector256<float> Nearest(Vector256<float> values) => Whole.Nearest(values, Lowest, Highest);
}

// The four-bit float with two exponent bits and one of mantissa, doubled to whole numbers: 0, 1, 2, 3, 4, 6, 8, 12 and
// their negatives. The code's top bit is the sign.
internal readonly struct FloatE2M1 : ILevels
{
    public static float Lowest => -12;

    public static float Highest => 12;

    // Value of each code.
    public static Vector128<sbyte> Table => Vector128.Create((sbyte)0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12);

    // Steps of 1 up to 4, of 2 up to 8, of 4 above.
    public static Vector256<float> Nearest(Vector256<float> values)
    {
        Vector256<float> size = Vector256.Min(Vector256.Abs(values), Vector256.Create(12f));
        Vector256<float> ones = Vector256.Round(size);
        Vector256<float> twos = Vector256.Round(size * 0.5f) * 2;
        Vector256<float> fours = Vector256.Round(size * 0.25f) * 4;
        Vector256<float> upper = Vector256.ConditionalSelect(Vector256.LessThan(size, Vector256.Create(8f)), twos, fours);
        Vector256<float> nearest = Vector256.ConditionalSelect(Vector256.LessThan(size, Vector256.Create(4f)), ones, upper);
        return Vector256.CopySign(nearest, values);
    }
}

// The sixteen unevenly spaced levels of the IQ4 types, close together around 0 where weights are dense.
internal readonly struct DenseCentre : ILevels
{
    public static float Lowest => -127;

    public static float Highest => 113;

    // Value of each code.
    public static Vector128<sbyte> Table => Vector128.Create((sbyte)-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113);

    // Three steps down a tree of midpoints, then the level below or above the eighth: what Climbed finds, in a third of the instructions.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<float> Nearest(Vector256<float> values)
    {
        if (!Avx2.IsSupported)
            return Climbed(values);
        // A comparison that holds is −1: places count downwards from 0. Permutes read their lowest three bits, so place −n stands at 8 − n.
        Vector256<float> quarters = Vector256.Create(-93.5f, 0, 0, 0, 0, 79, 19, -28.5f);
        Vector256<float> eighths = Vector256.Create(-115.5f, 101, 61, 31.5f, 7, -16, -42, -74);
        Vector256<float> below = Vector256.Create(-127f, 89, 53, 25, 1, -22, -49, -83);
        Vector256<float> above = Vector256.Create(-104f, 113, 69, 38, 13, -10, -35, -65);
        Vector256<float> isUpper = Vector256.GreaterThan(values, Vector256.Create(-4.5f));
        Vector256<int> place = isUpper.AsInt32();
        place = place + place + Vector256.GreaterThan(values, Vector256.ConditionalSelect(isUpper, Vector256.Create(45.5f), Vector256.Create(-57f))).AsInt32();
        place = place + place + Vector256.GreaterThan(values, Avx2.PermuteVar8x32(quarters, place)).AsInt32();
        return Vector256.ConditionalSelect(
            Vector256.GreaterThan(values, Avx2.PermuteVar8x32(eighths, place)), Avx2.PermuteVar8x32(above, place), Avx2.PermuteVar8x32(below, place));
    }

    // The definition: climbs from the lowest level by the gap behind each midpoint passed.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<float> Climbed(Vector256<float> values) =>
        Vector256.Create(-127f)
        + Climb(values, -115.5f, 23) + Climb(values, -93.5f, 21) + Climb(values, -74f, 18) + Climb(values, -57f, 16)
        + Climb(values, -42f, 14) + Climb(values, -28.5f, 13) + Climb(values, -16f, 12) + Climb(values, -4.5f, 11)
        + Climb(values, 7f, 12) + Climb(values, 19f, 12) + Climb(values, 31.5f, 13) + Climb(values, 45.5f, 15)
        + Climb(values, 61f, 16) + Climb(values, 79f, 20) + Climb(values, 101f, 24);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<float> Climb(Vector256<float> values, float midpoint, float gap) =>
        Vector256.GreaterThan(values, Vector256.Create(midpoint)) & Vector256.Create(gap);
}

internal static class Whole
{
    public static Vector256<float> Nearest(Vector256<float> values, float lowest, float highest) =>
        Vector256.Min(Vector256.Max(Vector256.Round(values), Vector256.Create(lowest)), Vector256.Create(highest));
}
