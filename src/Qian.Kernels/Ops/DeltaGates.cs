using System.Runtime.Intrinsics;

namespace Qian.Kernels;

/// <summary>The two gates of the delta rule per value head: g = decay · softplus(alpha + dtBias), the log of the decay, and beta = sigmoid(b).</summary>
public static unsafe partial class DeltaGates
{
    /// <summary>Computes both gates. Outputs may be their inputs (<paramref name="g"/> = <paramref name="alpha"/>, <paramref name="beta"/> = <paramref name="b"/>).</summary>
    /// <param name="alpha">[rowCount, headCount], in_proj_a·x.</param>
    /// <param name="b">[rowCount, headCount], in_proj_b·x.</param>
    /// <param name="decay">[headCount], −exp(A_log).</param>
    /// <param name="dtBias">[headCount].</param>
    /// <param name="g">[rowCount, headCount], at most 0.</param>
    /// <param name="beta">[rowCount, headCount], 0…1.</param>
    /// <param name="rowCount">Rows.</param>
    /// <param name="headCount">Value heads.</param>
    /// <param name="team">Threads.</param>
    /// <exception cref="ArgumentException">A view is too short.</exception>
    public static void Apply(FloatView alpha, FloatView b, FloatView decay, FloatView dtBias, FloatView g, FloatView beta, int rowCount, int headCount,
        ThreadTeam team) => Apply(IsaTier.Current, alpha, b, decay, dtBias, g, beta, rowCount, headCount, team);

    internal static void Apply(Isa isa, FloatView alpha, FloatView b, FloatView decay, FloatView dtBias, FloatView g, FloatView beta, int rowCount,
        int headCount, ThreadTeam team)
    {
        Expect.AtLeast(rowCount, 0);
        Expect.AtLeast(headCount, 1);
        long count = (long)rowCount * headCount;
        Expect.Floats(alpha, count);
        Expect.Floats(b, count);
        Expect.Floats(g, count);
        Expect.Floats(beta, count);
        Expect.Floats(decay, headCount);
        Expect.Floats(dtBias, headCount);
        var job = new Job
        {
            Isa = isa,
            Alpha = alpha.Pointer,
            B = b.Pointer,
            Decay = decay.Pointer,
            DtBias = dtBias.Pointer,
            G = g.Pointer,
            Beta = beta.Pointer,
            HeadCount = headCount,
            Split = WorkSplit.Of(rowCount, headCount, team),
        };
        team.Run(ref job, job.Split.ChunkCount);
    }

    private struct Job : IChunkedJob
    {
        public Isa Isa;
        public float* Alpha, B, Decay, DtBias, G, Beta;
        public int HeadCount;
        public WorkSplit Split;

        public readonly void Run(int chunkIndex)
        {
            long end = Split.End(chunkIndex);
            for (long row = Split.First(chunkIndex); row < end; row++)
            {
                long at = row * HeadCount;
                switch (Isa)
                {
                    case Isa.Avx512:
                        Row<Lanes512, Vector512<float>>(Alpha + at, B + at, Decay, DtBias, G + at, Beta + at, HeadCount);
                        break;
                    case Isa.Avx2 or Isa.Arm64:
                        Row<Lanes256, Vector256<float>>(Alpha + at, B + at, Decay, DtBias, G + at, Beta + at, HeadCount);
                        break;
                    default:
                        ScalarRow(Alpha + at, B + at, Decay, DtBias, G + at, Beta + at, HeadCount);
                        break;
                }
            }
        }
    }

    private static void ScalarRow(float* alpha, float* b, float* decay, float* dtBias, float* g, float* beta, int headCount)
    {
        for (int h = 0; h < headCount; h++)
        {
            g[h] = decay[h] * Activation.Softplus(alpha[h] + dtBias[h]);
            beta[h] = Activation.Sigmoid(b[h]);
        }
    }
}
