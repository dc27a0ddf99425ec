using System.Runtime.Intrinsics;

namespace Qian.Kernels;

// With s = sigmoid(gate): dAttention = dy ⊙ s, dGate = dy ⊙ attention ⊙ s ⊙ (1 − s).
public static unsafe partial class OutputGate
{
    /// <summary>The gradient of <see cref="Apply(FloatView, FloatView, int, int, int, ThreadTeam)"/>.</summary>
    /// <param name="attention">[rowCount, headCount·headDim], attention's output before it was gated.</param>
    /// <param name="qGate">[rowCount, headCount·2·headDim]: per head [query | gate].</param>
    /// <param name="dy">[rowCount, headCount·headDim].</param>
    /// <param name="dAttention">[rowCount, headCount·headDim], overwritten; may be <paramref name="dy"/> or <paramref name="attention"/>.</param>
    /// <param name="dQGate">[rowCount, headCount·2·headDim]: the gate halves are overwritten, the query halves left alone. May be <paramref name="qGate"/>.</param>
    /// <param name="rowCount">Rows.</param>
    /// <param name="headCount">Heads per row.</param>
    /// <param name="headDim">Floats per head.</param>
    /// <param name="team">Threads.</param>
    /// <exception cref="ArgumentException">A view is too short.</exception>
    public static void Backward(FloatView attention, FloatView qGate, FloatView dy, FloatView dAttention, FloatView dQGate, int rowCount, int headCount,
        int headDim, ThreadTeam team) => Backward(IsaTier.Current, attention, qGate, dy, dAttention, dQGate, rowCount, headCount, headDim, team);

    internal static void Backward(Isa isa, FloatView attention, FloatView qGate, FloatView dy, FloatView dAttention, FloatView dQGate, int rowCount,
        int headCount, int headDim, ThreadTeam team)
    {
        Expect.AtLeast(rowCount, 0);
        Expect.AtLeast(headCount, 1);
        Expect.AtLeast(headDim, 1);
        long heads = (long)rowCount * headCount;
        Expect.Floats(attention, heads * headDim);
        Expect.Floats(dy, heads * headDim);
        Expect.Floats(dAttention, heads * headDim);
        Expect.Floats(qGate, heads * 2 * headDim);
        Expect.Floats(dQGate, heads * 2 * headDim);
        var job = new BackwardJob
        {
            Isa = isa,
            Attention = attention.Pointer,
            QGate = qGate.Pointer,
            Dy = dy.Pointer,
            DAttention = dAttention.Pointer,
            DQGate = dQGate.Pointer,
            HeadDim = headDim,
            Split = WorkSplit.Of(heads, headDim, team),
        };
        team.Run(ref job, job.Split.ChunkCount);
    }

    private struct BackwardJob : IChunkedJob
    {
        public Isa Isa;
        public float* Attention, QGate, Dy, DAttention, DQGate;
        public int HeadDim;
        public WorkSplit Split;

        public readonly void Run(int chunkIndex)
        {
            long end = Split.End(chunkIndex);
            for (long head = Split.First(chunkIndex); head < end; head++)
            {
                long at = head * HeadDim, gateAt = (2 * head + 1) * HeadDim;
                switch (Isa)
                {
                    case Isa.Avx512:
                        VectorBackward<Lanes512, Vector512<float>>(Attention + at, QGate + gateAt, Dy + at, DAttention + at, DQGate + gateAt, HeadDim);
                        break;
                    case Isa.Avx2 or Isa.Arm64:
                        VectorBackward<Lanes256, Vector256<float>>(Attention + at, QGate + gateAt, Dy + at, DAttention + at, DQGate + gateAt, HeadDim);
                        break;
                    default:
                        ScalarBackward(Attention + at, QGate + gateAt, Dy + at, DAttention + at, DQGate + gateAt, HeadDim);
                        break;
                }
            }
        }
    }

    private static void ScalarBackward(float* attention, float* gate, float* dy, float* dAttention, float* dGate, int count)
    {
        for (int i = 0; i < count; i++)
        {
            float open = Activation.Sigmoid(gate[i]), gradient = dy[i] * open;
            dGate[i] = gradient * attention[i] * (1 - open);
            dAttention[i] = gradient;
        }
    }
}
