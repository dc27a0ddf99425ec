using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Qian.Kernels;

// The types of two and three bits: pairs of bits, four steps to a plane, and for Q3_K a plane of third bits. Q3_K's codes are lifted from 4 to 32 too high, so that
// they are a case of Q6_K's kind.
internal static unsafe partial class PanelUnpackAvx512
{
    // d and dmin once, a scale and a minimum of four bits for either half of a group.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void ScalesAndMinsOfHalves(byte* head, int groupCount, in UnpackedBlock block)
    {
        Vector512<float> d = HalvesAt(head);
        Vector512<float> dmin = -HalvesAt(head + 32);
        for (int s = 0; s < 2 * groupCount; s++)
        {
            Vector512<int> both = Avx512F.ConvertToVector512Int32(Vector128.Load(head + 64 + 16 * s));
            (d * Vector512.ConvertToSingle(both & Vector512.Create(15))).Store(block.Scales + 16 * s);
            (dmin * Vector512.ConvertToSingle(both >> 4)).Store(block.Offsets + 16 * s);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Pairs(byte* source, int groupCount, byte* destination)
    {
        Vector512<byte> pair = Vector512.Create((byte)3);
        for (int i = 0; i < 2 * groupCount; i++, source += 64, destination += 256)
        {
            Prefetch(source, 64);
            Vector512<byte> four = Vector512.Load(source);
            (four & pair).Store(destination);
            (Right(four, 2) & pair).Store(destination + 64);
            (Right(four, 4) & pair).Store(destination + 128);
            (Right(four, 6) & pair).Store(destination + 192);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void PairsAndBits(byte* source, int groupCount, byte* destination)
    {
        Vector512<byte> pair = Vector512.Create((byte)3);
        Vector512<byte> bit = Vector512.Create((byte)4);
        Vector512<byte> lift = Vector512.Create(PanelLayout.ThreeBitLift);
        for (int i = 0; i < groupCount; i++, source += 192, destination += 512)
        {
            Prefetch(source, 192);
            Vector512<byte> first = Vector512.Load(source), second = Vector512.Load(source + 64);
            Vector512<byte> third = Vector512.Load(source + 128);
            ((first & pair | Left(third, 2) & bit) + lift).Store(destination);
            ((Right(first, 2) & pair | Left(third, 1) & bit) + lift).Store(destination + 64);
            ((Right(first, 4) & pair | third & bit) + lift).Store(destination + 128);
            ((Right(first, 6) & pair | Right(third, 1) & bit) + lift).Store(destination + 192);
            ((second & pair | Right(third, 2) & bit) + lift).Store(destination + 256);
            ((Right(second, 2) & pair | Right(third, 3) & bit) + lift).Store(destination + 320);
            ((Right(second, 4) & pair | Right(third, 4) & bit) + lift).Store(destination + 384);
            ((Right(second, 6) & pair | Right(third, 5) & bit) + lift).Store(destination + 448);
        }
    }
}

internal static unsafe partial class PanelUnpack256
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void ScalesAndMinsOfHalves(byte* head, int groupCount, in UnpackedBlock block)
    {
        for (int half = 0; half < 16; half += 8)
        {
            Vector256<float> d = HalvesAt(head + 2 * half);
            Vector256<float> dmin = -HalvesAt(head + 32 + 2 * half);
            for (int s = half; s < half + 32 * groupCount; s += 16)
            {
                Vector256<int> both = Registers.Widen(head + 64 + s);
                (d * Vector256.ConvertToSingle(both & Vector256.Create(15))).Store(block.Scales + s);
                (dmin * Vector256.ConvertToSingle(both >> 4)).Store(block.Offsets + s);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Pairs(byte* source, int groupCount, byte* destination)
    {
        Vector256<byte> pair = Vector256.Create((byte)3);
        for (int i = 0; i < 2 * groupCount; i++, destination += 192)
        {
            Prefetch(source, 64);
            for (int half = 0; half < 2; half++, source += 32, destination += 32)
            {
                Vector256<byte> four = Vector256.Load(source);
                (four & pair).Store(destination);
                (Right(four, 2) & pair).Store(destination + 64);
                (Right(four, 4) & pair).Store(destination + 128);
                (Right(four, 6) & pair).Store(destination + 192);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void PairsAndBits(byte* source, int groupCount, byte* destination)
    {
        Vector256<byte> pair = Vector256.Create((byte)3);
        Vector256<byte> bit = Vector256.Create((byte)4);
        Vector256<byte> lift = Vector256.Create(PanelLayout.ThreeBitLift);
        for (int i = 0; i < groupCount; i++, source += 192, destination += 512)
        {
            Prefetch(source, 192);
            for (int half = 0; half < 64; half += 32)
            {
                byte* to = destination + half;
                Vector256<byte> first = Vector256.Load(source + half), second = Vector256.Load(source + half + 64);
                Vector256<byte> third = Vector256.Load(source + half + 128);
                ((first & pair | Left(third, 2) & bit) + lift).Store(to);
                ((Right(first, 2) & pair | Left(third, 1) & bit) + lift).Store(to + 64);
                ((Right(first, 4) & pair | third & bit) + lift).Store(to + 128);
                ((Right(first, 6) & pair | Right(third, 1) & bit) + lift).Store(to + 192);
                ((second & pair | Right(third, 2) & bit) + lift).Store(to + 256);
                ((Right(second, 2) & pair | Right(third, 3) & bit) + lift).Store(to + 320);
                ((Right(second, 4) & pair | Right(third, 4) & bit) + lift).Store(to + 384);
                ((Right(second, 6) & pair | Right(third, 5) & bit) + lift).Store(to + 448);
            }
        }
    }
}
