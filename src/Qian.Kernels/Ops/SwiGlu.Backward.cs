using System.Runtime.Intrinsics;

namespace Qian.Kernels;

// dGate = dy ⊙ up ⊙ silu'(gate), dUp = dy ⊙ silu(gate).
public static unsafe partial class SwiGlu
{
    /// <summary>The gradient of <see cref="Apply(FloatView, FloatView, FloatView, long, ThreadTeam)"/>, elementwise over <paramref name="count"/> floats.</summary>
    /// <param name="gate">[count], the forward's input.</param>
    /// <param name="up">[count], the forward's input.</param>
    /// <param name="dy">[count].</param>
    /// <param name="dGate">[count], overwritten; may be any of the inputs.</param>
    /// <param name="dUp">[count], overwritten; may be any of the inputs.</param>
    /// <param name="count">Floats.</param>
    /// <param name="team">Threads.</param>
    /// <exception cref="ArgumentException">A view is too short.</exception>
    public static void Backward(FloatView gate, FloatView up, FloatView dy, FloatView dGate, FloatView dUp, long count, ThreadTeam team) =>
        Backward(IsaTier.Current, gate, up, dy, dGate, dUp, count, team);

    internal static void Backward(Isa isa, FloatView gate, FloatView up, FloatView dy, FloatView dGate, FloatView dUp, long count, ThreadTeam team)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(count);
        Expect.Floats(gate, count);
        Expect.Floats(up, count);
        Expect.Floats(dy, count);
        Expect.Floats(dGate, count);
        Expect.Floats(dUp, count);
        var job = new BackwardJob
        {
            Isa = isa,
            Gate = gate.Pointer,
            Up = up.Pointer,
            Dy = dy.Pointer,
            DGate = dGate.Pointer,
            DUp = dUp.Pointer,
            Split = WorkSplit.Of(count, 1, team, granule: 64),
        };
        team.Run(ref job, job.Split.ChunkCount);
    }

    private struct BackwardJob : IChunkedJob
    {
        public Isa Isa;
        public float* Gate, Up, Dy, DGate, DUp;
        public WorkSplit Split;

        public readonly void Run(int chunkIndex)
        {
            long first = Split.First(chunkIndex), end = Split.End(chunkIndex);
            switch (Isa)
            {
                case Isa.Avx512:
                    VectorBackward<Lanes512, Vector512<float>>(in this, first, end);
                    break;
                case Isa.Avx2 or Isa.Arm64:
                    VectorBackward<Lanes256, Vector256<float>>(in this, first, end);
                    break;
                default:
                    ScalarBackward(in this, first, end);
                    break;
            }
        }
    }

    private static void ScalarBackward(in BackwardJob job, long first, long end)
    {
        for (long i = first; i < end; i++)
        {
            float gate = job.Gate[i], up = job.Up[i], dy = job.Dy[i], sigmoid = Activation.Sigmoid(gate);
            job.DGate[i] = dy * up * Activation.SiluSlope(gate, sigmoid);
            job.DUp[i] = dy * (gate * sigmoid);
        }
    }
}
