using System.Runtime.Intrinsics;

namespace Qian.Kernels;

// The rotation's transpose (cosines and sines may carry a factor, so it is not always the inverse), then the norm's gradient
// per head as in RmsNorm. The gradient before the rotation is kept in dx between the two passes over a head.
public static unsafe partial class HeadNormRope
{
    /// <summary>The gradient of <see cref="Apply(FloatView, int, int, int, int, int, FloatView, float, FloatView, int, FloatView, ThreadTeam)"/>.</summary>
    /// <param name="x">The forward's input: head h of row t starts at float t·rowStride + h·headStride.</param>
    /// <param name="rowStride">Floats from row to row in <paramref name="x"/> and <paramref name="dx"/>.</param>
    /// <param name="headStride">Floats from head to head in <paramref name="x"/> and <paramref name="dx"/>.</param>
    /// <param name="rowCount">Rows.</param>
    /// <param name="headCount">Heads per row.</param>
    /// <param name="headDim">Floats per head.</param>
    /// <param name="normWeight">[headDim], the factor itself (1 + w).</param>
    /// <param name="epsilon">Added to the mean square.</param>
    /// <param name="cosSin">[rowCount, rotaryDim] from <see cref="RopeTable.Fill"/>.</param>
    /// <param name="rotaryDim">Even, at most headDim.</param>
    /// <param name="dy">[rowCount, headCount·headDim].</param>
    /// <param name="dx">Laid out as <paramref name="x"/> and not <paramref name="x"/>; the heads are overwritten, what lies between them is left alone. May be <paramref name="dy"/> where the strides are contiguous.</param>
    /// <param name="dNormWeight">[headDim], added to; empty where the weight is frozen.</param>
    /// <param name="team">Threads.</param>
    /// <exception cref="ArgumentException">A view is too short or the sizes do not fit.</exception>
    public static void Backward(FloatView x, int rowStride, int headStride, int rowCount, int headCount, int headDim, FloatView normWeight,
        float epsilon, FloatView cosSin, int rotaryDim, FloatView dy, FloatView dx, FloatView dNormWeight, ThreadTeam team) =>
        Backward(IsaTier.Current, x, rowStride, headStride, rowCount, headCount, headDim, normWeight, epsilon, cosSin, rotaryDim, dy, dx, dNormWeight, team);

    internal static void Backward(Isa isa, FloatView x, int rowStride, int headStride, int rowCount, int headCount, int headDim, FloatView normWeight,
        float epsilon, FloatView cosSin, int rotaryDim, FloatView dy, FloatView dx, FloatView dNormWeight, ThreadTeam team)
    {
        CheckSizes(rowStride, headStride, rowCount, headCount, headDim, rotaryDim);
        if (rowCount == 0)
            return;
        long length = (rowCount - 1) * (long)rowStride + (headCount - 1) * (long)headStride + headDim;
        Expect.Floats(x, length);
        Expect.Floats(dx, length);
        Expect.Floats(normWeight, headDim);
        Expect.Floats(cosSin, (long)rowCount * rotaryDim);
        Expect.Floats(dy, (long)rowCount * headCount * headDim);
        if (dNormWeight.Length != 0)
            Expect.Floats(dNormWeight, headDim);
        if (dx.Pointer == x.Pointer)
            throw new ArgumentException("the norm's gradient reads the input again after dx is written: give it another dx", nameof(dx));
        if (dx.Pointer == dy.Pointer && (headStride != headDim || rowStride != headCount * (long)headDim))
            throw new ArgumentException("dx can be dy only where heads and rows lie end to end", nameof(dx));

        int width = dNormWeight.Length == 0 ? 0 : headDim;
        var blocks = new BlockedItems(rowCount, (long)headCount * headDim, width);
        double* partials = stackalloc double[blocks.PartialCount];
        var job = new BackwardJob
        {
            Isa = isa,
            X = x.Pointer,
            Weight = normWeight.Pointer,
            CosSin = cosSin.Pointer,
            Dy = dy.Pointer,
            Dx = dx.Pointer,
            Partials = width == 0 ? null : partials,
            RowStride = rowStride,
            HeadStride = headStride,
            HeadCount = headCount,
            HeadDim = headDim,
            RotaryDim = rotaryDim,
            Epsilon = epsilon,
            Blocks = blocks,
        };
        for (; job.FirstBlock < blocks.BlockCount; job.FirstBlock += blocks.BlocksPerWave)
        {
            int count = (int)Math.Min(blocks.BlocksPerWave, blocks.BlockCount - job.FirstBlock);
            team.Run(ref job, count);
            blocks.AddTo(dNormWeight, partials, count, 0, width);
        }
    }

    private struct BackwardJob : IChunkedJob
    {
        public Isa Isa;
        public float* X, Weight, CosSin, Dy, Dx;
        public double* Partials;
        public int RowStride, HeadStride, HeadCount, HeadDim, RotaryDim;
        public float Epsilon;
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
        if (sums != null)
            new Span<double>(sums, job.HeadDim).Clear();
        for (long row = first; row < end; row++)
        {
            for (int head = 0; head < job.HeadCount; head++)
            {
                long at = row * job.RowStride + (long)head * job.HeadStride;
                float* dy = job.Dy + (row * job.HeadCount + head) * job.HeadDim;
                ScalarBackwardHead(in job, job.X + at, job.CosSin + row * job.RotaryDim, dy, job.Dx + at, sums);
            }
        }
    }

    private static void ScalarBackwardHead(in BackwardJob job, float* x, float* cosSin, float* dy, float* dx, double* sums)
    {
        int half = job.RotaryDim / 2, headDim = job.HeadDim;
        for (int i = 0; i < half; i++)
        {
            float cos = cosSin[i], sin = cosSin[half + i], a = dy[i], b = dy[half + i];
            dx[i] = a * cos + b * sin;
            dx[half + i] = b * cos - a * sin;
        }

        for (int i = job.RotaryDim; i < headDim; i++)
            dx[i] = dy[i];

        double inverse = 1 / Math.Sqrt(SumOfSquares.Scalar(x, headDim) / headDim + job.Epsilon), dot = 0;
        for (int i = 0; i < headDim; i++)
        {
            dot += (double)dx[i] * job.Weight[i] * x[i];
            if (sums != null)
                sums[i] += dx[i] * (x[i] * inverse);
        }

        double along = dot / headDim * inverse * inverse;
        for (int i = 0; i < headDim; i++)
            dx[i] = (float)(inverse * ((double)dx[i] * job.Weight[i] - x[i] * along));
    }
}
