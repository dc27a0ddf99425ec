using System.Runtime.Intrinsics;

namespace Qian.Kernels;

// Tokens repeat, so a row of the table has many writers: threads share the columns, not the rows, and every thread walks all
// tokens in order. The sums do not depend on the thread count.
public static unsafe partial class Embedding
{
    /// <summary>The gradient of a lookup: dTable[tokenIds[t]] += dy[t].</summary>
    /// <param name="tokenIds">[rowCount].</param>
    /// <param name="dy">[rowCount, width].</param>
    /// <param name="dTable">[vocabulary, width], added to.</param>
    /// <param name="width">Floats per row.</param>
    /// <param name="vocabulary">Rows of the table.</param>
    /// <param name="team">Threads.</param>
    /// <exception cref="ArgumentException">An id is outside the table, or a view is too short.</exception>
    public static void ScatterAdd(ReadOnlySpan<int> tokenIds, FloatView dy, FloatView dTable, int width, int vocabulary, ThreadTeam team) =>
        ScatterAdd(IsaTier.Current, tokenIds, dy, dTable, width, vocabulary, team);

    internal static void ScatterAdd(Isa isa, ReadOnlySpan<int> tokenIds, FloatView dy, FloatView dTable, int width, int vocabulary, ThreadTeam team)
    {
        Expect.AtLeast(width, 1);
        Expect.AtLeast(vocabulary, 1);
        Expect.Floats(dy, (long)tokenIds.Length * width);
        Expect.Floats(dTable, (long)vocabulary * width);
        for (int i = 0; i < tokenIds.Length; i++)
        {
            if ((uint)tokenIds[i] >= (uint)vocabulary)
                throw new ArgumentException($"tokenIds: {tokenIds[i]} at {i}: expected 0 to {vocabulary - 1}", nameof(tokenIds));
        }

        fixed (int* pointer = tokenIds)
        {
            var job = new ScatterAddJob
            {
                Isa = isa,
                TokenIds = pointer,
                TokenCount = tokenIds.Length,
                Dy = dy.Pointer,
                DTable = dTable.Pointer,
                Width = width,
                Split = WorkSplit.Of(width, tokenIds.Length, team, granule: 16),
            };
            team.Run(ref job, job.Split.ChunkCount);
        }
    }

    // A chunk owns some columns of the table.
    private struct ScatterAddJob : IChunkedJob
    {
        public Isa Isa;
        public int* TokenIds;
        public float* Dy, DTable;
        public int TokenCount, Width;
        public WorkSplit Split;

        public readonly void Run(int chunkIndex)
        {
            long first = Split.First(chunkIndex);
            int count = (int)(Split.End(chunkIndex) - first);
            for (int t = 0; t < TokenCount; t++)
                Add(DTable + (long)TokenIds[t] * Width + first, Dy + (long)t * Width + first, count);
        }

        private readonly void Add(float* total, float* x, int count)
        {
            switch (Isa)
            {
                case Isa.Avx512:
                    VectorAdd<Lanes512, Vector512<float>>(total, x, count);
                    break;
                case Isa.Avx2 or Isa.Arm64:
                    VectorAdd<Lanes256, Vector256<float>>(total, x, count);
                    break;
                default:
                    ScalarAdd(total, x, count);
                    break;
            }
        }
    }

    private static void VectorAdd<TLanes, TVec>(float* total, float* x, int count) where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        for (int i = 0; i < count; i += TLanes.Count)
            TLanes.StorePartial(total + i, TLanes.Add(TLanes.LoadPartial(total + i, count - i), TLanes.LoadPartial(x + i, count - i)), count - i);
    }

    private static void ScalarAdd(float* total, float* x, int count)
    {
        for (int i = 0; i < count; i++)
            total[i] += x[i];
    }
}
