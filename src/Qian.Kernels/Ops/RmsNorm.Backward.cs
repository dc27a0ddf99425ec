using System.Runtime.Intrinsics;

namespace Qian.Kernels;

// With r = 1 / sqrt(mean(x²) + ε) and d = dy ⊙ w:  dx = r·(d − x·r²·mean(d ⊙ x)),  dw = Σ over rows of dy ⊙ x·r.
// Rows go by in blocks: first each row's dx, leaving r on the stack, then each column's dw over the block. Columns belong
// to one thread each, so the weight's gradient does not depend on the thread count.
public static unsafe partial class RmsNorm
{
    private const int MaxBlockRows = 512;
    private const int MinBlockRows = 32;
    private const int BlockFloats = 64 * 1024; // so that x and dy are still in the second-level cache for the columns

    /// <summary>The gradient of <see cref="Apply(FloatView, FloatView, float, FloatView, int, int, ThreadTeam)"/>.</summary>
    /// <param name="x">[rowCount, width], the forward's input.</param>
    /// <param name="weight">[width], the factor itself (1 + w).</param>
    /// <param name="epsilon">Added to the mean square.</param>
    /// <param name="dy">[rowCount, width].</param>
    /// <param name="dx">[rowCount, width], overwritten; neither <paramref name="x"/> nor <paramref name="dy"/>.</param>
    /// <param name="dWeight">[width], added to; empty where the weight is frozen.</param>
    /// <param name="rowCount">Rows.</param>
    /// <param name="width">Floats per row.</param>
    /// <param name="team">Threads.</param>
    /// <exception cref="ArgumentException">A view is too short, or <paramref name="dx"/> is an input.</exception>
    public static void Backward(FloatView x, FloatView weight, float epsilon, FloatView dy, FloatView dx, FloatView dWeight, int rowCount, int width,
        ThreadTeam team) => Backward(IsaTier.Current, x, weight, epsilon, dy, dx, dWeight, rowCount, width, add: false, team);

    /// <summary>As <see cref="Backward(FloatView, FloatView, float, FloatView, FloatView, FloatView, int, int, ThreadTeam)"/>, but adds to <paramref name="dx"/>, as a residual stream wants.</summary>
    /// <inheritdoc cref="Backward(FloatView, FloatView, float, FloatView, FloatView, FloatView, int, int, ThreadTeam)"/>
    public static void BackwardAdd(FloatView x, FloatView weight, float epsilon, FloatView dy, FloatView dx, FloatView dWeight, int rowCount, int width,
        ThreadTeam team) => Backward(IsaTier.Current, x, weight, epsilon, dy, dx, dWeight, rowCount, width, add: true, team);

    internal static void Backward(Isa isa, FloatView x, FloatView weight, float epsilon, FloatView dy, FloatView dx, FloatView dWeight, int rowCount,
        int width, bool add, ThreadTeam team)
    {
        Expect.AtLeast(rowCount, 0);
        Expect.AtLeast(width, 1);
        long count = (long)rowCount * width;
        Expect.Floats(x, count);
        Expect.Floats(dy, count);
        Expect.Floats(dx, count);
        Expect.Floats(weight, width);
        if (dWeight.Length != 0)
            Expect.Floats(dWeight, width);
        if (rowCount == 0)
            return;
        if (dx.Pointer == x.Pointer || dx.Pointer == dy.Pointer)
            throw new ArgumentException("the weight's gradient reads the inputs again after dx is written: give it another dx", nameof(dx));

        int blockRows = Math.Clamp(BlockFloats / width, MinBlockRows, MaxBlockRows);
        float* inverses = stackalloc float[Math.Min(blockRows, rowCount)];
        for (int first = 0; first < rowCount; first += blockRows)
        {
            long at = (long)first * width;
            int rows = Math.Min(blockRows, rowCount - first);
            var row = new RowGradientJob
            {
                Isa = isa,
                X = x.Pointer + at,
                Weight = weight.Pointer,
                Dy = dy.Pointer + at,
                Dx = dx.Pointer + at,
                Inverses = inverses,
                Epsilon = epsilon,
                Width = width,
                Add = add,
                Split = WorkSplit.Of(rows, width, team),
            };
            team.Run(ref row, row.Split.ChunkCount);
            if (dWeight.Length == 0)
                continue;

            var column = new WeightGradientJob
            {
                Isa = isa,
                X = x.Pointer + at,
                Dy = dy.Pointer + at,
                Inverses = inverses,
                DWeight = dWeight.Pointer,
                RowCount = rows,
                Width = width,
                Split = WorkSplit.Of(width, rows, team, granule: 64),
            };
            team.Run(ref column, column.Split.ChunkCount);
        }
    }

    private struct RowGradientJob : IChunkedJob
    {
        public Isa Isa;
        public float* X, Weight, Dy, Dx, Inverses;
        public float Epsilon;
        public int Width;
        public bool Add;
        public WorkSplit Split;

        public readonly void Run(int chunkIndex)
        {
            long end = Split.End(chunkIndex);
            for (long row = Split.First(chunkIndex); row < end; row++)
            {
                long at = row * Width;
                switch (Isa)
                {
                    case Isa.Avx512:
                        Inverses[row] = RowGradient<Lanes512, Vector512<float>>(X + at, Weight, Epsilon, Dy + at, Dx + at, Width, Add);
                        break;
                    case Isa.Avx2 or Isa.Arm64:
                        Inverses[row] = RowGradient<Lanes256, Vector256<float>>(X + at, Weight, Epsilon, Dy + at, Dx + at, Width, Add);
                        break;
                    default:
                        Inverses[row] = ScalarRowGradient(X + at, Weight, Epsilon, Dy + at, Dx + at, Width, Add);
                        break;
                }
            }
        }
    }

    private struct WeightGradientJob : IChunkedJob
    {
        public Isa Isa;
        public float* X, Dy, Inverses, DWeight;
        public int RowCount, Width;
        public WorkSplit Split;

        public readonly void Run(int chunkIndex)
        {
            int first = (int)Split.First(chunkIndex), end = (int)Split.End(chunkIndex);
            switch (Isa)
            {
                case Isa.Avx512:
                    WeightGradient<Lanes512, Vector512<float>>(in this, first, end);
                    break;
                case Isa.Avx2 or Isa.Arm64:
                    WeightGradient<Lanes256, Vector256<float>>(in this, first, end);
                    break;
                default:
                    ScalarWeightGradient(in this, first, end);
                    break;
            }
        }
    }

    // Returns 1 / sqrt(mean(x²) + ε).
    private static float ScalarRowGradient(float* x, float* weight, float epsilon, float* dy, float* dx, int width, bool add)
    {
        double inverse = 1 / Math.Sqrt(SumOfSquares.Scalar(x, width) / width + epsilon), dot = 0;
        for (int i = 0; i < width; i++)
            dot += (double)dy[i] * weight[i] * x[i];
        double along = dot / width * inverse * inverse;
        for (int i = 0; i < width; i++)
        {
            float gradient = (float)(inverse * ((double)dy[i] * weight[i] - x[i] * along));
            dx[i] = add ? dx[i] + gradient : gradient;
        }

        return (float)inverse;
    }

    private static void ScalarWeightGradient(in WeightGradientJob job, int first, int end)
    {
        for (int i = first; i < end; i++)
        {
            double sum = 0;
            for (int row = 0; row < job.RowCount; row++)
            {
                long at = (long)row * job.Width + i;
                sum += (double)job.Dy[at] * job.X[at] * job.Inverses[row];
            }

            job.DWeight[i] += (float)sum;
        }
    }
}
