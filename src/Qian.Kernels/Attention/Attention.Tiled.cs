namespace Qian.Kernels;

// How the vector tiers divide a call. A unit of work is a tile of rows, all query heads of one K/V head of those rows, and
// either all partitions in order (prefill: enough units without cutting the context) or one partition (decode: the context is
// the only thing to cut; partitions go to slots and are combined in order, round by round). Both ways run the same
// TiledPartition and the same AttentionFold in the same order, so the way taken does not show in the bits.
public static unsafe partial class Attention
{
    // Fewer units than this per thread: cut further.
    private const int UnitsPerThread = 2;

    private static void ApplyTiled<TTier>(in AttentionCall call, ThreadTeam team) where TTier : struct, IAttentionTier
    {
        AttentionScratch scratch = call.Scratch;
        int threadCount = Math.Min(team.ThreadCount, scratch.ThreadCount);
        int wanted = threadCount == 1 ? 1 : threadCount * UnitsPerThread;
        int partitionCount = (call.FirstToken + call.RowCount + PartitionTokens - 1) / PartitionTokens;

        int tileRows = Math.Min(scratch.TileRows, call.RowCount);
        while (tileRows > 1 && (long)TileCount(call, tileRows) * call.Shape.KvHeads * partitionCount < wanted)
            tileRows = (tileRows + 1) / 2;
        int unitCount = checked(TileCount(call, tileRows) * call.Shape.KvHeads);

        if (unitCount >= wanted || partitionCount == 1 || scratch.SlotCount < 2 * unitCount)
        {
            var whole = new WholeJob<TTier> { Call = call, TileRows = tileRows, UnitCount = unitCount };
            team.Run(ref whole, threadCount);
            return;
        }

        int roundPartitions = scratch.SlotCount / unitCount;
        for (int first = 0; first < partitionCount; first += roundPartitions)
        {
            int end = Math.Min(first + roundPartitions, partitionCount);
            var partitions = new PartitionJob<TTier> { Call = call, TileRows = tileRows, UnitCount = unitCount, FirstPartition = first, SlotCount = (end - first) * unitCount };
            team.Run(ref partitions, threadCount);
            var fold = new FoldJob { Call = call, TileRows = tileRows, UnitCount = unitCount, FirstPartition = first, EndPartition = end };
            team.Run(ref fold, unitCount);
        }
    }

    private static int TileCount(in AttentionCall call, int tileRows) => (call.RowCount + tileRows - 1) / tileRows;

    // Unit u is K/V head u % KvHeads of tile u / KvHeads.
    private static AttentionTile Tile(in AttentionCall call, int tileRows, int unitIndex)
    {
        int firstRow = unitIndex / call.Shape.KvHeads * tileRows;
        return new AttentionTile(call, firstRow, Math.Min(tileRows, call.RowCount - firstRow), unitIndex % call.Shape.KvHeads);
    }

    // One chunk per thread, so that the chunk index names the thread's scratch; units are taken from a counter in the job.
    private struct WholeJob<TTier> : IChunkedJob where TTier : struct, IAttentionTier
    {
        public AttentionCall Call;
        public int TileRows;
        public int UnitCount;
        private int _taken;

        public void Run(int threadIndex)
        {
            // The last tiles see most keys: first come the longest units, so that the threads end together.
            for (int unit = UnitCount - Interlocked.Increment(ref _taken); unit >= 0; unit = UnitCount - Interlocked.Increment(ref _taken))
            {
                AttentionTile tile = Tile(Call, TileRows, unit);
                tile.ScaleQueries(threadIndex);
                for (int partition = 0; partition < tile.PartitionCount; partition++)
                {
                    TiledPartition<TTier>.Compute(tile, partition, threadIndex, slotIndex: threadIndex);
                    tile.Fold(partition, slotIndex: threadIndex);
                }

                tile.Finish();
            }
        }
    }

    private struct PartitionJob<TTier> : IChunkedJob where TTier : struct, IAttentionTier
    {
        public AttentionCall Call;
        public int TileRows;
        public int UnitCount;
        public int FirstPartition;
        public int SlotCount;
        private int _taken;

        public void Run(int threadIndex)
        {
            for (int slot = Interlocked.Increment(ref _taken) - 1; slot < SlotCount; slot = Interlocked.Increment(ref _taken) - 1)
            {
                AttentionTile tile = Tile(Call, TileRows, slot % UnitCount);
                int partition = FirstPartition + slot / UnitCount;
                if (partition >= tile.PartitionCount)
                    continue;
                tile.ScaleQueries(threadIndex);
                TiledPartition<TTier>.Compute(tile, partition, threadIndex, slot);
            }
        }
    }

    private struct FoldJob : IChunkedJob
    {
        public AttentionCall Call;
        public int TileRows;
        public int UnitCount;
        public int FirstPartition;
        public int EndPartition;

        public readonly void Run(int unitIndex)
        {
            AttentionTile tile = Tile(Call, TileRows, unitIndex);
            int end = Math.Min(EndPartition, tile.PartitionCount);
            for (int partition = FirstPartition; partition < end; partition++)
                tile.Fold(partition, (partition - FirstPartition) * UnitCount + unitIndex);
            if (FirstPartition < tile.PartitionCount && tile.PartitionCount <= EndPartition)
                tile.Finish();
        }
    }
}
