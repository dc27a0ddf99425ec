using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Qian.Kernels;

/// <summary>
/// Copies a block of a factor into panels: per panel and step of K the panel's lanes (a's rows or b's columns) side by side, lanes past the end as zeros.
/// Where K is contiguous, 8 x 8 dwords are transposed in registers; where the lanes are, rows are copied; any other strides go one by one.
/// 256 bits throughout, since all fast tiers have them and packing is a few percent of a product.
/// Stores are 8 lanes wide also where a panel's width is no multiple of 8: what spills over is the next step's first lanes, stored later
/// (steps ascend; within eight transposed steps the groups of lanes descend), and past the last step the slack between panels.
/// </summary>
internal static unsafe class OperandPacking
{
    // Values behind each panel that a spilling store may touch.
    public const int Slack = 16;

    // Where lanes are contiguous: steps of all panels before the next steps of any.
    private const int StepsAtATime = 32;

    /// <summary>Dwords from a panel to the next; a multiple of 16, so that panels whose width is one stay aligned.</summary>
    public static int PanelValues(int width, int steps) => ((width * steps + 15) & ~15) + Slack;

    /// <summary>Packs all panels of <paramref name="laneCount"/> lanes over <paramref name="innerCount"/> values of K (an odd last one pairs with zero).</summary>
    public static void Pack(bool isBrain, uint* to, int width, float* from, long laneStride, long innerStride, int laneCount, int innerCount)
    {
        if (isBrain)
            Pack<BrainPairs>(to, width, from, laneStride, innerStride, laneCount, innerCount);
        else
            Pack<SingleFloats>(to, width, from, laneStride, innerStride, laneCount, innerCount);
    }

    private static void Pack<T>(uint* to, int width, float* from, long laneStride, long innerStride, int laneCount, int innerCount) where T : struct, IPackedValue
    {
        // Contiguous lanes share cache lines between panels, so these advance together; otherwise each goes to its end.
        int panelValues = PanelValues(width, (innerCount + T.Depth - 1) / T.Depth);
        int runLength = innerStride == 1 ? innerCount : StepsAtATime * T.Depth;
        for (int k = 0; k < innerCount; k += runLength)
        {
            int count = Math.Min(runLength, innerCount - k);
            for (int lane = 0, panel = 0; lane < laneCount; lane += width, panel++)
            {
                uint* run = to + (long)panel * panelValues + k / T.Depth * width;
                float* source = from + lane * laneStride + k * innerStride;
                int lanes = Math.Min(width, laneCount - lane);
                if (innerStride == 1)
                    PackTransposed<T>(run, width, source, laneStride, lanes, count);
                else if (laneStride == 1)
                    PackRows<T>(run, width, source, innerStride, lanes, count);
                else
                    PackSingly<T>(run, width, source, laneStride, innerStride, lanes, count);
            }
        }
    }

    private static void PackTransposed<T>(uint* to, int width, float* from, long laneStride, int lanes, int count) where T : struct, IPackedValue
    {
        int stepCount = (count + T.Depth - 1) / T.Depth;
        for (int step = 0; step < stepCount; step += 8, to += 8 * width, from += 8 * T.Depth)
        {
            int steps = Math.Min(8, stepCount - step);
            int values = count - step * T.Depth;
            for (int group = (width - 1) & ~7; group >= 0; group -= 8)
            {
                float* source = from + group * laneStride;
                int left = lanes - group;
                Prefetch(source + width * laneStride, laneStride);
                Vector256<float> r0 = T.AlongInner(source, 0 < left ? values : 0).AsSingle();
                Vector256<float> r1 = T.AlongInner(source + laneStride, 1 < left ? values : 0).AsSingle();
                Vector256<float> r2 = T.AlongInner(source + 2 * laneStride, 2 < left ? values : 0).AsSingle();
                Vector256<float> r3 = T.AlongInner(source + 3 * laneStride, 3 < left ? values : 0).AsSingle();
                Vector256<float> r4 = T.AlongInner(source + 4 * laneStride, 4 < left ? values : 0).AsSingle();
                Vector256<float> r5 = T.AlongInner(source + 5 * laneStride, 5 < left ? values : 0).AsSingle();
                Vector256<float> r6 = T.AlongInner(source + 6 * laneStride, 6 < left ? values : 0).AsSingle();
                Vector256<float> r7 = T.AlongInner(source + 7 * laneStride, 7 < left ? values : 0).AsSingle();

                // Pairs of lanes, then fours, then the 128-bit halves.
                Vector256<double> p0 = Registers.ZipLow(r0, r1).AsDouble(), p1 = Registers.ZipHigh(r0, r1).AsDouble();
                Vector256<double> p2 = Registers.ZipLow(r2, r3).AsDouble(), p3 = Registers.ZipHigh(r2, r3).AsDouble();
                Vector256<double> p4 = Registers.ZipLow(r4, r5).AsDouble(), p5 = Registers.ZipHigh(r4, r5).AsDouble();
                Vector256<double> p6 = Registers.ZipLow(r6, r7).AsDouble(), p7 = Registers.ZipHigh(r6, r7).AsDouble();
                Vector256<double> q0 = Registers.ZipLow(p0, p2), q1 = Registers.ZipHigh(p0, p2), q2 = Registers.ZipLow(p1, p3), q3 = Registers.ZipHigh(p1, p3);
                Vector256<double> q4 = Registers.ZipLow(p4, p6), q5 = Registers.ZipHigh(p4, p6), q6 = Registers.ZipLow(p5, p7), q7 = Registers.ZipHigh(p5, p7);
                Put(Registers.Lower(q0, q4), to + group, 0, steps, width);
                Put(Registers.Lower(q1, q5), to + group, 1, steps, width);
                Put(Registers.Lower(q2, q6), to + group, 2, steps, width);
                Put(Registers.Lower(q3, q7), to + group, 3, steps, width);
                Put(Registers.Upper(q0, q4), to + group, 4, steps, width);
                Put(Registers.Upper(q1, q5), to + group, 5, steps, width);
                Put(Registers.Upper(q2, q6), to + group, 6, steps, width);
                Put(Registers.Upper(q3, q7), to + group, 7, steps, width);
            }
        }
    }

    // The same columns of the next panel's lanes: eight short streams are too many and too short for the machine to foresee.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Prefetch(float* from, long laneStride)
    {
        Registers.Prefetch0(from);
        Registers.Prefetch0(from + laneStride);
        Registers.Prefetch0(from + 2 * laneStride);
        Registers.Prefetch0(from + 3 * laneStride);
        Registers.Prefetch0(from + 4 * laneStride);
        Registers.Prefetch0(from + 5 * laneStride);
        Registers.Prefetch0(from + 6 * laneStride);
        Registers.Prefetch0(from + 7 * laneStride);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Put(Vector256<double> lanes, uint* to, int step, int steps, int width)
    {
        if (step < steps)
            lanes.AsUInt32().Store(to + step * width);
    }

    private static void PackRows<T>(uint* to, int width, float* from, long innerStride, int lanes, int count) where T : struct, IPackedValue
    {
        for (int k = 0; k < count; k += T.Depth, to += width, from += T.Depth * innerStride)
        {
            // The rows of the next run.
            for (int d = 0; d < T.Depth; d++)
            {
                for (int lane = 0; lane < lanes; lane += 16)
                    Registers.Prefetch0(from + (StepsAtATime * T.Depth + d) * innerStride + lane);
            }

            for (int group = 0; group < width; group += 8)
                T.AlongLanes(from + group, innerStride, count - k, lanes - group).Store(to + group);
        }
    }

    private static void PackSingly<T>(uint* to, int width, float* from, long laneStride, long innerStride, int lanes, int count) where T : struct, IPackedValue
    {
        for (int k = 0; k < count; k += T.Depth, to += width, from += T.Depth * innerStride)
        {
            for (int lane = 0; lane < width; lane++)
                to[lane] = lane < lanes ? T.Single(from + lane * laneStride, innerStride, count - k) : 0;
        }
    }
}
