namespace Qian.Kernels;

/// <summary>The heads of an attention layer. Query head h uses key/value head h / (Heads / KvHeads); scores are scaled by HeadDim^-½.</summary>
/// <param name="Heads">Query heads, a multiple of <paramref name="KvHeads"/>.</param>
/// <param name="KvHeads">Key/value heads.</param>
/// <param name="HeadDim">Values per head: a multiple of 8, at most <see cref="KvShape.MaxHeadDim"/>.</param>
public readonly record struct AttentionShape(int Heads, int KvHeads, int HeadDim)
{
    internal int HeadsPerKvHead => Heads / KvHeads;

    internal void Check()
    {
        if (KvHeads < 1 || Heads < KvHeads || Heads % KvHeads != 0)
            throw new ArgumentException($"{this}: query heads must be a positive multiple of key/value heads.");
        if (HeadDim < 8 || HeadDim % 8 != 0 || HeadDim > KvShape.MaxHeadDim)
            throw new ArgumentException($"{this}: the head dimension must be a multiple of 8, at most {KvShape.MaxHeadDim}.");
    }
}

/// <summary>
/// The working memory of <see cref="Attention"/>, allocated once. Its size depends on the tile and the threads, not on the
/// context: long contexts go through a fixed number of partition slots in rounds.
/// </summary>
// Per thread: the tile's scaled queries, its scores of one partition, one piece of K or V decoded to float.
// Per slot: what one partition gives for one tile and K/V head: a weighted sum, a maximum and a total per query head row.
// Per query head row of the call: maximum and total so far.
public sealed unsafe class AttentionScratch : IDisposable
{
    // Keys (or tokens of V) that are decoded to float at a time: at head size 256 this is 64 KiB, which stays in L2.
    internal const int PieceTokens = 64;

    // Floats between the scores of neighbouring head rows; not a power of two, so that they do not share cache sets.
    internal const int ScoreStride = Attention.PartitionTokens + KvLayout.Lanes;

    private const int TileHeadRows = 96;
    private const int SlotsPerThread = 4;

    private readonly NativeBuffer _memory;
    private readonly long _threadFloats;
    private readonly long _slotFloats;

    /// <summary>Scratch for calls of up to <paramref name="maxRows"/> rows whose last row sees up to <paramref name="maxContext"/> tokens.</summary>
    /// <exception cref="ArgumentException">A size is not positive or the shape is not one that the kernels take.</exception>
    public AttentionScratch(in AttentionShape shape, int maxRows, int maxContext, int threadCount)
    {
        shape.Check();
        ArgumentOutOfRangeException.ThrowIfLessThan(maxRows, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(maxContext, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(threadCount, 1);
        Shape = shape;
        MaxRows = maxRows;
        MaxContext = maxContext;
        ThreadCount = threadCount;
        TileRows = Math.Min(maxRows, Math.Max(1, TileHeadRows / shape.HeadsPerKvHead));
        // More slots than partitions of one tile can never be in use; fewer than threads would leave one without.
        long partitionCount = ((long)maxContext + Attention.PartitionTokens - 1) / Attention.PartitionTokens;
        SlotCount = (int)Math.Max(threadCount, Math.Min((long)SlotsPerThread * threadCount, partitionCount * shape.KvHeads));

        long headRows = (long)TileRows * shape.HeadsPerKvHead;
        _threadFloats = headRows * (QueryStride + ScoreStride) + (long)PieceTokens * SumStride;
        _slotFloats = Align(headRows * SumStride + 2 * headRows);
        _memory = NativeBuffer.AllocateFloats(checked(threadCount * _threadFloats + SlotCount * _slotFloats + 2L * maxRows * shape.Heads));
    }

    /// <summary>Native bytes held.</summary>
    public long Bytes => _memory.Bytes;

    internal AttentionShape Shape { get; }
    internal int MaxRows { get; }
    internal int MaxContext { get; }
    internal int ThreadCount { get; }

    // Rows (of all query heads of one K/V head) that are computed together.
    internal int TileRows { get; }

    internal int SlotCount { get; }

    // Floats between the queries of neighbouring head rows.
    internal int QueryStride => Shape.HeadDim + KvLayout.Lanes;

    // Floats between the weighted sums of neighbouring head rows.
    internal int SumStride => KvLayout.PadToLanes(Shape.HeadDim);

    /// <summary>Frees the memory.</summary>
    public void Dispose() => _memory.Dispose();

    internal float* Queries(int threadIndex) => (float*)_memory.Pointer + threadIndex * _threadFloats;

    internal float* Scores(int threadIndex) => Queries(threadIndex) + HeadRows * QueryStride;

    internal float* Piece(int threadIndex) => Scores(threadIndex) + HeadRows * ScoreStride;

    internal float* SlotSums(int slotIndex) => (float*)_memory.Pointer + ThreadCount * _threadFloats + slotIndex * _slotFloats;

    internal float* SlotMaxima(int slotIndex) => SlotSums(slotIndex) + HeadRows * SumStride;

    internal float* SlotTotals(int slotIndex) => SlotMaxima(slotIndex) + HeadRows;

    // [maxRows, heads]
    internal float* Maxima => (float*)_memory.Pointer + ThreadCount * _threadFloats + SlotCount * _slotFloats;

    // [maxRows, heads]
    internal float* Totals => Maxima + (long)MaxRows * Shape.Heads;

    private long HeadRows => (long)TileRows * Shape.HeadsPerKvHead;

    private static long Align(long floats) => (floats + KvLayout.Lanes - 1) & ~(long)(KvLayout.Lanes - 1);
}
