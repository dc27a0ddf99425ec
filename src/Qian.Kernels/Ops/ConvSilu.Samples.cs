using System.Runtime.Intrinsics;

namespace Qian.Kernels;

// The convolution over samples laid end to end, each with a window of zeros before it.
public static unsafe partial class ConvSilu
{
    /// <summary>Runs whole samples; every value is what Apply gives for the sample alone with a window of zeros.</summary>
    /// <param name="u">[rowCount, channels], raw inputs.</param>
    /// <param name="weight">[channels, kernel].</param>
    /// <param name="y">[rowCount, channels]; must not be <paramref name="u"/>.</param>
    /// <param name="borders">Sample s takes rows borders[s] to borders[s + 1] − 1; begins with 0, ends with rowCount.</param>
    /// <param name="channels">Channels.</param>
    /// <param name="kernel">Filter length, 1 to 64.</param>
    /// <param name="team">Threads.</param>
    /// <exception cref="ArgumentException">A view is too short, the borders go backwards, or <paramref name="y"/> is <paramref name="u"/>.</exception>
    public static void ApplySamples(FloatView u, FloatView weight, FloatView y, ReadOnlySpan<int> borders, int channels, int kernel, ThreadTeam team) =>
        ApplySamples(IsaTier.Current, u, weight, y, borders, channels, kernel, team);

    internal static void ApplySamples(Isa isa, FloatView u, FloatView weight, FloatView y, ReadOnlySpan<int> borders, int channels, int kernel, ThreadTeam team)
    {
        int rowCount = CheckSamples(u, weight, borders, channels, kernel);
        Expect.Floats(y, (long)rowCount * channels);
        if (rowCount == 0)
            return;
        if (u.Pointer == y.Pointer)
            throw new ArgumentException("the convolution reads earlier inputs after it wrote earlier outputs: give it another y", nameof(y));

        fixed (int* borderPointer = borders)
        {
            var job = new SamplesJob
            {
                Isa = isa,
                U = u.Pointer,
                Weight = weight.Pointer,
                Y = y.Pointer,
                Borders = borderPointer,
                SampleCount = borders.Length - 1,
                Channels = channels,
                Kernel = kernel,
                Split = WorkSplit.Of(channels, (long)rowCount * kernel, team, granule: 64),
            };
            team.Run(ref job, job.Split.ChunkCount);
        }
    }

    // Returns the rows of all samples.
    private static int CheckSamples(FloatView u, FloatView weight, ReadOnlySpan<int> borders, int channels, int kernel)
    {
        Expect.AtLeast(channels, 1);
        Expect.AtLeast(kernel, 1);
        if (kernel > MaxKernel)
            throw new ArgumentOutOfRangeException(nameof(kernel), kernel, $"filter length: at most {MaxKernel}");
        int rowCount = SampleBorders.RowCount(borders);
        Expect.Floats(u, (long)rowCount * channels);
        Expect.Floats(weight, (long)channels * kernel);
        return rowCount;
    }

    // A chunk owns some channels through all samples.
    private struct SamplesJob : IChunkedJob
    {
        public Isa Isa;
        public float* U, Weight, Y;
        public int* Borders;
        public int SampleCount, Channels, Kernel;
        public WorkSplit Split;

        public readonly void Run(int chunkIndex)
        {
            int first = (int)Split.First(chunkIndex), end = (int)Split.End(chunkIndex);
            switch (Isa)
            {
                case Isa.Avx512:
                    VectorSamples<Lanes512, Vector512<float>>(in this, first, end);
                    break;
                case Isa.Avx2 or Isa.Arm64:
                    VectorSamples<Lanes256, Vector256<float>>(in this, first, end);
                    break;
                default:
                    ScalarSamples(in this, first, end);
                    break;
            }
        }
    }

    private static void ScalarSamples(in SamplesJob job, int first, int end)
    {
        for (int sample = 0; sample < job.SampleCount; sample++)
        {
            int start = job.Borders[sample];
            for (int row = start; row < job.Borders[sample + 1]; row++)
            {
                for (int channel = first; channel < end; channel++)
                {
                    float sum = Convolved(job.U, job.Weight, start, row, channel, job.Channels, job.Kernel);
                    job.Y[(long)row * job.Channels + channel] = Activation.Silu(sum);
                }
            }
        }
    }

    // One channel of one row before SiLU; rows before start count as zeros.
    private static float Convolved(float* u, float* weight, int start, int row, int channel, int channels, int kernel)
    {
        float sum = 0;
        for (int j = Math.Max(0, kernel - 1 - (row - start)); j < kernel; j++)
            sum += weight[(long)channel * kernel + j] * u[(long)(row - (kernel - 1) + j) * channels + channel];
        return sum;
    }
}
