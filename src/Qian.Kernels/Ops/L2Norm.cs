using System.Runtime.Intrinsics;

namespace Qian.Kernels;

/// <summary>Queries and keys of the delta rule, per head and in place: x / sqrt(Σx² + ε) · scale.</summary>
public static unsafe partial class L2Norm
{
    /// <summary>Norms heads [offset + h·headDim, offset + (h+1)·headDim) of each row of <paramref name="x"/>.</summary>
    /// <param name="x">Rows of <paramref name="rowStride"/> floats, in and out.</param>
    /// <param name="rowStride">Floats from row to row.</param>
    /// <param name="offset">Where the first head begins within a row.</param>
    /// <param name="rowCount">Rows.</param>
    /// <param name="headCount">Heads per row.</param>
    /// <param name="headDim">Floats per head.</param>
    /// <param name="epsilon">Added to the sum of squares (not used as a lower bound of the length).</param>
    /// <param name="scale">Factor on the unit vector: headDim^-½ for queries, 1 for keys.</param>
    /// <param name="team">Threads.</param>
    /// <exception cref="ArgumentException">The view is too short or the heads do not fit a row.</exception>
    public static void Apply(FloatView x, int rowStride, int offset, int rowCount, int headCount, int headDim, float epsilon, float scale, ThreadTeam team) =>
        Apply(IsaTier.Current, x, rowStride, offset, rowCount, headCount, headDim, epsilon, scale, team);

    internal static void Apply(Isa isa, FloatView x, int rowStride, int offset, int rowCount, int headCount, int headDim, float epsilon, float scale,
        ThreadTeam team)
    {
        Expect.AtLeast(rowCount, 0);
        Expect.AtLeast(offset, 0);
        Expect.AtLeast(headCount, 1);
        Expect.AtLeast(headDim, 1);
        long used = offset + (long)headCount * headDim;
        if (rowStride < used)
            throw new ArgumentException($"{headCount} heads of {headDim} from {offset} do not fit rows of {rowStride} floats", nameof(rowStride));
        if (rowCount > 0)
            Expect.Floats(x, (rowCount - 1) * (long)rowStride + used);
        var job = new Job
        {
            Isa = isa,
            X = x.Pointer + offset,
            RowStride = rowStride,
            HeadCount = headCount,
            HeadDim = headDim,
            Epsilon = epsilon,
            Scale = scale,
            Split = WorkSplit.Of(rowCount, (long)headCount * headDim, team),
        };
        team.Run(ref job, job.Split.ChunkCount);
    }

    private struct Job : IChunkedJob
    {
        public Isa Isa;
        public float* X;
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
                    float* x = X + row * RowStride + (long)head * HeadDim;
                    switch (Isa)
                    {
                        case Isa.Avx512:
                            Head<Lanes512, Vector512<float>>(x, Epsilon, Scale, HeadDim);
                            break;
                        case Isa.Avx2 or Isa.Arm64:
                            Head<Lanes256, Vector256<float>>(x, Epsilon, Scale, HeadDim);
                            break;
                        default:
                            ScalarHead(x, Epsilon, Scale, HeadDim);
                            break;
                    }
                }
            }
        }
    }

    private static void ScalarHead(float* x, float epsilon, float scale, int headDim)
    {
        double sum = SumOfSquares.Scalar(x, headDim);
        float factor = (float)(scale / Math.Sqrt(sum + epsilon));
        for (int i = 0; i < headDim; i++)
            x[i] *= factor;
    }
}
