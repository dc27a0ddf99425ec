using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Qian.Kernels;

// The inner loops of ProductCeiling: an outer product of a few vectors loaded from the first cache with a few held in
// registers, with enough independent accumulators to hide the latency of the instruction and few enough registers that
// nothing is spilled. One operand comes from memory anew in every round, or the JIT would move the products out of the loop.
// The returned sums only keep the work alive.
internal static unsafe class ProductLoops
{
    public const int OperandBytes = 4096;

    private const int WrapMask = 15;

    // The form of C# for 8 bits: pairs to 16 bits, pairs of those to 32.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static int BytesAvx512(byte* operands, int rounds)
    {
        Vector512<int> s0 = default, s1 = default, s2 = default, s3 = default, s4 = default, s5 = default, s6 = default, s7 = default, s8 = default, s9 = default, s10 = default, s11 = default;
        Vector512<sbyte> b0 = Vector512.Load((sbyte*)operands);
        Vector512<sbyte> b1 = Vector512.Load((sbyte*)(operands + 64));
        Vector512<sbyte> b2 = Vector512.Load((sbyte*)(operands + 128));
        Vector512<sbyte> b3 = Vector512.Load((sbyte*)(operands + 192));
        Vector512<sbyte> b4 = Vector512.Load((sbyte*)(operands + 256));
        Vector512<sbyte> b5 = Vector512.Load((sbyte*)(operands + 320));
        Vector512<short> ones = Vector512<short>.One;
        for (int round = 0; round < rounds; round++)
        {
            byte* p = operands + (round & WrapMask) * 128;
            Vector512<byte> a0 = Vector512.Load(p);
            Vector512<byte> a1 = Vector512.Load(p + 64);
            s0 += Avx512BW.MultiplyAddAdjacent(Avx512BW.MultiplyAddAdjacent(a0, b0), ones);
            s1 += Avx512BW.MultiplyAddAdjacent(Avx512BW.MultiplyAddAdjacent(a0, b1), ones);
            s2 += Avx512BW.MultiplyAddAdjacent(Avx512BW.MultiplyAddAdjacent(a0, b2), ones);
            s3 += Avx512BW.MultiplyAddAdjacent(Avx512BW.MultiplyAddAdjacent(a0, b3), ones);
            s4 += Avx512BW.MultiplyAddAdjacent(Avx512BW.MultiplyAddAdjacent(a0, b4), ones);
            s5 += Avx512BW.MultiplyAddAdjacent(Avx512BW.MultiplyAddAdjacent(a0, b5), ones);
            s6 += Avx512BW.MultiplyAddAdjacent(Avx512BW.MultiplyAddAdjacent(a1, b0), ones);
            s7 += Avx512BW.MultiplyAddAdjacent(Avx512BW.MultiplyAddAdjacent(a1, b1), ones);
            s8 += Avx512BW.MultiplyAddAdjacent(Avx512BW.MultiplyAddAdjacent(a1, b2), ones);
            s9 += Avx512BW.MultiplyAddAdjacent(Avx512BW.MultiplyAddAdjacent(a1, b3), ones);
            s10 += Avx512BW.MultiplyAddAdjacent(Avx512BW.MultiplyAddAdjacent(a1, b4), ones);
            s11 += Avx512BW.MultiplyAddAdjacent(Avx512BW.MultiplyAddAdjacent(a1, b5), ones);
        }

        return Vector512.Sum(s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7 + s8 + s9 + s10 + s11);
    }

    // The same, 256 bit.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static int BytesAvx2(byte* operands, int rounds)
    {
        Vector256<int> s0 = default, s1 = default, s2 = default, s3 = default, s4 = default, s5 = default, s6 = default, s7 = default, s8 = default;
        Vector256<sbyte> b0 = Vector256.Load((sbyte*)operands);
        Vector256<sbyte> b1 = Vector256.Load((sbyte*)(operands + 32));
        Vector256<sbyte> b2 = Vector256.Load((sbyte*)(operands + 64));
        Vector256<short> ones = Vector256<short>.One;
        for (int round = 0; round < rounds; round++)
        {
            byte* p = operands + (round & WrapMask) * 96;
            Vector256<byte> a0 = Vector256.Load(p);
            Vector256<byte> a1 = Vector256.Load(p + 32);
            Vector256<byte> a2 = Vector256.Load(p + 64);
            s0 += Avx2.MultiplyAddAdjacent(Avx2.MultiplyAddAdjacent(a0, b0), ones);
            s1 += Avx2.MultiplyAddAdjacent(Avx2.MultiplyAddAdjacent(a0, b1), ones);
            s2 += Avx2.MultiplyAddAdjacent(Avx2.MultiplyAddAdjacent(a0, b2), ones);
            s3 += Avx2.MultiplyAddAdjacent(Avx2.MultiplyAddAdjacent(a1, b0), ones);
            s4 += Avx2.MultiplyAddAdjacent(Avx2.MultiplyAddAdjacent(a1, b1), ones);
            s5 += Avx2.MultiplyAddAdjacent(Avx2.MultiplyAddAdjacent(a1, b2), ones);
            s6 += Avx2.MultiplyAddAdjacent(Avx2.MultiplyAddAdjacent(a2, b0), ones);
            s7 += Avx2.MultiplyAddAdjacent(Avx2.MultiplyAddAdjacent(a2, b1), ones);
            s8 += Avx2.MultiplyAddAdjacent(Avx2.MultiplyAddAdjacent(a2, b2), ones);
        }

        return Vector256.Sum(s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7 + s8);
    }

    // Four products and their sum in one instruction; C# has it 256 bit wide, in pairs of registers on Arm64.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static int BytesSummed<TDot>(byte* operands, int rounds)
        where TDot : struct, IByteDot
    {
        Vector256<int> s0 = default, s1 = default, s2 = default, s3 = default, s4 = default, s5 = default, s6 = default, s7 = default, s8 = default;
        Vector256<sbyte> b0 = Vector256.Load((sbyte*)operands);
        Vector256<sbyte> b1 = Vector256.Load((sbyte*)(operands + 32));
        Vector256<sbyte> b2 = Vector256.Load((sbyte*)(operands + 64));
        for (int round = 0; round < rounds; round++)
        {
            byte* p = operands + (round & WrapMask) * 96;
            Vector256<byte> a0 = Vector256.Load(p);
            Vector256<byte> a1 = Vector256.Load(p + 32);
            Vector256<byte> a2 = Vector256.Load(p + 64);
            s0 = TDot.Add(s0, a0, b0);
            s1 = TDot.Add(s1, a0, b1);
            s2 = TDot.Add(s2, a0, b2);
            s3 = TDot.Add(s3, a1, b0);
            s4 = TDot.Add(s4, a1, b1);
            s5 = TDot.Add(s5, a1, b2);
            s6 = TDot.Add(s6, a2, b0);
            s7 = TDot.Add(s7, a2, b1);
            s8 = TDot.Add(s8, a2, b2);
        }

        return Vector256.Sum(s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7 + s8);
    }

    // Fused multiply-add, 512 bit.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static int FloatsAvx512(byte* operands, int rounds)
    {
        Vector512<float> s0 = default, s1 = default, s2 = default, s3 = default, s4 = default, s5 = default, s6 = default, s7 = default, s8 = default, s9 = default, s10 = default, s11 = default;
        Vector512<float> b0 = Vector512.Load((float*)operands);
        Vector512<float> b1 = Vector512.Load((float*)(operands + 64));
        Vector512<float> b2 = Vector512.Load((float*)(operands + 128));
        Vector512<float> b3 = Vector512.Load((float*)(operands + 192));
        Vector512<float> b4 = Vector512.Load((float*)(operands + 256));
        Vector512<float> b5 = Vector512.Load((float*)(operands + 320));
        for (int round = 0; round < rounds; round++)
        {
            byte* p = operands + (round & WrapMask) * 128;
            Vector512<float> a0 = Vector512.Load((float*)p);
            Vector512<float> a1 = Vector512.Load((float*)(p + 64));
            s0 = Avx512F.FusedMultiplyAdd(a0, b0, s0);
            s1 = Avx512F.FusedMultiplyAdd(a0, b1, s1);
            s2 = Avx512F.FusedMultiplyAdd(a0, b2, s2);
            s3 = Avx512F.FusedMultiplyAdd(a0, b3, s3);
            s4 = Avx512F.FusedMultiplyAdd(a0, b4, s4);
            s5 = Avx512F.FusedMultiplyAdd(a0, b5, s5);
            s6 = Avx512F.FusedMultiplyAdd(a1, b0, s6);
            s7 = Avx512F.FusedMultiplyAdd(a1, b1, s7);
            s8 = Avx512F.FusedMultiplyAdd(a1, b2, s8);
            s9 = Avx512F.FusedMultiplyAdd(a1, b3, s9);
            s10 = Avx512F.FusedMultiplyAdd(a1, b4, s10);
            s11 = Avx512F.FusedMultiplyAdd(a1, b5, s11);
        }

        return (int)Vector512.Sum(s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7 + s8 + s9 + s10 + s11);
    }

    // Fused multiply-add, 256 bit; in pairs of registers on Arm64.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static int Floats256(byte* operands, int rounds)
    {
        Vector256<float> s0 = default, s1 = default, s2 = default, s3 = default, s4 = default, s5 = default, s6 = default, s7 = default, s8 = default;
        Vector256<float> b0 = Vector256.Load((float*)operands);
        Vector256<float> b1 = Vector256.Load((float*)(operands + 32));
        Vector256<float> b2 = Vector256.Load((float*)(operands + 64));
        for (int round = 0; round < rounds; round++)
        {
            byte* p = operands + (round & WrapMask) * 96;
            Vector256<float> a0 = Vector256.Load((float*)p);
            Vector256<float> a1 = Vector256.Load((float*)(p + 32));
            Vector256<float> a2 = Vector256.Load((float*)(p + 64));
            s0 = Vector256.FusedMultiplyAdd(a0, b0, s0);
            s1 = Vector256.FusedMultiplyAdd(a0, b1, s1);
            s2 = Vector256.FusedMultiplyAdd(a0, b2, s2);
            s3 = Vector256.FusedMultiplyAdd(a1, b0, s3);
            s4 = Vector256.FusedMultiplyAdd(a1, b1, s4);
            s5 = Vector256.FusedMultiplyAdd(a1, b2, s5);
            s6 = Vector256.FusedMultiplyAdd(a2, b0, s6);
            s7 = Vector256.FusedMultiplyAdd(a2, b1, s7);
            s8 = Vector256.FusedMultiplyAdd(a2, b2, s8);
        }

        return (int)Vector256.Sum(s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7 + s8);
    }

    // What every CPU has.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static int FloatsPortable(byte* operands, int rounds)
    {
        Vector128<float> s0 = default, s1 = default, s2 = default, s3 = default, s4 = default, s5 = default, s6 = default, s7 = default, s8 = default;
        Vector128<float> b0 = Vector128.Load((float*)operands);
        Vector128<float> b1 = Vector128.Load((float*)(operands + 16));
        Vector128<float> b2 = Vector128.Load((float*)(operands + 32));
        for (int round = 0; round < rounds; round++)
        {
            byte* p = operands + (round & WrapMask) * 48;
            Vector128<float> a0 = Vector128.Load((float*)p);
            Vector128<float> a1 = Vector128.Load((float*)(p + 16));
            Vector128<float> a2 = Vector128.Load((float*)(p + 32));
            s0 = Vector128.MultiplyAddEstimate(a0, b0, s0);
            s1 = Vector128.MultiplyAddEstimate(a0, b1, s1);
            s2 = Vector128.MultiplyAddEstimate(a0, b2, s2);
            s3 = Vector128.MultiplyAddEstimate(a1, b0, s3);
            s4 = Vector128.MultiplyAddEstimate(a1, b1, s4);
            s5 = Vector128.MultiplyAddEstimate(a1, b2, s5);
            s6 = Vector128.MultiplyAddEstimate(a2, b0, s6);
            s7 = Vector128.MultiplyAddEstimate(a2, b1, s7);
            s8 = Vector128.MultiplyAddEstimate(a2, b2, s8);
        }

        return (int)Vector128.Sum(s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7 + s8);
    }

    // Widened by hand where there is no instruction for it.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static int BytesPortable(byte* operands, int rounds)
    {
        Vector128<int> s0 = default, s1 = default, s2 = default, s3 = default;
        Vector128<short> b0 = Vector128.Load((short*)operands), b1 = Vector128.Load((short*)(operands + 16));
        for (int round = 0; round < rounds; round++)
        {
            byte* p = operands + (round & WrapMask) * 32;
            Vector128<sbyte> a0 = Vector128.Load((sbyte*)p), a1 = Vector128.Load((sbyte*)(p + 16));
            Vector128<short> p0 = Vector128.WidenLower(a0) * b0, p1 = Vector128.WidenUpper(a0) * b1;
            Vector128<short> p2 = Vector128.WidenLower(a1) * b0, p3 = Vector128.WidenUpper(a1) * b1;
            s0 += Vector128.WidenLower(p0) + Vector128.WidenUpper(p0);
            s1 += Vector128.WidenLower(p1) + Vector128.WidenUpper(p1);
            s2 += Vector128.WidenLower(p2) + Vector128.WidenUpper(p2);
            s3 += Vector128.WidenLower(p3) + Vector128.WidenUpper(p3);
        }

        return Vector128.Sum(s0 + s1 + s2 + s3);
    }
}
