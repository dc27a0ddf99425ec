namespace Qian.Kernels;

/// <summary>
/// Causal attention of rows of one sequence over its K/V blocks, with grouped query heads and a float32 softmax.
/// </summary>
/// <remarks>
/// Tokens are cut into partitions of <see cref="PartitionTokens"/>, counted from token 0. A partition gives each (row, head) a
/// maximum, a total and a weighted sum; these are combined in the order of the partitions. Within a partition a score is one
/// chain of multiply-adds over the dimensions and a weighted sum one chain over the tokens. No cut depends on the call, so the
/// result of a (row, head) is the same to the bit (within one tier) whatever other rows are in the call, however a prompt is
/// divided into calls, and however many threads run. A masked key contributes exactly nothing.
/// </remarks>
public static unsafe partial class Attention
{
    /// <summary>Tokens per partition; marks are counted from token 0 of the sequence.</summary>
    public const int PartitionTokens = 512;

    /// <summary>
    /// Row i (token <paramref name="firstToken"/> + i) attends to tokens 0 … firstToken + i, whose keys and values are already in
    /// <paramref name="blocks"/>. Values of attended tokens must be finite.
    /// </summary>
    /// <param name="shape">Heads of the layer; agrees with <paramref name="kv"/>.</param>
    /// <param name="kv">Geometry of all blocks.</param>
    /// <param name="q">Queries [rowCount, Heads * HeadDim], normed and rotated, not scaled.</param>
    /// <param name="blocks">The sequence's blocks from token 0 on; types may differ from block to block.</param>
    /// <param name="layerIndex">Layer within the blocks.</param>
    /// <param name="firstToken">Token index of row 0.</param>
    /// <param name="rowCount">Rows to compute.</param>
    /// <param name="y">Result [rowCount, Heads * HeadDim], before the output gate; must not overlap <paramref name="q"/>.</param>
    /// <param name="scratch">Working memory, used by one call at a time.</param>
    /// <param name="team">Threads to use; at most the scratch's thread count work.</param>
    /// <exception cref="ArgumentException">Shapes disagree, or a view, the block table or the scratch is too small.</exception>
    public static void Apply(
        in AttentionShape shape,
        in KvShape kv,
        FloatView q,
        KvBlock[] blocks,
        int layerIndex,
        int firstToken,
        int rowCount,
        FloatView y,
        AttentionScratch scratch,
        ThreadTeam team) =>
        Apply(IsaTier.Current, shape, kv, q, blocks, layerIndex, firstToken, rowCount, y, scratch, team);

    internal static void Apply(
        Isa isa,
        in AttentionShape shape,
        in KvShape kv,
        FloatView q,
        KvBlock[] blocks,
        int layerIndex,
        int firstToken,
        int rowCount,
        FloatView y,
        AttentionScratch scratch,
        ThreadTeam team)
    {
        Check(shape, kv, q, blocks, layerIndex, firstToken, rowCount, y, scratch, team);
        if (rowCount == 0)
            return;
        var call = new AttentionCall(shape, kv, q.Pointer, blocks, layerIndex, firstToken, rowCount, y.Pointer, scratch);
        switch (isa)
        {
            case Isa.Avx512:
                ApplyTiled<Avx512AttentionTier>(call, team);
                break;
            case Isa.Avx2 or Isa.Arm64:
                ApplyTiled<AttentionTier256>(call, team);
                break;
            default:
                ApplyScalar(call, team);
                break;
        }
    }

    private static void Check(
        in AttentionShape shape,
        in KvShape kv,
        FloatView q,
        KvBlock[] blocks,
        int layerIndex,
        int firstToken,
        int rowCount,
        FloatView y,
        AttentionScratch scratch,
        ThreadTeam team)
    {
        ArgumentNullException.ThrowIfNull(scratch);
        ArgumentNullException.ThrowIfNull(team);
        ArgumentOutOfRangeException.ThrowIfNegative(firstToken);
        ArgumentOutOfRangeException.ThrowIfNegative(rowCount);
        shape.Check();
        if (shape.KvHeads != kv.KvHeads || shape.HeadDim != kv.HeadDim)
            throw new ArgumentException($"{shape} does not fit blocks of {kv}.");
        int endToken = checked(firstToken + rowCount);
        KvCache.CheckBlocks(kv, blocks, layerIndex, 0, endToken);
        long floatCount = (long)rowCount * shape.Heads * shape.HeadDim;
        if (q.Length < floatCount || y.Length < floatCount)
            throw new ArgumentException($"queries of {q.Length} and results of {y.Length} floats; {rowCount} rows of {shape} need {floatCount}.");
        if (q.Pointer < y.Pointer + floatCount && y.Pointer < q.Pointer + floatCount)
            throw new ArgumentException("the result overlaps the queries.", nameof(y));
        if (scratch.Shape != shape || rowCount > scratch.MaxRows || endToken > scratch.MaxContext)
            throw new ArgumentException($"scratch for {scratch.MaxRows} rows, {scratch.MaxContext} tokens, {scratch.Shape}; needed: {rowCount} rows, {endToken} tokens, {shape}.", nameof(scratch));
    }
}

// One call's arguments, checked.
internal readonly unsafe struct AttentionCall(
    AttentionShape shape,
    KvShape kv,
    float* q,
    KvBlock[] blocks,
    int layerIndex,
    int firstToken,
    int rowCount,
    float* y,
    AttentionScratch scratch)
{
    public readonly AttentionShape Shape = shape;
    public readonly KvShape Kv = kv;
    public readonly float* Queries = q;
    public readonly KvBlock[] Blocks = blocks;
    public readonly int LayerIndex = layerIndex;
    public readonly int FirstToken = firstToken;
    public readonly int RowCount = rowCount;
    public readonly float* Results = y;
    public readonly AttentionScratch Scratch = scratch;

    public float Scale => 1f / MathF.Sqrt(Shape.HeadDim);

    // Offset of a row's head in queries and results.
    public long Offset(int rowIndex, int headIndex) => ((long)rowIndex * Shape.Heads + headIndex) * Shape.HeadDim;
}
