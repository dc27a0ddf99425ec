using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Qian.Kernels;

internal static unsafe partial class ActivationQuantizer
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void RowAvx2(float* x, float* destination, int width, int groupCount)
    {
        int* dwords = stackalloc int[8];
        Vector256<int> magnitude = Vector256.Create(0x7fffffff);
        Vector256<int> order = Vector256.Create(0, 4, 1, 5, 2, 6, 3, 7);
        for (int group = 0; group < groupCount; group++, x += 32, destination += ActivationTiles.GroupDwords * width)
        {
            Vector256<float> a = Vector256.Load(x);
            Vector256<float> b = Vector256.Load(x + 8);
            Vector256<float> c = Vector256.Load(x + 16);
            Vector256<float> d = Vector256.Load(x + 24);
            Vector256<int> largest = Vector256.Max(
                Vector256.Max(a.AsInt32() & magnitude, b.AsInt32() & magnitude), Vector256.Max(c.AsInt32() & magnitude, d.AsInt32() & magnitude));
            float inverse = Scales(Largest(Vector128.Max(largest.GetLower(), largest.GetUpper())), out float scale);
            if (inverse == 0)
            {
                Vector256<int>.Zero.Store(dwords);
                Store(destination, width, scale, 0, 0, dwords);
                continue;
            }

            Vector256<int> q0 = Avx.ConvertToVector256Int32(a * inverse);
            Vector256<int> q1 = Avx.ConvertToVector256Int32(b * inverse);
            Vector256<int> q2 = Avx.ConvertToVector256Int32(c * inverse);
            Vector256<int> q3 = Avx.ConvertToVector256Int32(d * inverse);
            // The packs work within 128-bit halves; the permutation puts the dwords back into the order of K.
            Vector256<sbyte> bytes = Avx2.PackSignedSaturate(Avx2.PackSignedSaturate(q0, q1), Avx2.PackSignedSaturate(q2, q3));
            Avx2.PermuteVar8x32(bytes.AsInt32(), order).Store(dwords);
            Store(destination, width, scale, Vector256.Sum(q0 + q1), Vector256.Sum(q2 + q3), dwords);
        }
    }
}
