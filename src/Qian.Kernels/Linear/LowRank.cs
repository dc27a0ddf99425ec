using System.Runtime.Intrinsics;

namespace Qian.Kernels;

/// <summary>The two factors of a low-rank product, free of padding: y += Up^T (Down x).</summary>
/// <param name="Down">[Rank, InputCount]: A of a LoRA pair.</param>
/// <param name="Up">[Rank, OutputCount]: B turned, with the pair's scale inside, so that its sum over the rank runs along lanes.</param>
/// <param name="Rank">Width of what lies between.</param>
/// <param name="InputCount">Floats of an input row.</param>
/// <param name="OutputCount">Floats of an output row.</param>
public readonly record struct LowRankFactors(FloatView Down, FloatView Up, int Rank, int InputCount, int OutputCount);

/// <summary>
/// y[rows, out] += B (A x), what a LoRA adapter adds to a projection. Every number is one sum in one order: an inner one along
/// the input, an output one along the rank. That order depends neither on the number of rows nor on tiles, chunks or threads, so
/// one row computed alone equals the same row computed among many, bit for bit, within a tier.
/// </summary>
public static unsafe partial class LowRank
{
    // Rows of A, and rows of x, that one tile of the first product takes.
    private const int RankTile = 4;
    private const int RowTile = 2;

    // Outputs of one item of the second product: its part of B stays in the first-level cache for all rows.
    private const int OutputBlock = 64;

    /// <summary>Adds the product to the rows of <paramref name="y"/>.</summary>
    /// <param name="factors">The two matrices.</param>
    /// <param name="x">Row t at t * <paramref name="xStride"/>.</param>
    /// <param name="xStride">Floats from one input row to the next.</param>
    /// <param name="y">Row t at t * <paramref name="yStride"/>, in and out; must not overlap <paramref name="x"/>.</param>
    /// <param name="yStride">Floats from one output row to the next.</param>
    /// <param name="rowCount">Rows.</param>
    /// <param name="inner">[rowCount, rank]: scratch, overwritten with A x.</param>
    /// <param name="team">Threads.</param>
    /// <exception cref="ArgumentException">A view is too short.</exception>
    public static void Apply(in LowRankFactors factors, FloatView x, int xStride, FloatView y, int yStride, int rowCount, FloatView inner, ThreadTeam team) =>
        Apply(IsaTier.Current, factors, x, xStride, y, yStride, rowCount, inner, team);

    internal static void Apply(
        Isa isa, in LowRankFactors factors, FloatView x, int xStride, FloatView y, int yStride, int rowCount, FloatView inner, ThreadTeam team)
    {
        (int rank, int inputCount, int outputCount) = (factors.Rank, factors.InputCount, factors.OutputCount);
        Expect.AtLeast(rowCount, 0);
        Expect.AtLeast(rank, 1);
        Expect.AtLeast(inputCount, 1);
        Expect.AtLeast(outputCount, 1);
        Expect.AtLeast(xStride, inputCount);
        Expect.AtLeast(yStride, outputCount);
        Expect.Floats(factors.Down, (long)rank * inputCount);
        Expect.Floats(factors.Up, (long)rank * outputCount);
        Expect.Floats(inner, (long)rowCount * rank);
        if (rowCount == 0)
            return;
        Expect.Floats(x, (rowCount - 1L) * xStride + inputCount);
        Expect.Floats(y, (rowCount - 1L) * yStride + outputCount);

        int rankTiles = (rank + RankTile - 1) / RankTile, rowTiles = (rowCount + RowTile - 1) / RowTile;
        var reduce = new ReduceJob
        {
            Isa = isa,
            Down = factors.Down.Pointer,
            X = x.Pointer,
            Inner = inner.Pointer,
            XStride = xStride,
            RowCount = rowCount,
            Rank = rank,
            InputCount = inputCount,
            RankTiles = rankTiles,
            Split = WorkSplit.Of((long)rankTiles * rowTiles, (long)RankTile * inputCount, team),
        };
        team.Run(ref reduce, reduce.Split.ChunkCount);

        var expand = new ExpandJob
        {
            Isa = isa,
            Up = factors.Up.Pointer,
            Inner = inner.Pointer,
            Y = y.Pointer,
            YStride = yStride,
            RowCount = rowCount,
            Rank = rank,
            OutputCount = outputCount,
            Split = WorkSplit.Of((outputCount + OutputBlock - 1) / OutputBlock, OutputBlock * ((long)rank + rowCount), team),
        };
        team.Run(ref expand, expand.Split.ChunkCount);
    }

    // inner = A x. An item is a tile of rows of A against a tile of rows of x.
    private struct ReduceJob : IChunkedJob
    {
        public Isa Isa;
        public float* Down, X, Inner;
        public long XStride;
        public int RowCount, Rank, InputCount, RankTiles;
        public WorkSplit Split;

        public readonly void Run(int chunkIndex)
        {
            long end = Split.End(chunkIndex);
            for (long item = Split.First(chunkIndex); item < end; item++)
            {
                int row = (int)(item / RankTiles) * RowTile, rank = (int)(item % RankTiles) * RankTile;
                switch (Isa)
                {
                    case Isa.Avx512:
                        ReduceTile<Lanes512, Vector512<float>>(this, row, rank);
                        break;
                    case Isa.Avx2 or Isa.Arm64:
                        ReduceTile<Lanes256, Vector256<float>>(this, row, rank);
                        break;
                    default:
                        ReduceScalar(this, row, rank);
                        break;
                }
            }
        }
    }

    // y += B inner. An item is a block of outputs of all rows.
    private struct ExpandJob : IChunkedJob
    {
        public Isa Isa;
        public float* Up, Inner, Y;
        public long YStride;
        public int RowCount, Rank, OutputCount;
        public WorkSplit Split;

        public readonly void Run(int chunkIndex)
        {
            int end = (int)Math.Min(Split.End(chunkIndex) * OutputBlock, OutputCount);
            for (int first = (int)Split.First(chunkIndex) * OutputBlock; first < end; first += OutputBlock)
            {
                int count = Math.Min(OutputBlock, end - first);
                for (int row = 0; row < RowCount; row++)
                {
                    float* inner = Inner + (long)row * Rank, y = Y + row * YStride + first;
                    switch (Isa)
                    {
                        case Isa.Avx512:
                            ExpandRow<Lanes512, Vector512<float>>(Up + first, OutputCount, inner, Rank, y, count);
                            break;
                        case Isa.Avx2 or Isa.Arm64:
                            ExpandRow<Lanes256, Vector256<float>>(Up + first, OutputCount, inner, Rank, y, count);
                            break;
                        default:
                            ExpandScalar(Up + first, OutputCount, inner, Rank, y, count);
                            break;
                    }
                }
            }
        }
    }

    private static void ReduceScalar(in ReduceJob job, int firstRow, int firstRank)
    {
        for (int row = firstRow; row < Math.Min(firstRow + RowTile, job.RowCount); row++)
        {
            for (int rank = firstRank; rank < Math.Min(firstRank + RankTile, job.Rank); rank++)
            {
                float* a = job.Down + (long)rank * job.InputCount, x = job.X + row * job.XStride;
                double sum = 0;
                for (int i = 0; i < job.InputCount; i++)
                    sum += (double)a[i] * x[i];
                job.Inner[(long)row * job.Rank + rank] = (float)sum;
            }
        }
    }

    private static void ExpandScalar(float* up, long upStride, float* inner, int rank, float* y, int count)
    {
        for (int i = 0; i < count; i++)
        {
            double sum = 0;
            for (int k = 0; k < rank; k++)
                sum += (double)inner[k] * up[k * upStride + i];
            y[i] += (float)sum;
        }
    }
}
