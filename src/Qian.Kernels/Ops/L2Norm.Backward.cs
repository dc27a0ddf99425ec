using System.Runtime.Intrinsics;

namespace Qian.Kernels;

// With r = 1 / sqrt(Σx² + ε): dx = scale·r·(dy − x·r²·Σ(dy ⊙ x)).
public static unsafe partial class L2Norm
{
    /// <summary>The gradient of <see cref="Apply(FloatView, int, int, int, int, int, float, float, ThreadTeam)"/> for the same heads of each row.</summary>
    /// <param name="x">Rows of <paramref name="rowStride"/> floats, the values before the norm.</param>
    /// <param name="rowStride">Floats from row to row.</param>
    /// <param name="offset">Where the first head begins within a row.</param>
    /// <param name="rowCount">Rows.</param>
    /// <param name="headCount">Heads per row.</param>
    /// <param name="headDim">Floats per head.</param>
    /// <param name="epsilon">Added to the sum of squares.</param>
    /// <param name="scale">Factor on the unit vector.</param>
    /// <param name="dy">Laid out as <paramref name="x"/>.</param>
    /// <param name="dx">Laid out as <paramref name="x"/>; only the heads are overwritten. May be <paramref name="dy"/> or <paramref name="x"/>.</param>
    /// <param name="team">Threads.</param>
    /// <exception cref="ArgumentException">A view is too short or the heads do not fit a row.</exception>
    public static void Backward(FloatView x, int rowStride, int offset, int rowCount, int headCount, int headDim, float epsilon, float scale, FloatView dy,
        FloatView dx, ThreadTeam team) => Backward(IsaTier.Current, x, rowStride, offset, rowCount, headCount, headDim, epsilon, scale, dy, dx, team);

    internal static void Backward(Isa isa, FloatView x, int rowStride, int offset, int rowCount, int headCount, int headDim, float epsilon, float scale,
        FloatView dy, FloatView dx, ThreadTeam team)
    {
        Expect.AtLeast(rowCount, 0);
        Expect.AtLeast(offset, 0);
        Expect.AtLeast(headCount, 1);
        Expect.AtLeast(headDim, 1);
        long used = offset + (long)headCount * headDim;
        if (rowStride < used)
            throw new ArgumentException($"{headCount} heads of {headDim} from {offset} do not fit rows of {rowStride} floats", nameof(rowStride));
        if (rowCount == 0)
            return;
        long length = (rowCount - 1) * (long)rowStride + used;
        Expect.Floats(x, length);
        Expect.Floats(dy, length);
        Expect.Floats(dx, length);
        var job = new BackwardJob
        {
            Isa = isa,
            X = x.Pointer + offset,
            Dy = dy.Pointer + offset,
            Dx = dx.Pointer + offset,
            RowStride = rowStride,
            HeadCount = headCount,
            HeadDim = headDim,
            Epsilon = epsilon,
            Scale = scale,
            Split = WorkSplit.Of(rowCount, (long)headCount * headDim, team),
        };
        team.Run(ref job, job.Split.ChunkCount);
    }

    private struct BackwardJob : IChunkedJob
    {
        public Isa Isa;
        public float* X, Dy, Dx;
        public int RowStride, HeadCount, HeadDim;
        public float Epsilon, Scale;
        public WorkSplit Split;

        public readonly void Run(int chunkIndex)
        {
            long end = Split.End(chunkIndex);
            for (long row = Split.First(chunkIndex); row < end; row++)
            {
                for (int head = 0; head < HeadCount; head++)
                {
                    long at = row * RowStride + (long)head * HeadDim;
                    switch (Isa)
                    {
                        case Isa.Avx512:
                            BackwardHead<Lanes512, Vector512<float>>(X + at, Epsilon, Scale, Dy + at, Dx + at, HeadDim);
                            break;
                        case Isa.Avx2 or Isa.Arm64:
                            BackwardHead<Lanes256, Vector256<float>>(X + at, Epsilon, Scale, Dy + at, Dx + at, HeadDim);
                            break;
                        default:
                            ScalarBackwardHead(X + at, Epsilon, Scale, Dy + at, Dx + at, HeadDim);
                            break;
                    }
                }
            }
        }
    }

    private static void ScalarBackwardHead(float* x, float epsilon, float scale, float* dy, float* dx, int headDim)
    {
        double inverse = 1 / Math.Sqrt(SumOfSquares.Scalar(x, headDim) + epsilon), dot = 0;
        for (int i = 0; i < headDim; i++)
            dot += (double)dy[i] * x[i];
        double along = dot * inverse * inverse;
        for (int i = 0; i < headDim; i++)
            dx[i] = (float)(scale * inverse * (dy[i] - x[i] * along));
    }
}
