using System.Runtime.Intrinsics;

namespace Qian.Kernels;

// With s = alpha + dtBias:  dAlpha = dg · decay · sigmoid(s),  db = dbeta · beta · (1 − beta),  dDecay = Σ dg · softplus(s),
// dDtBias = Σ dAlpha, the sums over rows.
public static unsafe partial class DeltaGates
{
    /// <summary>The gradient of <see cref="Apply(FloatView, FloatView, FloatView, FloatView, FloatView, FloatView, int, int, ThreadTeam)"/>.</summary>
    /// <param name="alpha">[rowCount, headCount], the forward's input.</param>
    /// <param name="b">[rowCount, headCount], the forward's input.</param>
    /// <param name="decay">[headCount], −exp(A_log).</param>
    /// <param name="dtBias">[headCount].</param>
    /// <param name="dg">[rowCount, headCount].</param>
    /// <param name="dbeta">[rowCount, headCount].</param>
    /// <param name="dAlpha">[rowCount, headCount], overwritten; may be <paramref name="dg"/> or <paramref name="alpha"/>.</param>
    /// <param name="db">[rowCount, headCount], overwritten; may be <paramref name="dbeta"/> or <paramref name="b"/>.</param>
    /// <param name="dDecay">[headCount], added to; empty where it is frozen. Times decay it is the gradient of A_log.</param>
    /// <param name="dDtBias">[headCount], added to; empty where it is frozen.</param>
    /// <param name="rowCount">Rows.</param>
    /// <param name="headCount">Value heads.</param>
    /// <param name="team">Threads.</param>
    /// <exception cref="ArgumentException">A view is too short.</exception>
    public static void Backward(FloatView alpha, FloatView b, FloatView decay, FloatView dtBias, FloatView dg, FloatView dbeta, FloatView dAlpha, FloatView db,
        FloatView dDecay, FloatView dDtBias, int rowCount, int headCount, ThreadTeam team) =>
        Backward(IsaTier.Current, alpha, b, decay, dtBias, dg, dbeta, dAlpha, db, dDecay, dDtBias, rowCount, headCount, team);

    internal static void Backward(Isa isa, FloatView alpha, FloatView b, FloatView decay, FloatView dtBias, FloatView dg, FloatView dbeta, FloatView dAlpha,
        FloatView db, FloatView dDecay, FloatView dDtBias, int rowCount, int headCount, ThreadTeam team)
    {
        Expect.AtLeast(rowCount, 0);
        Expect.AtLeast(headCount, 1);
        long count = (long)rowCount * headCount;
        Expect.Floats(alpha, count);
        Expect.Floats(b, count);
        Expect.Floats(dg, count);
        Expect.Floats(dbeta, count);
        Expect.Floats(dAlpha, count);
        Expect.Floats(db, count);
        Expect.Floats(decay, headCount);
        Expect.Floats(dtBias, headCount);
        if (dDecay.Length != 0)
            Expect.Floats(dDecay, headCount);
        if (dDtBias.Length != 0)
            Expect.Floats(dDtBias, headCount);

        var blocks = new BlockedItems(rowCount, headCount, 2 * headCount);
        double* partials = stackalloc double[blocks.PartialCount];
        var job = new BackwardJob
        {
            Isa = isa,
            Alpha = alpha.Pointer,
            B = b.Pointer,
            Decay = decay.Pointer,
            DtBias = dtBias.Pointer,
            Dg = dg.Pointer,
            DBeta = dbeta.Pointer,
            DAlpha = dAlpha.Pointer,
            Db = db.Pointer,
            Partials = partials,
            HeadCount = headCount,
            Blocks = blocks,
        };
        for (; job.FirstBlock < blocks.BlockCount; job.FirstBlock += blocks.BlocksPerWave)
        {
            int blockCount = (int)Math.Min(blocks.BlocksPerWave, blocks.BlockCount - job.FirstBlock);
            team.Run(ref job, blockCount);
            if (dDecay.Length != 0)
                blocks.AddTo(dDecay, partials, blockCount, 0, headCount);
            if (dDtBias.Length != 0)
                blocks.AddTo(dDtBias, partials, blockCount, headCount, headCount);
        }
    }

    private struct BackwardJob : IChunkedJob
    {
        public Isa Isa;
        public float* Alpha, B, Decay, DtBias, Dg, DBeta, DAlpha, Db;
        public double* Partials;
        public int HeadCount;
        public long FirstBlock;
        public BlockedItems Blocks;

        public readonly void Run(int chunkIndex)
        {
            long block = FirstBlock + chunkIndex, first = Blocks.First(block), end = Blocks.End(block);
            double* sums = Partials + (long)chunkIndex * 2 * HeadCount;
            switch (Isa)
            {
                case Isa.Avx512:
                    Block<Lanes512, Vector512<float>>(in this, first, end, sums);
                    break;
                case Isa.Avx2 or Isa.Arm64:
                    Block<Lanes256, Vector256<float>>(in this, first, end, sums);
                    break;
                default:
                    ScalarBlock(in this, first, end, sums);
                    break;
            }
        }
    }

    // sums: [headCount] of dDecay, then [headCount] of dDtBias.
    private static void ScalarBlock(in BackwardJob job, long first, long end, double* sums)
    {
        int headCount = job.HeadCount;
        new Span<double>(sums, 2 * headCount).Clear();
        for (long row = first; row < end; row++)
        {
            for (int h = 0; h < headCount; h++)
            {
                long at = row * headCount + h;
                float biased = job.Alpha[at] + job.DtBias[h], dg = job.Dg[at], beta = Activation.Sigmoid(job.B[at]);
                float dAlpha = dg * job.Decay[h] * Activation.Sigmoid(biased);
                sums[h] += (double)dg * Activation.Softplus(biased);
                sums[headCount + h] += dAlpha;
                job.DAlpha[at] = dAlpha;
                job.Db[at] = job.DBeta[at] * beta * (1 - beta);
            }
        }
    }
}
