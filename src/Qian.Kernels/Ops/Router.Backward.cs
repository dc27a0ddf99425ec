using System.Runtime.Intrinsics;

namespace Qian.Kernels;

// The chosen experts' weights are a softmax over their own logits alone (the sum over all experts cancels), so
// dlogit_j = w_j · (dw_j − Σ_i w_i · dw_i) for the chosen ones and 0 for the rest; the choice itself has no gradient.
// With s = sigmoid(sharedGate): dExpert_j = w_j · dy, dw_j = Σ dy ⊙ expert_j, dShared = s · dy, dSharedGate = s·(1 − s) · Σ dy ⊙ shared.
public static unsafe partial class Router
{
    /// <summary>The gradient of TopK: from the chosen experts' weights to the logits.</summary>
    /// <param name="indices">[rowCount, k], as TopK gave them.</param>
    /// <param name="weights">[rowCount, k], as TopK gave them.</param>
    /// <param name="dWeights">[rowCount, k].</param>
    /// <param name="dLogits">[rowCount, expertCount], overwritten.</param>
    /// <param name="rowCount">Rows.</param>
    /// <param name="expertCount">Experts.</param>
    /// <param name="k">Experts per row.</param>
    /// <exception cref="ArgumentException">A view is too short, or an index is no expert's.</exception>
    public static void TopKBackward(ReadOnlySpan<int> indices, FloatView weights, FloatView dWeights, FloatView dLogits, int rowCount, int expertCount, int k)
    {
        Expect.AtLeast(rowCount, 0);
        Expect.AtLeast(expertCount, 1);
        Expect.AtLeast(k, 1);
        long choiceCount = (long)rowCount * k;
        Expect.Floats(weights, choiceCount);
        Expect.Floats(dWeights, choiceCount);
        Expect.Floats(dLogits, (long)rowCount * expertCount);
        if (indices.Length < choiceCount)
            throw new ArgumentException($"indices: expected at least {choiceCount}, found {indices.Length}", nameof(indices));
        for (int i = 0; i < choiceCount; i++)
        {
            if ((uint)indices[i] >= (uint)expertCount)
                throw new ArgumentException($"indices: {indices[i]} at {i}: expected 0 to {expertCount - 1}", nameof(indices));
        }

        for (long row = 0; row < rowCount; row++)
        {
            float* w = weights.Pointer + row * k, dw = dWeights.Pointer + row * k, dLogit = dLogits.Pointer + row * expertCount;
            new Span<float>(dLogit, expertCount).Clear();
            double mean = 0;
            for (int j = 0; j < k; j++)
                mean += (double)w[j] * dw[j];
            for (int j = 0; j < k; j++)
                dLogit[indices[(int)(row * k + j)]] = (float)(w[j] * (dw[j] - mean));
        }
    }

    /// <summary>The gradient of <see cref="Combine(FloatView, FloatView, FloatView, FloatView, FloatView, int, int, int, ThreadTeam)"/>.</summary>
    /// <param name="expertOutput">[rowCount·k, width], the forward's input.</param>
    /// <param name="weights">[rowCount, k].</param>
    /// <param name="shared">[rowCount, width], the shared expert's output.</param>
    /// <param name="sharedGate">[rowCount], raw logits.</param>
    /// <param name="dy">[rowCount, width].</param>
    /// <param name="dExpertOutput">[rowCount·k, width], overwritten; may be <paramref name="expertOutput"/>.</param>
    /// <param name="dWeights">[rowCount, k], overwritten.</param>
    /// <param name="dShared">[rowCount, width], overwritten; may be <paramref name="dy"/> or <paramref name="shared"/>.</param>
    /// <param name="dSharedGate">[rowCount], overwritten: the gradient of the raw logits.</param>
    /// <param name="rowCount">Rows.</param>
    /// <param name="k">Experts per row.</param>
    /// <param name="width">Floats per row.</param>
    /// <param name="team">Threads.</param>
    /// <exception cref="ArgumentException">A view is too short.</exception>
    public static void CombineBackward(FloatView expertOutput, FloatView weights, FloatView shared, FloatView sharedGate, FloatView dy,
        FloatView dExpertOutput, FloatView dWeights, FloatView dShared, FloatView dSharedGate, int rowCount, int k, int width, ThreadTeam team) =>
        CombineBackward(IsaTier.Current, expertOutput, weights, shared, sharedGate, dy, dExpertOutput, dWeights, dShared, dSharedGate, rowCount, k, width, team);

    internal static void CombineBackward(Isa isa, FloatView expertOutput, FloatView weights, FloatView shared, FloatView sharedGate, FloatView dy,
        FloatView dExpertOutput, FloatView dWeights, FloatView dShared, FloatView dSharedGate, int rowCount, int k, int width, ThreadTeam team)
    {
        Expect.AtLeast(rowCount, 0);
        Expect.AtLeast(k, 1);
        Expect.AtLeast(width, 1);
        long expertFloats = checked((long)rowCount * k * width), rowFloats = (long)rowCount * width;
        Expect.Floats(expertOutput, expertFloats);
        Expect.Floats(dExpertOutput, expertFloats);
        Expect.Floats(weights, (long)rowCount * k);
        Expect.Floats(dWeights, (long)rowCount * k);
        Expect.Floats(shared, rowFloats);
        Expect.Floats(dy, rowFloats);
        Expect.Floats(dShared, rowFloats);
        Expect.Floats(sharedGate, rowCount);
        Expect.Floats(dSharedGate, rowCount);
        var job = new CombineBackwardJob
        {
            Isa = isa,
            ExpertOutput = expertOutput.Pointer,
            Weights = weights.Pointer,
            Shared = shared.Pointer,
            SharedGate = sharedGate.Pointer,
            Dy = dy.Pointer,
            DExpertOutput = dExpertOutput.Pointer,
            DWeights = dWeights.Pointer,
            DShared = dShared.Pointer,
            DSharedGate = dSharedGate.Pointer,
            K = k,
            Width = width,
            Split = WorkSplit.Of(rowCount, (long)width * (k + 1), team),
        };
        team.Run(ref job, job.Split.ChunkCount);
    }

    private struct CombineBackwardJob : IChunkedJob
    {
        public Isa Isa;
        public float* ExpertOutput, Weights, Shared, SharedGate, Dy, DExpertOutput, DWeights, DShared, DSharedGate;
        public int K, Width;
        public WorkSplit Split;

        public readonly void Run(int chunkIndex)
        {
            long end = Split.End(chunkIndex);
            for (long row = Split.First(chunkIndex); row < end; row++)
            {
                float* dy = Dy + row * Width;
                for (long choice = row * K; choice < (row + 1) * K; choice++)
                    DWeights[choice] = Weighted(Weights[choice], ExpertOutput + choice * Width, dy, DExpertOutput + choice * Width);

                // Last, because dShared may be dy.
                float gate = Activation.Sigmoid(SharedGate[row]);
                float dot = Weighted(gate, Shared + row * Width, dy, DShared + row * Width);
                DSharedGate[row] = dot * gate * (1 - gate);
            }
        }

        private readonly float Weighted(float factor, float* output, float* dy, float* dOutput) => Isa switch
        {
            Isa.Avx512 => VectorWeighted<Lanes512, Vector512<float>>(factor, output, dy, dOutput, Width),
            Isa.Avx2 or Isa.Arm64 => VectorWeighted<Lanes256, Vector256<float>>(factor, output, dy, dOutput, Width),
            _ => ScalarWeighted(factor, output, dy, dOutput, Width),
        };
    }

    // One weighted term of the sum: dOutput = factor · dy; returns the factor's gradient Σ dy ⊙ output.
    private static float ScalarWeighted(float factor, float* output, float* dy, float* dOutput, int width)
    {
        double dot = 0;
        for (int i = 0; i < width; i++)
        {
            dot += (double)dy[i] * output[i];
            dOutput[i] = factor * dy[i];
        }

        return (float)dot;
    }
}
