using System.Runtime.Intrinsics;

namespace Qian.Kernels;

/// <summary>The MLP's gate: y = silu(gate) ⊙ up.</summary>
public static unsafe partial class SwiGlu
{
    /// <summary>Elementwise over <paramref name="count"/> floats. <paramref name="y"/> may be <paramref name="gate"/> or <paramref name="up"/>.</summary>
    /// <exception cref="ArgumentException">A view is too short.</exception>
    public static void Apply(FloatView gate, FloatView up, FloatView y, long count, ThreadTeam team) =>
        Apply(IsaTier.Current, gate, up, y, count, team);

    internal static void Apply(Isa isa, FloatView gate, FloatView up, FloatView y, long count, ThreadTeam team)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(count);
        Expect.Floats(gate, count);
        Expect.Floats(up, count);
        Expect.Floats(y, count);
        var job = new Job
        {
            Isa = isa,
            Gate = gate.Pointer,
            Up = up.Pointer,
            Y = y.Pointer,
            Split = WorkSplit.Of(count, 1, team, granule: 64),
        };
        team.Run(ref job, job.Split.ChunkCount);
    }

    private struct Job : IChunkedJob
    {
        public Isa Isa;
        public float* Gate, Up, Y;
        public WorkSplit Split;

        public readonly void Run(int chunkIndex)
        {
            long first = Split.First(chunkIndex), count = Split.End(chunkIndex) - first;
            switch (Isa)
            {
                case Isa.Avx512:
                    Vector<Lanes512, Vector512<float>>(Gate + first, Up + first, Y + first, count);
                    break;
                case Isa.Avx2 or Isa.Arm64:
                    Vector<Lanes256, Vector256<float>>(Gate + first, Up + first, Y + first, count);
                    break;
                default:
                    Scalar(Gate + first, Up + first, Y + first, count);
                    break;
            }
        }
    }

    private static void Scalar(float* gate, float* up, float* y, long count)
    {
        for (long i = 0; i < count; i++)
            y[i] = Activation.Silu(gate[i]) * up[i];
    }
}
