namespace Qian.Kernels;

/// <summary>
/// Cuts a run of items (rows, channel blocks, floats) into equal chunks for a thread team. Small work stays in one chunk,
/// which the team runs on the caller's thread. Where the borders fall never changes a result.
/// </summary>
internal readonly struct WorkSplit
{
    // Below this a fork-join costs more than it saves; above, a chunk should be worth its turn at the counter.
    private const long FloatsWorthForking = 32 * 1024;
    private const long FloatsPerChunk = 8 * 1024;
    private const int ChunksPerThread = 4;

    private readonly long _itemCount;
    private readonly long _itemsPerChunk;

    private WorkSplit(long itemCount, long itemsPerChunk)
    {
        _itemCount = itemCount;
        _itemsPerChunk = itemsPerChunk;
        ChunkCount = itemCount == 0 ? 0 : checked((int)((itemCount + itemsPerChunk - 1) / itemsPerChunk));
    }

    public int ChunkCount { get; }

    /// <summary>Chunks of whole items of <paramref name="floatsPerItem"/> floats each; chunk lengths are multiples of <paramref name="granule"/>.</summary>
    public static WorkSplit Of(long itemCount, long floatsPerItem, ThreadTeam team, int granule = 1)
    {
        long floats = itemCount * floatsPerItem;
        if (team.ThreadCount == 1 || floats < FloatsWorthForking)
            return new WorkSplit(itemCount, Math.Max(itemCount, 1));
        long chunks = Math.Min(floats / FloatsPerChunk, (long)team.ThreadCount * ChunksPerThread);
        long perChunk = (itemCount + chunks - 1) / chunks;
        return new WorkSplit(itemCount, (perChunk + granule - 1) / granule * granule);
    }

    public long First(int chunkIndex) => chunkIndex * _itemsPerChunk;

    /// <summary>One past the last item of the chunk.</summary>
    public long End(int chunkIndex) => Math.Min(First(chunkIndex) + _itemsPerChunk, _itemCount);
}
