using System.Diagnostics.CodeAnalysis;
using System.Runtime.Intrinsics;

namespace Qian.Kernels;

/// <summary>
/// The loss of next-token prediction, −log softmax(logits)[label], and its gradient in the logits' place. A row is walked
/// three times (maximum, exponentials and their sum, scaling): a vocabulary's row lies in the second-level cache throughout.
/// </summary>
public static unsafe partial class CrossEntropy
{
    /// <summary>A row with this label takes no part: no loss, no gradient.</summary>
    public const int Ignored = -100;

    /// <summary>Loss per row; the logits become gradientScale · (softmax − onehot(label)), zero in ignored rows.</summary>
    /// <param name="logits">[rowCount, vocabulary], overwritten.</param>
    /// <param name="rowCount">Rows.</param>
    /// <param name="vocabulary">Logits per row.</param>
    /// <param name="labels">[rowCount], 0 to vocabulary − 1, or <see cref="Ignored"/>.</param>
    /// <param name="gradientScale">Factor on the gradient (not on the loss).</param>
    /// <param name="rowLoss">[rowCount], overwritten, in nats; 0 in ignored rows.</param>
    /// <param name="team">Threads; rows are shared out.</param>
    /// <exception cref="ArgumentException">A view is too short, or a label is neither a token nor <see cref="Ignored"/>; nothing is written then.</exception>
    public static void Apply(FloatView logits, int rowCount, int vocabulary, ReadOnlySpan<int> labels, float gradientScale, FloatView rowLoss,
        ThreadTeam team) => Run(IsaTier.Current, logits, rowCount, vocabulary, labels, gradientScale, rowLoss, withGradient: true, team);

    /// <summary>Loss per row; the logits stay as they are.</summary>
    /// <param name="logits">[rowCount, vocabulary]; a row's label is masked while the row is summed, and put back.</param>
    /// <param name="rowCount">Rows.</param>
    /// <param name="vocabulary">Logits per row.</param>
    /// <param name="labels">[rowCount], 0 to vocabulary − 1, or <see cref="Ignored"/>.</param>
    /// <param name="rowLoss">[rowCount], overwritten, in nats; 0 in ignored rows.</param>
    /// <param name="team">Threads; rows are shared out.</param>
    /// <exception cref="ArgumentException">A view is too short, or a label is neither a token nor <see cref="Ignored"/>.</exception>
    public static void Loss(FloatView logits, int rowCount, int vocabulary, ReadOnlySpan<int> labels, FloatView rowLoss, ThreadTeam team) =>
        Run(IsaTier.Current, logits, rowCount, vocabulary, labels, 0, rowLoss, withGradient: false, team);

    internal static void Run(Isa isa, FloatView logits, int rowCount, int vocabulary, ReadOnlySpan<int> labels, float gradientScale, FloatView rowLoss,
        bool withGradient, ThreadTeam team)
    {
        Expect.AtLeast(rowCount, 0);
        Expect.AtLeast(vocabulary, 1);
        Expect.Floats(logits, (long)rowCount * vocabulary);
        Expect.Floats(rowLoss, rowCount);
        if (labels.Length < rowCount)
            throw new ArgumentException($"labels: expected at least {rowCount}, found {labels.Length}", nameof(labels));
        for (int row = 0; row < rowCount; row++)
        {
            if ((uint)labels[row] >= (uint)vocabulary && labels[row] != Ignored)
                ThrowBadLabel(row, labels[row], vocabulary);
        }

        fixed (int* labelPointer = labels)
        {
            var job = new Job
            {
                Isa = isa,
                Logits = logits.Pointer,
                Labels = labelPointer,
                RowLoss = rowLoss.Pointer,
                GradientScale = gradientScale,
                Vocabulary = vocabulary,
                WithGradient = withGradient,
                Split = WorkSplit.Of(rowCount, vocabulary, team),
            };
            team.Run(ref job, job.Split.ChunkCount);
        }
    }

    private struct Job : IChunkedJob
    {
        public Isa Isa;
        public float* Logits, RowLoss;
        public int* Labels;
        public float GradientScale;
        public int Vocabulary;
        public bool WithGradient;
        public WorkSplit Split;

        public readonly void Run(int chunkIndex)
        {
            long end = Split.End(chunkIndex);
            for (long row = Split.First(chunkIndex); row < end; row++)
            {
                float* logits = Logits + row * Vocabulary;
                int label = Labels[row];
                if (label == Ignored)
                {
                    RowLoss[row] = 0;
                    if (WithGradient)
                        new Span<float>(logits, Vocabulary).Clear();
                    continue;
                }

                RowLoss[row] = WithGradient ? RowGradient(logits, label) : RowLossOf(logits, label);
            }
        }

        private readonly float RowGradient(float* logits, int label) => Isa switch
        {
            Isa.Avx512 => Gradient<Lanes512, Vector512<float>>(logits, label, GradientScale, Vocabulary),
            Isa.Avx2 or Isa.Arm64 => Gradient<Lanes256, Vector256<float>>(logits, label, GradientScale, Vocabulary),
            _ => ScalarGradient(logits, label, GradientScale, Vocabulary),
        };

        private readonly float RowLossOf(float* logits, int label) => Isa switch
        {
            Isa.Avx512 => Loss<Lanes512, Vector512<float>>(logits, label, Vocabulary),
            Isa.Avx2 or Isa.Arm64 => Loss<Lanes256, Vector256<float>>(logits, label, Vocabulary),
            _ => ScalarLoss(logits, label, Vocabulary),
        };
    }

    // All of these return the row's loss. The label's own exponential stays out of the sum: its gradient is minus the sum of
    // the others, and taken as p − 1 it would lose what little is left once the label is all but certain.
    private static float ScalarGradient(float* logits, int label, float gradientScale, int vocabulary)
    {
        float max = ScalarMax(logits, vocabulary), atLabel = logits[label];
        logits[label] = float.NegativeInfinity;
        double others = 0, own = Math.Exp((double)atLabel - max);
        for (int i = 0; i < vocabulary; i++)
            others += logits[i] = MathF.Exp(logits[i] - max);
        double scale = gradientScale / (others + own);
        for (int i = 0; i < vocabulary; i++)
            logits[i] = (float)(logits[i] * scale);
        logits[label] = (float)(-others * scale);
        return LossOf(others, own, max, atLabel);
    }

    private static float ScalarLoss(float* logits, int label, int vocabulary)
    {
        float max = ScalarMax(logits, vocabulary), atLabel = logits[label];
        logits[label] = float.NegativeInfinity;
        double others = 0;
        for (int i = 0; i < vocabulary; i++)
            others += MathF.Exp(logits[i] - max);
        logits[label] = atLabel;
        return LossOf(others, Math.Exp((double)atLabel - max), max, atLabel);
    }

    private static float LossOf(double others, double own, float max, float atLabel) => (float)(Math.Log(others + own) + ((double)max - atLabel));

    private static float ScalarMax(float* logits, int vocabulary)
    {
        float max = logits[0];
        for (int i = 1; i < vocabulary; i++)
            max = MathF.Max(max, logits[i]);
        return max;
    }

    [DoesNotReturn]
    private static void ThrowBadLabel(int row, int label, int vocabulary) =>
        throw new ArgumentException($"labels: row {row} has {label}: expected 0 to {vocabulary - 1}, or {Ignored} for none", "labels");
}
