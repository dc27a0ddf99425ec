using System.Runtime.Intrinsics;

namespace Qian.Kernels;

/// <summary>The residual stream: x += y.</summary>
public static unsafe partial class Residual
{
    /// <summary>Adds <paramref name="count"/> floats of <paramref name="y"/> to <paramref name="x"/>.</summary>
    /// <exception cref="ArgumentException">A view is too short.</exception>
    public static void Add(FloatView x, FloatView y, long count, ThreadTeam team) => Add(IsaTier.Current, x, y, count, team);

    internal static void Add(Isa isa, FloatView x, FloatView y, long count, ThreadTeam team)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(count);
        Expect.Floats(x, count);
        Expect.Floats(y, count);
        var job = new Job { Isa = isa, X = x.Pointer, Y = y.Pointer, Split = WorkSplit.Of(count, 1, team, granule: 64) };
        team.Run(ref job, job.Split.ChunkCount);
    }

    private struct Job : IChunkedJob
    {
        public Isa Isa;
        public float* X, Y;
        public WorkSplit Split;

        public readonly void Run(int chunkIndex)
        {
            long first = Split.First(chunkIndex), count = Split.End(chunkIndex) - first;
            switch (Isa)
            {
                case Isa.Avx512:
                    Vector<Lanes512, Vector512<float>>(X + first, Y + first, count);
                    break;
                case Isa.Avx2 or Isa.Arm64:
                    Vector<Lanes256, Vector256<float>>(X + first, Y + first, count);
                    break;
                default:
                    Scalar(X + first, Y + first, count);
                    break;
            }
        }
    }

    private static void Scalar(float* x, float* y, long count)
    {
        for (long i = 0; i < count; i++)
            x[i] += y[i];
    }
}
