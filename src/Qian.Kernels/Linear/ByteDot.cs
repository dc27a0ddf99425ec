using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.Arm;
using System.Runtime.Intrinsics.X86;

namespace Qian.Kernels;

/// <summary>An instruction that multiplies bytes and adds up every four neighbouring products in 32 bits: what <see cref="IntegerDotBytes{TDot}"/> is made of.</summary>
internal interface IByteDot
{
    /// <summary>Weights are taken as signed bytes: those of whole bytes have 128 taken off first, by turning over their top bit.</summary>
    static abstract bool IsSigned { get; }

    static abstract Vector256<int> Add(Vector256<int> sum, Vector256<byte> weights, Vector256<sbyte> activations);
}

/// <summary>vpdpbusd.</summary>
internal readonly struct VnniDot : IByteDot
{
    public static bool IsSigned => false;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<int> Add(Vector256<int> sum, Vector256<byte> weights, Vector256<sbyte> activations) =>
        AvxVnni.MultiplyWideningAndAdd(sum, weights, activations);
}

/// <summary>sdot; on CPUs from before it (ARMv8.0) products of 16 bits, added up pairwise twice.</summary>
internal readonly struct ArmDot : IByteDot
{
    public static bool IsSigned => true;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<int> Add(Vector256<int> sum, Vector256<byte> weights, Vector256<sbyte> activations) => Vector256.Create(
        Add(sum.GetLower(), weights.GetLower().AsSByte(), activations.GetLower()),
        Add(sum.GetUpper(), weights.GetUpper().AsSByte(), activations.GetUpper()));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector128<int> Add(Vector128<int> sum, Vector128<sbyte> weights, Vector128<sbyte> activations)
    {
        if (Dp.IsSupported)
            return Dp.DotProduct(sum, weights, activations);
        Vector128<short> low = AdvSimd.MultiplyWideningLower(weights.GetLower(), activations.GetLower());
        Vector128<short> high = AdvSimd.MultiplyWideningUpper(weights, activations);
        return sum + AdvSimd.Arm64.AddPairwise(AdvSimd.AddPairwiseWidening(low), AdvSimd.AddPairwiseWidening(high));
    }
}
