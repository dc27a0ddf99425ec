using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.Arm;
using System.Runtime.Intrinsics.X86;

namespace Qian.Kernels;

/// <summary>
/// What kernels of 256 bits need beyond <see cref="Vector256"/>: one instruction of AVX2 where there is AVX2, two of 128 bits on Arm64, where the JIT
/// keeps a Vector256 in a pair of registers. So those kernels are written once for both. Every member gives the same bits on either.
/// </summary>
internal static unsafe class Registers
{
    // .NET names no such instruction for Arm: there the hardware's own prefetching has to do.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Prefetch0(void* address)
    {
        if (Sse.IsSupported)
            Sse.Prefetch0(address);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Prefetch1(void* address)
    {
        if (Sse.IsSupported)
            Sse.Prefetch1(address);
    }

    /// <summary>The first <paramref name="count"/> (1 to 7) of eight floats, zeros after them; nothing behind them is read.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<float> LoadFirst(float* from, int count)
    {
        if (Avx.IsSupported)
            return Avx.MaskLoad(from, FirstLanes(count));
        float* lanes = stackalloc float[8];
        for (int i = 0; i < 8; i++)
            lanes[i] = i < count ? from[i] : 0;
        return Vector256.Load(lanes);
    }

    /// <summary>Stores the first <paramref name="count"/> (1 to 7) lanes alone.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void StoreFirst(float* to, Vector256<float> values, int count)
    {
        if (Avx.IsSupported)
        {
            Avx.MaskStore(to, FirstLanes(count), values);
            return;
        }

        float* lanes = stackalloc float[8];
        values.Store(lanes);
        for (int i = 0; i < count; i++)
            to[i] = lanes[i];
    }

    /// <summary>a &gt; b ? a : b per lane: x86's rule, where a NaN on either side gives b.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<float> Max(Vector256<float> a, Vector256<float> b) =>
        Avx.IsSupported ? Avx.Max(a, b) : Vector256.ConditionalSelect(Vector256.GreaterThan(a, b), a, b);

    /// <summary>a &lt; b ? a : b per lane, as <see cref="Max"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<float> Min(Vector256<float> a, Vector256<float> b) =>
        Avx.IsSupported ? Avx.Min(a, b) : Vector256.ConditionalSelect(Vector256.LessThan(a, b), a, b);

    /// <summary>To the nearest integer, ties to even; for values that fit.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<int> ToInt32(Vector256<float> values) =>
        Avx.IsSupported ? Avx.ConvertToVector256Int32(values) : Vector256.ConvertToInt32(Vector256.Round(values));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<int> Widen(byte* eight) => Avx2.IsSupported
        ? Avx2.ConvertToVector256Int32(eight)
        : Vector256.WidenLower(Vector128.WidenLower(Vector128.CreateScalarUnsafe(*(ulong*)eight).AsByte()).ToVector256Unsafe()).AsInt32();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<int> Widen(sbyte* eight) => Avx2.IsSupported
        ? Avx2.ConvertToVector256Int32(eight)
        : Vector256.WidenLower(Vector128.WidenLower(Vector128.CreateScalarUnsafe(*(ulong*)eight).AsSByte()).ToVector256Unsafe());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<int> Widen(short* eight) =>
        Avx2.IsSupported ? Avx2.ConvertToVector256Int32(eight) : Vector256.WidenLower(Vector128.Load(eight).ToVector256Unsafe());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<int> Widen(ushort* eight) =>
        Avx2.IsSupported ? Avx2.ConvertToVector256Int32(eight) : Vector256.WidenLower(Vector128.Load(eight).ToVector256Unsafe()).AsInt32();

    /// <summary>Entries of a table of 16 bytes, which stands in both halves; indices are below 16.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<byte> LookUp(Vector256<byte> table, Vector256<byte> index) => Avx2.IsSupported
        ? Avx2.Shuffle(table, index)
        : Vector256.Create(Vector128.ShuffleNative(table.GetLower(), index.GetLower()), Vector128.ShuffleNative(table.GetUpper(), index.GetUpper()));

    /// <summary>Dwords from all over a table: lane i is at <paramref name="index"/>[i] times <paramref name="stride"/> (4 or 8) bytes.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<int> Gather(int* table, Vector256<int> index, byte stride)
    {
        if (Avx2.IsSupported)
            return stride == 4 ? Avx2.GatherVector256(table, index, 4) : Avx2.GatherVector256(table, index, 8);
        int* lanes = stackalloc int[8];
        index.Store(lanes);
        for (int i = 0; i < 8; i++)
            lanes[i] = *(int*)((byte*)table + (long)lanes[i] * stride);
        return Vector256.Load(lanes);
    }

    /// <summary>Each lane by its own count.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<uint> ShiftRight(Vector256<uint> values, Vector256<uint> counts)
    {
        if (Avx2.IsSupported)
            return Avx2.ShiftRightLogicalVariable(values, counts);
        // Arm shifts to the left, and to the right by negative counts.
        Vector256<int> left = -counts.AsInt32();
        return Vector256.Create(AdvSimd.ShiftLogical(values.GetLower(), left.GetLower()), AdvSimd.ShiftLogical(values.GetUpper(), left.GetUpper()));
    }

    /// <summary>32 dwords of -128 to 127 as bytes, in order.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<sbyte> Narrow(Vector256<int> a, Vector256<int> b, Vector256<int> c, Vector256<int> d)
    {
        if (!Avx2.IsSupported)
            return Vector256.Narrow(Vector256.Narrow(a, b), Vector256.Narrow(c, d));
        // The packs work within 128-bit halves; the permutation puts the dwords back into order.
        Vector256<sbyte> bytes = Avx2.PackSignedSaturate(Avx2.PackSignedSaturate(a, b), Avx2.PackSignedSaturate(c, d));
        return Avx2.PermuteVar8x32(bytes.AsInt32(), Vector256.Create(0, 4, 1, 5, 2, 6, 3, 7)).AsSByte();
    }

    /// <summary>a0 b0 a1 b1.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector128<float> ZipLow(Vector128<float> a, Vector128<float> b) => Sse.IsSupported ? Sse.UnpackLow(a, b) : AdvSimd.Arm64.ZipLow(a, b);

    /// <summary>a0 b0 a1 b1 of either half.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<float> ZipLow(Vector256<float> a, Vector256<float> b) =>
        Avx.IsSupported ? Avx.UnpackLow(a, b) : Vector256.Create(ZipLow(a.GetLower(), b.GetLower()), ZipLow(a.GetUpper(), b.GetUpper()));

    /// <summary>a2 b2 a3 b3.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector128<float> ZipHigh(Vector128<float> a, Vector128<float> b) => Sse.IsSupported ? Sse.UnpackHigh(a, b) : AdvSimd.Arm64.ZipHigh(a, b);

    /// <summary>a2 b2 a3 b3 of either half.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<float> ZipHigh(Vector256<float> a, Vector256<float> b) =>
        Avx.IsSupported ? Avx.UnpackHigh(a, b) : Vector256.Create(ZipHigh(a.GetLower(), b.GetLower()), ZipHigh(a.GetUpper(), b.GetUpper()));

    /// <summary>a0 b0.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector128<double> ZipLow(Vector128<double> a, Vector128<double> b) => Sse2.IsSupported ? Sse2.UnpackLow(a, b) : AdvSimd.Arm64.ZipLow(a, b);

    /// <summary>a0 b0 of either half.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<double> ZipLow(Vector256<double> a, Vector256<double> b) =>
        Avx.IsSupported ? Avx.UnpackLow(a, b) : Vector256.Create(ZipLow(a.GetLower(), b.GetLower()), ZipLow(a.GetUpper(), b.GetUpper()));

    /// <summary>a1 b1.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector128<double> ZipHigh(Vector128<double> a, Vector128<double> b) => Sse2.IsSupported ? Sse2.UnpackHigh(a, b) : AdvSimd.Arm64.ZipHigh(a, b);

    /// <summary>a1 b1 of either half.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<double> ZipHigh(Vector256<double> a, Vector256<double> b) =>
        Avx.IsSupported ? Avx.UnpackHigh(a, b) : Vector256.Create(ZipHigh(a.GetLower(), b.GetLower()), ZipHigh(a.GetUpper(), b.GetUpper()));

    /// <summary>The lower 128 bits of either.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<double> Lower(Vector256<double> a, Vector256<double> b) => Vector256.Create(a.GetLower(), b.GetLower());

    /// <summary>The upper 128 bits of either.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<double> Upper(Vector256<double> a, Vector256<double> b) =>
        Avx.IsSupported ? Avx.Permute2x128(a, b, 0x31) : Vector256.Create(a.GetUpper(), b.GetUpper());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<float> FirstLanes(int count) => Vector256.GreaterThan(Vector256.Create(count), Vector256<int>.Indices).AsSingle();
}
