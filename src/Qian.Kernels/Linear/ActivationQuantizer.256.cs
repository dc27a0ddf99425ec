using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Qian.Kernels;

internal static unsafe partial class ActivationQuantizer
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Row256(float* x, float* destination, int width, int groupCount)
    {
        int* dwords = stackalloc int[8];
        Vector256<int> magnitude = Vector256.Create(0x7fffffff);
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

            Vector256<int> q0 = Registers.ToInt32(a * inverse);
            Vector256<int> q1 = Registers.ToInt32(b * inverse);
            Vector256<int> q2 = Registers.ToInt32(c * inverse);
            Vector256<int> q3 = Registers.ToInt32(d * inverse);
            Registers.Narrow(q0, q1, q2, q3).AsInt32().Store(dwords);
            Store(destination, width, scale, Vector256.Sum(q0 + q1), Vector256.Sum(q2 + q3), dwords);
        }
    }
}
