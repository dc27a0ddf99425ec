using System.Runtime.Intrinsics;

namespace Qian.Kernels;

/// <summary>The norm behind the delta rule, per head: y = w · (o / sqrt(mean(o²) + ε)) · silu(z). Plain weight, not 1 + w.</summary>
public static unsafe partial class GatedNorm
{
    /// <summary>Norms and gates every head of every row.</summary>
    /// <param name="o">[rowCount, headCount·headDim], the delta rule's output.</param>
    /// <param name="z">[rowCount, headCount·headDim], the gate.</param>
    /// <param name="weight">[headDim], shared by all heads.</param>
    /// <param name="epsilon">Added to the mean square.</param>
    /// <param name="y">[rowCount, headCount·headDim]; may be <paramref name="o"/> or <paramref name="z"/>.</param>
    /// <param name="rowCount">Rows.</param>
    /// <param name="headCount">Heads per row.</param>
    /// <param name="headDim">Floats per head.</param>
    /// <param name="team">Threads.</param>
    /// <exception cref="ArgumentException">A view is too short.</exception>
    public static void Apply(FloatView o, FloatView z, FloatView weight, float epsilon, FloatView y, int rowCount, int headCount, int headDim, ThreadTeam team) =>
        Apply(IsaTier.Current, o, z, weight, epsilon, y, rowCount, headCount, headDim, team);

    internal static void Apply(Isa isa, FloatView o, FloatView z, FloatView weight, float epsilon, FloatView y, int rowCount, int headCount, int headDim,
        ThreadTeam team)
    {
        Expect.AtLeast(rowCount, 0);
        Expect.AtLeast(headCount, 1);
        Expect.AtLeast(headDim, 1);
        long heads = (long)rowCount * headCount;
        Expect.Floats(o, heads * headDim);
        Expect.Floats(z, heads * headDim);
        Expect.Floats(y, heads * headDim);
        Expect.Floats(weight, headDim);
        var job = new Job
        {
            Isa = isa,
            O = o.Pointer,
            Z = z.Pointer,
            Weight = weight.Pointer,
            Y = y.Pointer,
            Epsilon = epsilon,
            HeadDim = headDim,
            Split = WorkSplit.Of(heads, headDim, team),
        };
        team.Run(ref job, job.Split.ChunkCount);
    }

    private struct Job : IChunkedJob
    {
        public Isa Isa;
        public float* O, Z, Weight, Y;
        public float Epsilon;
        public int HeadDim;
        public WorkSplit Split;

        public readonly void Run(int chunkIndex)
        {
            long end = Split.End(chunkIndex);
            for (long head = Split.First(chunkIndex); head < end; head++)
            {
                long at = head * HeadDim;
                switch (Isa)
                {
                    case Isa.Avx512:
                        Head<Lanes512, Vector512<float>>(O + at, Z + at, Weight, Epsilon, Y + at, HeadDim);
                        break;
                    case Isa.Avx2 or Isa.Arm64:
                        Head<Lanes256, Vector256<float>>(O + at, Z + at, Weight, Epsilon, Y + at, HeadDim);
                        break;
                    default:
                        ScalarHead(O + at, Z + at, Weight, Epsilon, Y + at, HeadDim);
                        break;
                }
            }
        }
    }

    private static void ScalarHead(float* o, float* z, float* weight, float epsilon, float* y, int headDim)
    {
        double sum = SumOfSquares.Scalar(o, headDim);
        float inverse = (float)(1 / Math.Sqrt(sum / headDim + epsilon));
        for (int i = 0; i < headDim; i++)
            y[i] = o[i] * inverse * weight[i] * Activation.Silu(z[i]);
    }
}
