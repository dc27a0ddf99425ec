using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Qian.Kernels;

// Numbers shared by the vector tiers of attention.
// exp(x) = 2^n * e^r with n = round(x / ln 2), |r| <= ln 2 / 2, ln 2 split in two so that n * high is exact (n < 2^9, high has
// 15 bits), and e^r by its Taylor sum to r^7 / 7!, whose remainder (0.35^8 / 8! = 5e-9) is below float precision.
internal static class AttentionConstants
{
    public const float Lowest = -110f;
    public const float Log2E = 1.44269504f;
    public const float Ln2High = 0.693145752f;
    public const float Ln2Low = 1.42860677e-6f;
    public const float C2 = 1f / 2, C3 = 1f / 6, C4 = 1f / 24, C5 = 1f / 120, C6 = 1f / 720, C7 = 1f / 5040;

    // Sign, exponent and fraction of a half after sign extension and a shift by 13.
    public const int HalfMask = unchecked((int)0x8FFFE000);

    // 2^112, the difference of the exponent biases of half and float.
    public const float HalfRestore = 5192296858534827628530496329220096f;

    // Lane sums in one fixed order, the same for both widths: 16 lanes as two vectors of 8.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float SumLanes(Vector256<float> lower, Vector256<float> upper)
    {
        Vector256<float> eight = lower + upper;
        Vector128<float> four = eight.GetLower() + eight.GetUpper();
        return (four[0] + four[2]) + (four[1] + four[3]);
    }
}
