using System.Runtime.Intrinsics;

namespace Qian.Kernels;

// With n = o·r, r = 1 / sqrt(mean(o²) + ε):  dz = dy ⊙ w ⊙ n ⊙ silu'(z),  d = dy ⊙ w ⊙ silu(z),  dO = r·(d − n·mean(d ⊙ n)),
// dw = Σ over rows and heads of dy ⊙ n ⊙ silu(z). d is kept in dO between the two passes over a head.
public static unsafe partial class GatedNorm
{
    /// <summary>The gradient of <see cref="Apply(FloatView, FloatView, FloatView, float, FloatView, int, int, int, ThreadTeam)"/>.</summary>
    /// <param name="o">[rowCount, headCount·headDim], the delta rule's output.</param>
    /// <param name="z">[rowCount, headCount·headDim], the gate.</param>
    /// <param name="weight">[headDim], shared by all heads.</param>
    /// <param name="epsilon">Added to the mean square.</param>
    /// <param name="dy">[rowCount, headCount·headDim].</param>
    /// <param name="dO">[rowCount, headCount·headDim], overwritten; may be <paramref name="dy"/>, not <paramref name="o"/>.</param>
    /// <param name="dz">[rowCount, headCount·headDim], overwritten; may be <paramref name="z"/>, not <paramref name="o"/>.</param>
    /// <param name="dWeight">[headDim], added to; empty where the weight is frozen.</param>
    /// <param name="rowCount">Rows.</param>
    /// <param name="headCount">Heads per row.</param>
    /// <param name="headDim">Floats per head.</param>
    /// <param name="team">Threads.</param>
    /// <exception cref="ArgumentException">A view is too short, or an output is <paramref name="o"/>.</exception>
    public static void Backward(FloatView o, FloatView z, FloatView weight, float epsilon, FloatView dy, FloatView dO, FloatView dz, FloatView dWeight,
        int rowCount, int headCount, int headDim, ThreadTeam team) =>
        Backward(IsaTier.Current, o, z, weight, epsilon, dy, dO, dz, dWeight, rowCount, headCount, headDim, team);

    internal static void Backward(Isa isa, FloatView o, FloatView z, FloatView weight, float epsilon, FloatView dy, FloatView dO, FloatView dz,
        FloatView dWeight, int rowCount, int headCount, int headDim, ThreadTeam team)
    {
        Expect.AtLeast(rowCount, 0);
        Expect.AtLeast(headCount, 1);
        Expect.AtLeast(headDim, 1);
        long heads = (long)rowCount * headCount;
        Expect.Floats(o, heads * headDim);
        Expect.Floats(z, heads * headDim);
        Expect.Floats(dy, heads * headDim);
        Expect.Floats(dO, heads * headDim);
        Expect.Floats(dz, heads * headDim);
        Expect.Floats(weight, headDim);
        if (dWeight.Length != 0)
            Expect.Floats(dWeight, headDim);
        if (rowCount == 0)
            return;
        if (dO.Pointer == o.Pointer || dz.Pointer == o.Pointer)
            throw new ArgumentException("the norm's gradient reads o again after its outputs are written: give them other views", nameof(o));

        int width = dWeight.Length == 0 ? 0 : headDim;
        var blocks = new BlockedItems(heads, headDim, width);
        double* partials = stackalloc double[blocks.PartialCount];
        var job = new BackwardJob
        {
            Isa = isa,
            O = o.Pointer,
            Z = z.Pointer,
            Weight = weight.Pointer,
            Dy = dy.Pointer,
            DO = dO.Pointer,
            Dz = dz.Pointer,
            Partials = width == 0 ? null : partials,
            Epsilon = epsilon,
            HeadDim = headDim,
            Blocks = blocks,
        };
        for (; job.FirstBlock < blocks.BlockCount; job.FirstBlock += blocks.BlocksPerWave)
        {
            int count = (int)Math.Min(blocks.BlocksPerWave, blocks.BlockCount - job.FirstBlock);
            team.Run(ref job, count);
            blocks.AddTo(dWeight, partials, count, 0, width);
        }
    }

    private struct BackwardJob : IChunkedJob
    {
        public Isa Isa;
        public float* O, Z, Weight, Dy, DO, Dz;
        public double* Partials;
        public float Epsilon;
        public int HeadDim;
        public long FirstBlock;
        public BlockedItems Blocks;

        public readonly void Run(int chunkIndex)
        {
            long block = FirstBlock + chunkIndex, first = Blocks.First(block), end = Blocks.End(block);
            double* sums = Partials == null ? null : Partials + (long)chunkIndex * HeadDim;
            switch (Isa)
            {
                case Isa.Avx512:
                    Block<Lanes512, Vector512<float>>(in this, first, end, sums);
                    break;
                case Isa.Avx2 or Isa.Arm64:
                    Block<Lanes256, Vector256<float>>(in this, first, end, sums);
                    break;
                default:
                    ScalarBlock(in this, first, end, sums);
                    break;
            }
        }
    }

    // sums: [headDim] or null.
    private static void ScalarBlock(in BackwardJob job, long first, long end, double* sums)
    {
        int headDim = job.HeadDim;
        if (sums != null)
            new Span<double>(sums, headDim).Clear();
        for (long head = first; head < end; head++)
        {
            long at = head * headDim;
            float* o = job.O + at, z = job.Z + at, dy = job.Dy + at, dO = job.DO + at, dz = job.Dz + at;
            double inverse = 1 / Math.Sqrt(SumOfSquares.Scalar(o, headDim) / headDim + job.Epsilon), dot = 0;
            for (int i = 0; i < headDim; i++)
            {
                float sigmoid = Activation.Sigmoid(z[i]), silu = z[i] * sigmoid;
                double normed = o[i] * inverse, gradient = dy[i];
                if (sums != null)
                    sums[i] += gradient * normed * silu;
                dz[i] = (float)(gradient * job.Weight[i] * normed * Activation.SiluSlope(z[i], sigmoid));
                dO[i] = (float)(gradient * job.Weight[i] * silu);
                dot += dO[i] * normed;
            }

            double along = dot / headDim;
            for (int i = 0; i < headDim; i++)
                dO[i] = (float)(inverse * (dO[i] - o[i] * inverse * along));
        }
    }
}
