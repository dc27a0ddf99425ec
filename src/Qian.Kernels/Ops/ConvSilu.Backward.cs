using System.Runtime.Intrinsics;

namespace Qian.Kernels;

// With c the convolution before SiLU and d = dy ⊙ silu'(c):  du_t = Σ_j w[j] · d_{t + kernel − 1 − j},  dw[j] = Σ_t d_t · u_{t − kernel + 1 + j},
// both within a sample. Rows go by in order: row t sets its own du and adds to those of the kernel − 1 rows before it.
public static unsafe partial class ConvSilu
{
    /// <summary>The gradient of <see cref="ApplySamples(FloatView, FloatView, FloatView, ReadOnlySpan{int}, int, int, ThreadTeam)"/>.</summary>
    /// <param name="u">[rowCount, channels], the forward's raw inputs.</param>
    /// <param name="weight">[channels, kernel].</param>
    /// <param name="dy">[rowCount, channels].</param>
    /// <param name="du">[rowCount, channels], overwritten; may be <paramref name="dy"/>, not <paramref name="u"/>.</param>
    /// <param name="dWeight">[channels, kernel], added to; empty where the filters are frozen.</param>
    /// <param name="borders">Sample s takes rows borders[s] to borders[s + 1] − 1; begins with 0, ends with rowCount.</param>
    /// <param name="channels">Channels.</param>
    /// <param name="kernel">Filter length, 1 to 64.</param>
    /// <param name="team">Threads.</param>
    /// <exception cref="ArgumentException">A view is too short, the borders go backwards, or <paramref name="du"/> is <paramref name="u"/>.</exception>
    public static void Backward(FloatView u, FloatView weight, FloatView dy, FloatView du, FloatView dWeight, ReadOnlySpan<int> borders, int channels,
        int kernel, ThreadTeam team) => Backward(IsaTier.Current, u, weight, dy, du, dWeight, borders, channels, kernel, team);

    internal static void Backward(Isa isa, FloatView u, FloatView weight, FloatView dy, FloatView du, FloatView dWeight, ReadOnlySpan<int> borders,
        int channels, int kernel, ThreadTeam team)
    {
        int rowCount = CheckSamples(u, weight, borders, channels, kernel);
        Expect.Floats(dy, (long)rowCount * channels);
        Expect.Floats(du, (long)rowCount * channels);
        if (dWeight.Length != 0)
            Expect.Floats(dWeight, (long)channels * kernel);
        if (rowCount == 0)
            return;
        if (u.Pointer == du.Pointer)
            throw new ArgumentException("the gradient reads later inputs after it wrote earlier results: give it another du", nameof(du));

        fixed (int* borderPointer = borders)
        {
            var job = new BackwardJob
            {
                Isa = isa,
                U = u.Pointer,
                Weight = weight.Pointer,
                Dy = dy.Pointer,
                Du = du.Pointer,
                DWeight = dWeight.Length == 0 ? null : dWeight.Pointer,
                Borders = borderPointer,
                SampleCount = borders.Length - 1,
                Channels = channels,
                Kernel = kernel,
                Split = WorkSplit.Of(channels, (long)rowCount * kernel, team, granule: 64),
            };
            team.Run(ref job, job.Split.ChunkCount);
        }
    }

    // A chunk owns some channels through all samples, their filters' gradients included.
    private struct BackwardJob : IChunkedJob
    {
        public Isa Isa;
        public float* U, Weight, Dy, Du, DWeight;
        public int* Borders;
        public int SampleCount, Channels, Kernel;
        public WorkSplit Split;

        public readonly void Run(int chunkIndex)
        {
            int first = (int)Split.First(chunkIndex), end = (int)Split.End(chunkIndex);
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

    private static void ScalarBackward(in BackwardJob job, int first, int end)
    {
        int kernel = job.Kernel, channels = job.Channels;
        double* sums = stackalloc double[kernel];
        for (int channel = first; channel < end; channel++)
        {
            float* weight = job.Weight + (long)channel * kernel;
            new Span<double>(sums, kernel).Clear();
            for (int sample = 0; sample < job.SampleCount; sample++)
            {
                int start = job.Borders[sample];
                for (int row = start; row < job.Borders[sample + 1]; row++)
                {
                    long at = (long)row * channels + channel;
                    float convolved = Convolved(job.U, job.Weight, start, row, channel, channels, kernel);
                    float gradient = job.Dy[at] * Activation.SiluSlope(convolved, Activation.Sigmoid(convolved));
                    job.Du[at] = 0;
                    for (int j = Math.Max(0, kernel - 1 - (row - start)); j < kernel; j++)
                    {
                        long from = at + (long)(j - (kernel - 1)) * channels;
                        job.Du[from] += weight[j] * gradient;
                        sums[j] += (double)gradient * job.U[from];
                    }
                }
            }

            if (job.DWeight == null)
                continue;
            for (int j = 0; j < kernel; j++)
                job.DWeight[(long)channel * kernel + j] += (float)sums[j];
        }
    }
}
