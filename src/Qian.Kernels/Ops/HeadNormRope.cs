using System.Runtime.Intrinsics;

namespace Qian.Kernels;

/// <summary>
/// Queries and keys of full attention: RMS norm per head, then rotary (NeoX pairing: i with i + rotaryDim/2) on the first
/// rotaryDim dimensions. Strides let it read the heads out of a [query | gate] projection while it packs them.
/// </summary>
public static unsafe partial class HeadNormRope
{
    /// <summary>Norms and rotates every head of every row.</summary>
    /// <param name="x">Head h of row t starts at float t·rowStride + h·headStride.</param>
    /// <param name="rowStride">Floats from row to row in <paramref name="x"/>.</param>
    /// <param name="headStride">Floats from head to head (2·headDim for a query interleaved with its gate).</param>
    /// <param name="rowCount">Rows.</param>
    /// <param name="headCount">Heads per row.</param>
    /// <param name="headDim">Floats per head.</param>
    /// <param name="normWeight">[headDim], the factor itself (1 + w).</param>
    /// <param name="epsilon">Added to the mean square.</param>
    /// <param name="cosSin">[rowCount, rotaryDim] from <see cref="RopeTable.Fill"/>.</param>
    /// <param name="rotaryDim">Even, at most headDim.</param>
    /// <param name="y">[rowCount, headCount·headDim]; may be <paramref name="x"/> where the strides are contiguous.</param>
    /// <param name="team">Threads.</param>
    /// <exception cref="ArgumentException">A view is too short or the sizes do not fit.</exception>
    public static void Apply(FloatView x, int rowStride, int headStride, int rowCount, int headCount, int headDim, FloatView normWeight,
        float epsilon, FloatView cosSin, int rotaryDim, FloatView y, ThreadTeam team) =>
        Apply(IsaTier.Current, x, rowStride, headStride, rowCount, headCount, headDim, normWeight, epsilon, cosSin, rotaryDim, y, team);

    internal static void Apply(Isa isa, FloatView x, int rowStride, int headStride, int rowCount, int headCount, int headDim, FloatView normWeight,
        float epsilon, FloatView cosSin, int rotaryDim, FloatView y, ThreadTeam team)
    {
        CheckSizes(rowStride, headStride, rowCount, headCount, headDim, rotaryDim);
        if (rowCount > 0)
            Expect.Floats(x, (rowCount - 1) * (long)rowStride + (headCount - 1) * (long)headStride + headDim);
        Expect.Floats(normWeight, headDim);
        Expect.Floats(cosSin, (long)rowCount * rotaryDim);
        Expect.Floats(y, (long)rowCount * headCount * headDim);

        var job = new Job
        {
            Isa = isa,
            X = x.Pointer,
            Weight = normWeight.Pointer,
            CosSin = cosSin.Pointer,
            Y = y.Pointer,
            RowStride = rowStride,
            HeadStride = headStride,
            HeadCount = headCount,
            HeadDim = headDim,
            RotaryDim = rotaryDim,
            Epsilon = epsilon,
            Split = WorkSplit.Of(rowCount, (long)headCount * headDim, team),
        };
        team.Run(ref job, job.Split.ChunkCount);
    }

    private static void CheckSizes(int rowStride, int headStride, int rowCount, int headCount, int headDim, int rotaryDim)
    {
        Expect.AtLeast(rowCount, 0);
        Expect.AtLeast(headCount, 1);
        Expect.AtLeast(headDim, 1);
        Expect.AtLeast(rotaryDim, 0);
        if (rotaryDim > headDim || rotaryDim % 2 != 0)
            throw new ArgumentException($"rotary dimension {rotaryDim}: expected an even number up to the head's {headDim}", nameof(rotaryDim));
        if (headStride < headDim || rowStride < (headCount - 1) * (long)headStride + headDim)
            throw new ArgumentException($"strides {rowStride} and {headStride} make {headCount} heads of {headDim} overlap", nameof(rowStride));
    }

    private struct Job : IChunkedJob
    {
        public Isa Isa;
        public float* X, Weight, CosSin, Y;
        public int RowStride, HeadStride, HeadCount, HeadDim, RotaryDim;
        public float Epsilon;
        public WorkSplit Split;

        public readonly void Run(int chunkIndex)
        {
            long end = Split.End(chunkIndex);
            for (long row = Split.First(chunkIndex); row < end; row++)
            {
                float* cosSin = CosSin + row * RotaryDim;
                for (int head = 0; head < HeadCount; head++)
                {
                    float* x = X + row * RowStride + (long)head * HeadStride;
                    float* y = Y + (row * HeadCount + head) * HeadDim;
                    switch (Isa)
                    {
                        case Isa.Avx512:
                            Head<Lanes512, Vector512<float>>(x, Weight, Epsilon, cosSin, RotaryDim, y, HeadDim);
                            break;
                        case Isa.Avx2 or Isa.Arm64:
                            Head<Lanes256, Vector256<float>>(x, Weight, Epsilon, cosSin, RotaryDim, y, HeadDim);
                            break;
                        default:
                            ScalarHead(x, Weight, Epsilon, cosSin, RotaryDim, y, HeadDim);
                            break;
                    }
                }
            }
        }
    }

    private static void ScalarHead(float* x, float* weight, float epsilon, float* cosSin, int rotaryDim, float* y, int headDim)
    {
        double sum = SumOfSquares.Scalar(x, headDim);
        float inverse = (float)(1 / Math.Sqrt(sum / headDim + epsilon));

        int half = rotaryDim / 2;
        for (int i = 0; i < half; i++)
        {
            float cos = cosSin[i], sin = cosSin[half + i];
            float a = x[i] * inverse * weight[i];
            float b = x[half + i] * inverse * weight[half + i];
            y[i] = a * cos - b * sin;
            y[half + i] = b * cos + a * sin;
        }

        for (int i = rotaryDim; i < headDim; i++)
            y[i] = x[i] * inverse * weight[i];
    }
}
