using System.Runtime.Intrinsics;

namespace Qian.Kernels;

/// <summary>The gate behind full attention: y *= sigmoid(gate), the gate being the second half of each head of the query projection.</summary>
public static unsafe partial class OutputGate
{
    /// <summary>Gates attention's output in place.</summary>
    /// <param name="y">[rowCount, headCount·headDim], in and out.</param>
    /// <param name="qGate">[rowCount, headCount·2·headDim]: per head [query | gate].</param>
    /// <param name="rowCount">Rows.</param>
    /// <param name="headCount">Heads per row.</param>
    /// <param name="headDim">Floats per head.</param>
    /// <param name="team">Threads.</param>
    /// <exception cref="ArgumentException">A view is too short.</exception>
    public static void Apply(FloatView y, FloatView qGate, int rowCount, int headCount, int headDim, ThreadTeam team) =>
        Apply(IsaTier.Current, y, qGate, rowCount, headCount, headDim, team);

    internal static void Apply(Isa isa, FloatView y, FloatView qGate, int rowCount, int headCount, int headDim, ThreadTeam team)
    {
        Expect.AtLeast(rowCount, 0);
        Expect.AtLeast(headCount, 1);
        Expect.AtLeast(headDim, 1);
        long heads = (long)rowCount * headCount;
        Expect.Floats(y, heads * headDim);
        Expect.Floats(qGate, heads * 2 * headDim);
        var job = new Job
        {
            Isa = isa,
            Y = y.Pointer,
            QGate = qGate.Pointer,
            HeadDim = headDim,
            Split = WorkSplit.Of(heads, headDim, team),
        };
        team.Run(ref job, job.Split.ChunkCount);
    }

    // Rows and heads are contiguous, so an item of work is one head of one row.
    private struct Job : IChunkedJob
    {
        public Isa Isa;
        public float* Y, QGate;
        public int HeadDim;
        public WorkSplit Split;

        public readonly void Run(int chunkIndex)
        {
            long end = Split.End(chunkIndex);
            for (long head = Split.First(chunkIndex); head < end; head++)
            {
                float* y = Y + head * HeadDim;
                float* gate = QGate + (2 * head + 1) * HeadDim;
                switch (Isa)
                {
                    case Isa.Avx512:
                        Vector<Lanes512, Vector512<float>>(y, gate, HeadDim);
                        break;
                    case Isa.Avx2 or Isa.Arm64:
                        Vector<Lanes256, Vector256<float>>(y, gate, HeadDim);
                        break;
                    default:
                        Scalar(y, gate, HeadDim);
                        break;
                }
            }
        }
    }

    private static void Scalar(float* y, float* gate, int count)
    {
        for (int i = 0; i < count; i++)
            y[i] *= Activation.Sigmoid(gate[i]);
    }
}
