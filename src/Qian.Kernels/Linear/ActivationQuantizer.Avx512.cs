using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Qian.Kernels;

internal static unsafe partial class ActivationQuantizer
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void RowAvx512(float* x, float* destination, int width, int groupCount)
    {
        int* dwords = stackalloc int[8];
        Vector512<int> magnitude = Vector512.Create(0x7fffffff);
        for (int group = 0; group < groupCount; group++, x += 32, destination += ActivationTiles.GroupDwords * width)
        {
            Vector512<float> a = Vector512.Load(x);
            Vector512<float> b = Vector512.Load(x + 16);
            Vector512<int> largest = Vector512.Max(a.AsInt32() & magnitude, b.AsInt32() & magnitude);
            Vector256<int> half = Vector256.Max(largest.GetLower(), largest.GetUpper());
            float inverse = Scales(Largest(Vector128.Max(half.GetLower(), half.GetUpper())), out float scale);
            if (inverse == 0)
            {
                Vector256<int>.Zero.Store(dwords);
                Store(destination, width, scale, 0, 0, dwords);
                continue;
            }

            Vector512<int> low = Avx512F.ConvertToVector512Int32(a * inverse);
            Vector512<int> high = Avx512F.ConvertToVector512Int32(b * inverse);
            Avx512F.ConvertToVector128SByte(low).AsInt32().Store(dwords);
            Avx512F.ConvertToVector128SByte(high).AsInt32().Store(dwords + 4);
            Store(destination, width, scale, Vector512.Sum(low), Vector512.Sum(high), dwords);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int Largest(Vector128<int> v)
    {
        v = Vector128.Max(v, Vector128.Shuffle(v, Vector128.Create(2, 3, 0, 1)));
        return Vector128.Max(v, Vector128.Shuffle(v, Vector128.Create(1, 0, 3, 2))).ToScalar();
    }
}
