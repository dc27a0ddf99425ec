using System.Runtime.Intrinsics;

namespace Qian.Kernels;

// Rows [FirstRow, FirstRow + RowCount) of a call for all query heads of one K/V head. A "head row" is one (row, query head);
// head row r is row FirstRow + r / HeadsPerKvHead. Knows which keys each sees and where its running result lies.
internal readonly unsafe struct AttentionTile(in AttentionCall call, int firstRow, int rowCount, int kvHeadIndex)
{
    public readonly AttentionCall Call = call;
    public readonly int KvHeadIndex = kvHeadIndex;

    private int HeadsPerKvHead => Call.Shape.HeadsPerKvHead;

    public int HeadRowCount => rowCount * HeadsPerKvHead;

    // Tokens that the last row sees.
    public int KeyCount => Call.FirstToken + firstRow + rowCount;

    public int PartitionCount => (KeyCount + Attention.PartitionTokens - 1) / Attention.PartitionTokens;

    // Tokens that a head row sees from token `first` on, at most `limit`; negative or 0 when it sees none.
    public int VisibleFrom(int first, int headRow, int limit) =>
        Math.Min(limit, Call.FirstToken + firstRow + headRow / HeadsPerKvHead + 1 - first);

    public void ScaleQueries(int threadIndex)
    {
        float* scaled = Call.Scratch.Queries(threadIndex);
        Vector256<float> scale = Vector256.Create(Call.Scale);
        for (int headRow = 0; headRow < HeadRowCount; headRow++)
        {
            float* query = Call.Queries + Call.Offset(Row(headRow), Head(headRow));
            for (int d = 0; d < Call.Shape.HeadDim; d += Vector256<float>.Count)
                (Vector256.Load(query + d) * scale).Store(scaled + d);
            scaled += Call.Scratch.QueryStride;
        }
    }

    public void Fold(int partitionIndex, int slotIndex)
    {
        AttentionScratch scratch = Call.Scratch;
        float* sums = scratch.SlotSums(slotIndex), maxima = scratch.SlotMaxima(slotIndex), totals = scratch.SlotTotals(slotIndex);
        for (int headRow = 0; headRow < HeadRowCount; headRow++)
        {
            if (VisibleFrom(partitionIndex * Attention.PartitionTokens, headRow, 1) <= 0)
                continue;
            long index = (long)Row(headRow) * Call.Shape.Heads + Head(headRow);
            AttentionFold.Fold(
                partitionIndex == 0,
                ref scratch.Maxima[index],
                ref scratch.Totals[index],
                Call.Results + index * Call.Shape.HeadDim,
                maxima[headRow],
                totals[headRow],
                sums + (long)headRow * scratch.SumStride,
                Call.Shape.HeadDim);
        }
    }

    public void Finish()
    {
        for (int headRow = 0; headRow < HeadRowCount; headRow++)
        {
            long index = (long)Row(headRow) * Call.Shape.Heads + Head(headRow);
            AttentionFold.Finish(Call.Scratch.Totals[index], Call.Results + index * Call.Shape.HeadDim, Call.Shape.HeadDim);
        }
    }

    private int Row(int headRow) => firstRow + headRow / HeadsPerKvHead;

    private int Head(int headRow) => KvHeadIndex * HeadsPerKvHead + headRow % HeadsPerKvHead;
}
