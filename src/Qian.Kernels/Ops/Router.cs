using System.Runtime.Intrinsics;

namespace Qian.Kernels;

/// <summary>Mixture of experts: which experts a row goes to, and the weighted sum of what comes back.</summary>
public static unsafe partial class Router
{
    /// <summary>Most experts a router can have; the working row lies on the stack.</summary>
    public const int MaxExpertCount = 4096;

    /// <summary>
    /// Softmax over all experts, the <paramref name="k"/> most probable per row, their probabilities divided by their sum.
    /// </summary>
    /// <param name="logits">[rowCount, expertCount].</param>
    /// <param name="rowCount">Rows.</param>
    /// <param name="expertCount">Experts.</param>
    /// <param name="k">Experts per row.</param>
    /// <param name="indices">[rowCount, k], by descending probability, of equals the lower index first. Always valid and distinct, even for NaN logits.</param>
    /// <param name="weights">[rowCount, k].</param>
    /// <param name="probabilities">[rowCount, expertCount], or an empty view when nobody needs them.</param>
    /// <exception cref="ArgumentException">A view is too short, or k or expertCount is out of range.</exception>
    public static void TopK(FloatView logits, int rowCount, int expertCount, int k, Span<int> indices, FloatView weights, FloatView probabilities) =>
        TopK(IsaTier.Current, logits, rowCount, expertCount, k, indices, weights, probabilities);

    internal static void TopK(Isa isa, FloatView logits, int rowCount, int expertCount, int k, Span<int> indices, FloatView weights, FloatView probabilities)
    {
        Expect.AtLeast(rowCount, 0);
        Expect.AtLeast(expertCount, 1);
        Expect.AtLeast(k, 1);
        if (expertCount > MaxExpertCount || k > expertCount)
            throw new ArgumentOutOfRangeException(nameof(k), k, $"{k} of {expertCount} experts: expected at most all of at most {MaxExpertCount}");
        Expect.Floats(logits, (long)rowCount * expertCount);
        Expect.Floats(weights, (long)rowCount * k);
        if (indices.Length < (long)rowCount * k)
            throw new ArgumentException($"indices: expected at least {(long)rowCount * k}, found {indices.Length}", nameof(indices));
        if (probabilities.Length != 0)
            Expect.Floats(probabilities, (long)rowCount * expertCount);

        float* row = stackalloc float[expertCount];
        for (long t = 0; t < rowCount; t++)
        {
            float* source = logits.Pointer + t * expertCount;
            switch (isa)
            {
                case Isa.Avx512:
                    Softmax<Lanes512, Vector512<float>>(source, row, expertCount);
                    break;
                case Isa.Avx2 or Isa.Arm64:
                    Softmax<Lanes256, Vector256<float>>(source, row, expertCount);
                    break;
                default:
                    ScalarSoftmax(source, row, expertCount);
                    break;
            }

            if (probabilities.Length != 0)
                Buffer.MemoryCopy(row, probabilities.Pointer + t * expertCount, expertCount * sizeof(float), expertCount * sizeof(float));
            Select(row, expertCount, indices.Slice(checked((int)(t * k)), k), weights.Pointer + t * k);
        }
    }

    /// <summary>y_t = Σ_j weights[t, j] · expertOutput[t·k + j] + sigmoid(sharedGate_t) · shared_t, in this order.</summary>
    /// <param name="expertOutput">[rowCount·k, width]: row t·k + j is the j-th expert of row t.</param>
    /// <param name="weights">[rowCount, k].</param>
    /// <param name="shared">[rowCount, width], the shared expert's output.</param>
    /// <param name="sharedGate">[rowCount], raw logits.</param>
    /// <param name="y">[rowCount, width]; may be <paramref name="shared"/>.</param>
    /// <param name="rowCount">Rows.</param>
    /// <param name="k">Experts per row.</param>
    /// <param name="width">Floats per row.</param>
    /// <param name="team">Threads.</param>
    /// <exception cref="ArgumentException">A view is too short.</exception>
    public static void Combine(FloatView expertOutput, FloatView weights, FloatView shared, FloatView sharedGate, FloatView y, int rowCount, int k, int width,
        ThreadTeam team) => Combine(IsaTier.Current, expertOutput, weights, shared, sharedGate, y, rowCount, k, width, team);

    internal static void Combine(Isa isa, FloatView expertOutput, FloatView weights, FloatView shared, FloatView sharedGate, FloatView y, int rowCount, int k,
        int width, ThreadTeam team)
    {
        Expect.AtLeast(rowCount, 0);
        Expect.AtLeast(k, 1);
        Expect.AtLeast(width, 1);
        Expect.Floats(expertOutput, checked((long)rowCount * k * width));
        Expect.Floats(weights, (long)rowCount * k);
        Expect.Floats(shared, (long)rowCount * width);
        Expect.Floats(sharedGate, rowCount);
        Expect.Floats(y, (long)rowCount * width);
        var job = new CombineJob
        {
            Isa = isa,
            ExpertOutput = expertOutput.Pointer,
            Weights = weights.Pointer,
            Shared = shared.Pointer,
            SharedGate = sharedGate.Pointer,
            Y = y.Pointer,
            K = k,
            Width = width,
            Split = WorkSplit.Of(rowCount, (long)width * (k + 1), team),
        };
        team.Run(ref job, job.Split.ChunkCount);
    }

    private struct CombineJob : IChunkedJob
    {
        public Isa Isa;
        public float* ExpertOutput, Weights, Shared, SharedGate, Y;
        public int K, Width;
        public WorkSplit Split;

        public readonly void Run(int chunkIndex)
        {
            long end = Split.End(chunkIndex);
            for (long row = Split.First(chunkIndex); row < end; row++)
            {
                float* experts = ExpertOutput + row * K * Width;
                float* weights = Weights + row * K;
                float gate = Activation.Sigmoid(SharedGate[row]);
                float* shared = Shared + row * Width, y = Y + row * Width;
                switch (Isa)
                {
                    case Isa.Avx512:
                        CombineRow<Lanes512, Vector512<float>>(experts, weights, shared, gate, y, K, Width);
                        break;
                    case Isa.Avx2 or Isa.Arm64:
                        CombineRow<Lanes256, Vector256<float>>(experts, weights, shared, gate, y, K, Width);
                        break;
                    default:
                        ScalarCombine(experts, weights, shared, gate, y, K, Width);
                        break;
                }
            }
        }
    }

    private static void ScalarSoftmax(float* logits, float* probabilities, int count)
    {
        float max = logits[0];
        for (int i = 1; i < count; i++)
            max = MathF.Max(max, logits[i]);
        float sum = 0;
        for (int i = 0; i < count; i++)
            sum += probabilities[i] = MathF.Exp(logits[i] - max);
        for (int i = 0; i < count; i++)
            probabilities[i] /= sum;
    }

    // Consumes the row: what is taken becomes −1. k passes over a few hundred floats beat any heap.
    private static void Select(float* row, int expertCount, Span<int> indices, float* weights)
    {
        float sum = 0;
        for (int j = 0; j < indices.Length; j++)
        {
            int best = -1;
            for (int e = 0; e < expertCount; e++)
            {
                // NaN loses against every number and is still taken when only NaN is left.
                if (row[e] >= 0 && (best < 0 || row[e] > row[best] || float.IsNaN(row[best])))
                    best = e;
                else if (best < 0 && float.IsNaN(row[e]))
                    best = e;
            }

            indices[j] = best;
            sum += weights[j] = row[best];
            row[best] = -1;
        }

        for (int j = 0; j < indices.Length; j++)
            weights[j] /= sum;
    }

    private static void ScalarCombine(float* experts, float* weights, float* shared, float gate, float* y, int k, int width)
    {
        for (int i = 0; i < width; i++)
        {
            float sum = 0;
            for (int j = 0; j < k; j++)
                sum += weights[j] * experts[(long)j * width + i];
            y[i] = sum + gate * shared[i];
        }
    }
}
