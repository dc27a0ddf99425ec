using System.Runtime.Intrinsics;

namespace Qian.Kernels;

/// <summary>
/// The short causal convolution before the delta rule, one filter per channel, then SiLU:
/// y_t = silu(Σ_j w[ch, j] · u_{t − kernel + 1 + j}). Inputs before the call come from the window, which leaves holding the last
/// kernel − 1 raw inputs, so that calls over consecutive rows give what one call over all of them gives, bit for bit.
/// </summary>
public static unsafe partial class ConvSilu
{
    // Filters are turned to [kernel, channels] a block at a time, on the stack.
    private const int FilterFloats = 2048;
    private const int MaxKernel = 64;

    /// <summary>Runs the rows of one sequence.</summary>
    /// <param name="u">[rowCount, channels], raw inputs of consecutive tokens.</param>
    /// <param name="weight">[channels, kernel].</param>
    /// <param name="window">[kernel − 1, channels], the raw inputs before row 0, oldest first (zeros at a start); updated.</param>
    /// <param name="y">[rowCount, channels]; must not be <paramref name="u"/>.</param>
    /// <param name="rowCount">Rows; fewer than kernel − 1 are fine.</param>
    /// <param name="channels">Channels.</param>
    /// <param name="kernel">Filter length, 1 to 64.</param>
    /// <param name="team">Threads.</param>
    /// <exception cref="ArgumentException">A view is too short, or <paramref name="y"/> is <paramref name="u"/>.</exception>
    public static void Apply(FloatView u, FloatView weight, FloatView window, FloatView y, int rowCount, int channels, int kernel, ThreadTeam team) =>
        Apply(IsaTier.Current, u, weight, window, y, rowCount, channels, kernel, team);

    /// <summary>The outputs of <see cref="Apply(FloatView, FloatView, FloatView, FloatView, int, int, int, ThreadTeam)"/> without moving the window: for rows that may not belong to the text.</summary>
    /// <param name="u">[rowCount, channels], raw inputs of consecutive tokens.</param>
    /// <param name="weight">[channels, kernel].</param>
    /// <param name="window">[kernel − 1, channels], the raw inputs before row 0, oldest first; read only.</param>
    /// <param name="y">[rowCount, channels]; must not be <paramref name="u"/>.</param>
    /// <param name="rowCount">Rows.</param>
    /// <param name="channels">Channels.</param>
    /// <param name="kernel">Filter length, 1 to 64.</param>
    /// <param name="team">Threads.</param>
    /// <exception cref="ArgumentException">A view is too short, or <paramref name="y"/> is <paramref name="u"/>.</exception>
    public static void ApplyKeepingWindow(FloatView u, FloatView weight, FloatView window, FloatView y, int rowCount, int channels, int kernel, ThreadTeam team) =>
        Apply(IsaTier.Current, u, weight, window, y, rowCount, channels, kernel, team, keepsWindow: true);

    internal static void Apply(
        Isa isa, FloatView u, FloatView weight, FloatView window, FloatView y, int rowCount, int channels, int kernel, ThreadTeam team, bool keepsWindow = false)
    {
        Expect.AtLeast(rowCount, 0);
        Expect.AtLeast(channels, 1);
        Expect.AtLeast(kernel, 1);
        if (kernel > MaxKernel)
            throw new ArgumentOutOfRangeException(nameof(kernel), kernel, $"filter length: at most {MaxKernel}");
        Expect.Floats(u, (long)rowCount * channels);
        Expect.Floats(y, (long)rowCount * channels);
        Expect.Floats(weight, (long)channels * kernel);
        Expect.Floats(window, (kernel - 1L) * channels);
        if (u.Pointer == y.Pointer && rowCount > 0)
            throw new ArgumentException("the convolution reads earlier inputs after it wrote earlier outputs: give it another y", nameof(y));
        if (rowCount == 0)
            return;

        var job = new Job
        {
            Isa = isa,
            U = u.Pointer,
            Weight = weight.Pointer,
            Window = window.Pointer,
            Y = y.Pointer,
            RowCount = rowCount,
            Channels = channels,
            Kernel = kernel,
            KeepsWindow = keepsWindow,
            Split = WorkSplit.Of(channels, (long)rowCount * kernel, team, granule: 64),
        };
        team.Run(ref job, job.Split.ChunkCount);
    }

    // A chunk owns some channels through all rows, the window's columns included: nothing is shared between chunks.
    private struct Job : IChunkedJob
    {
        public Isa Isa;
        public float* U, Weight, Window, Y;
        public int RowCount, Channels, Kernel;
        public bool KeepsWindow;
        public WorkSplit Split;

        public readonly void Run(int chunkIndex)
        {
            int first = (int)Split.First(chunkIndex), end = (int)Split.End(chunkIndex);
            switch (Isa)
            {
                case Isa.Avx512:
                    Vector<Lanes512, Vector512<float>>(in this, first, end);
                    break;
                case Isa.Avx2 or Isa.Arm64:
                    Vector<Lanes256, Vector256<float>>(in this, first, end);
                    break;
                default:
                    Scalar(in this, first, end);
                    break;
            }

            if (!KeepsWindow)
                Shift(first, end);
        }

        // Row index −1 is the newest row of the window.
        public readonly float* Input(long row) => row >= 0 ? U + row * Channels : Window + (row + Kernel - 1) * Channels;

        // Ascending, because a window longer than the call moves onto itself.
        private readonly void Shift(int first, int end)
        {
            for (int i = 0; i < Kernel - 1; i++)
            {
                float* from = Input((long)RowCount - (Kernel - 1) + i) + first;
                float* to = Window + (long)i * Channels + first;
                Buffer.MemoryCopy(from, to, (end - first) * sizeof(float), (end - first) * sizeof(float));
            }
        }
    }

    private static void Scalar(in Job job, int first, int end)
    {
        for (int row = 0; row < job.RowCount; row++)
        {
            for (int channel = first; channel < end; channel++)
            {
                float sum = 0;
                for (int j = 0; j < job.Kernel; j++)
                    sum += job.Weight[(long)channel * job.Kernel + j] * job.Input((long)row - (job.Kernel - 1) + j)[channel];
                job.Y[(long)row * job.Channels + channel] = Activation.Silu(sum);
            }
        }
    }
}
