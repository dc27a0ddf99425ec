using System.Runtime.Intrinsics;

namespace Qian.Kernels;

/// <summary>
/// Σx² over a whole parameter, for the gradient's length. Blocks of fixed size are summed apart and added in order, so that
/// neither thread count nor timing changes a bit.
/// </summary>
public static unsafe partial class SquaredSum
{
    private const long BlockFloats = 32 * 1024;
    private const int BlocksPerWave = 512;

    // A block's pieces are joined in double: fast tiers add a few thousand squares in float, never more.
    private const int PieceFloats = 4096;

    /// <summary>The sum of squares of all of <paramref name="x"/>. Squares above 3.4e38 may count as infinite.</summary>
    public static double Of(FloatView x, ThreadTeam team) => Of(IsaTier.Current, x, team);

    internal static double Of(Isa isa, FloatView x, ThreadTeam team)
    {
        long blockCount = (x.Length + BlockFloats - 1) / BlockFloats;
        double* sums = stackalloc double[(int)Math.Min(blockCount, BlocksPerWave)];
        var job = new Job { Isa = isa, X = x.Pointer, Count = x.Length, Sums = sums };
        double total = 0;
        for (; job.FirstBlock < blockCount; job.FirstBlock += BlocksPerWave)
        {
            int wave = (int)Math.Min(BlocksPerWave, blockCount - job.FirstBlock);
            team.Run(ref job, wave);
            for (int i = 0; i < wave; i++)
                total += sums[i];
        }

        return total;
    }

    private struct Job : IChunkedJob
    {
        public Isa Isa;
        public float* X;
        public double* Sums;
        public long Count, FirstBlock;

        public readonly void Run(int chunkIndex)
        {
            long first = (FirstBlock + chunkIndex) * BlockFloats, end = Math.Min(first + BlockFloats, Count);
            double sum = 0;
            for (long at = first; at < end; at += PieceFloats)
                sum += Piece(X + at, (int)Math.Min(PieceFloats, end - at));
            Sums[chunkIndex] = sum;
        }

        private readonly double Piece(float* x, int count) => Isa switch
        {
            Isa.Avx512 => SumOfSquares.Of<Lanes512, Vector512<float>>(x, count),
            Isa.Avx2 or Isa.Arm64 => SumOfSquares.Of<Lanes256, Vector256<float>>(x, count),
            _ => SumOfSquares.Scalar(x, count),
        };
    }
}
