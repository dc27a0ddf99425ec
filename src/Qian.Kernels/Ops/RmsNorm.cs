using System.Runtime.Intrinsics;

namespace Qian.Kernels;

/// <summary>Root-mean-square norm over contiguous rows: y = x / sqrt(mean(x²) + ε) · w.</summary>
public static unsafe partial class RmsNorm
{
    /// <summary>
    /// Norms <paramref name="rowCount"/> rows of <paramref name="width"/> floats. <paramref name="weight"/> [width] is the factor itself
    /// (zero-centred weights arrive as 1 + w). <paramref name="y"/> may be <paramref name="x"/>.
    /// </summary>
    /// <exception cref="ArgumentException">A view is too short.</exception>
    public static void Apply(FloatView x, FloatView weight, float epsilon, FloatView y, int rowCount, int width, ThreadTeam team) =>
        Apply(IsaTier.Current, x, weight, epsilon, y, rowCount, width, team);

    internal static void Apply(Isa isa, FloatView x, FloatView weight, float epsilon, FloatView y, int rowCount, int width, ThreadTeam team)
    {
        Expect.AtLeast(rowCount, 0);
        Expect.AtLeast(width, 1);
        Expect.Floats(x, (long)rowCount * width);
        Expect.Floats(y, (long)rowCount * width);
        Expect.Floats(weight, width);
        var job = new Job
        {
            Isa = isa,
            X = x.Pointer,
            Weight = weight.Pointer,
            Y = y.Pointer,
            Epsilon = epsilon,
            Width = width,
            Split = WorkSplit.Of(rowCount, width, team),
        };
        team.Run(ref job, job.Split.ChunkCount);
    }

    private struct Job : IChunkedJob
    {
        public Isa Isa;
        public float* X, Weight, Y;
        public float Epsilon;
        public int Width;
        public WorkSplit Split;

        public readonly void Run(int chunkIndex)
        {
            long end = Split.End(chunkIndex);
            for (long row = Split.First(chunkIndex); row < end; row++)
            {
                float* x = X + row * Width;
                float* y = Y + row * Width;
                switch (Isa)
                {
                    case Isa.Avx512:
                        Row<Lanes512, Vector512<float>>(x, Weight, Epsilon, y, Width);
                        break;
                    case Isa.Avx2 or Isa.Arm64:
                        Row<Lanes256, Vector256<float>>(x, Weight, Epsilon, y, Width);
                        break;
                    default:
                        ScalarRow(x, Weight, Epsilon, y, Width);
                        break;
                }
            }
        }
    }

    private static void ScalarRow(float* x, float* weight, float epsilon, float* y, int width)
    {
        double sum = SumOfSquares.Scalar(x, width);
        float inverse = (float)(1 / Math.Sqrt(sum / width + epsilon));
        for (int i = 0; i < width; i++)
            y[i] = x[i] * inverse * weight[i];
    }
}
