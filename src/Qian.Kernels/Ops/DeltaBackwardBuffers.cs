namespace Qian.Kernels;

/// <summary>
/// One slot cut into the buffers of the chunked backward, for one key head with all its value heads. C = <see cref="DeltaRule.ChunkRows"/>.
/// Rows lie an odd number of cache lines apart, so that a block of columns of any matrix spreads over all cache sets; behind the
/// columns of a matrix there is room for a tile of the widest tier. A unit of work starts with all of it zero, and nothing but
/// zeros is ever written behind the last row or column: tiles run over the edges without a word.
/// </summary>
internal readonly unsafe struct DeltaBackwardBuffers
{
    // Columns of a tile of the widest tier, rows of a tile, and one cache line more to make the stride odd.
    private const int TileColumns = 32;
    private const int TileRows = 4;
    private const int LineFloats = 16;
    private const long Rows = DeltaRule.ChunkRows;

    /// <summary>Floats from row to row of matrices as wide as keys, values and the chunk.</summary>
    public readonly int KeyStride, ValueStride, RowStride;

    public readonly ChunkDecays Decays;

    /// <summary>Per row: beta; what reaches the row from the state before the chunk, and from the row the state after it; [C] each.</summary>
    public readonly float* Beta, FromState, IntoState;

    /// <summary>Sum of what crosses the row in work, per column: [C].</summary>
    public readonly float* Crossing;

    /// <summary>Keys and queries, and the sums over value heads of their gradients: [C, KeyDim].</summary>
    public readonly float* Keys, Queries, KeyGradient, QueryGradient;

    /// <summary>A product on its way into a gradient: [C, KeyDim].</summary>
    public readonly float* Part;

    /// <summary>Keys with a column per row: [KeyDim, C].</summary>
    public readonly float* KeysTurned;

    /// <summary>k_i·k_j and q_i·k_j, lower triangles: [C, C].</summary>
    public readonly float* KeyProducts, QueryProducts;

    /// <summary>Gradients of k_i·k_j and q_i·k_j, summed over value heads, lower triangles: [C, C].</summary>
    public readonly float* KeyProductGradient, QueryProductGradient;

    /// <summary>e^{G_i−G_j} and (q_i·k_j) e^{G_i−G_j} for j ≤ i, −(k_i·k_j) e^{G_i−G_j} for j &lt; i, else zero: [C, C].</summary>
    public readonly float* Between, QueryScores, MinusKeyScores;

    /// <summary>do_i·δ_j and du_i·δ_j: [C, C].</summary>
    public readonly float* OutputByDelta, ValueGradientByDelta;

    /// <summary>Gradient of the output: [C, ValueDim].</summary>
    public readonly float* OutputGradient;

    /// <summary>ε and δ = βε, and their gradients (that of δ, then β times it, which is that of v): [C, ValueDim].</summary>
    public readonly float* Error, Delta, DeltaGradient, ValueGradient;

    /// <summary>δ with a column per row: [ValueDim, C].</summary>
    public readonly float* DeltaTurned;

    /// <summary>The state before the chunk: [KeyDim, ValueDim], and [ValueDim, KeyDim].</summary>
    public readonly float* State, StateTurned;

    /// <summary>The gradient of the state after the chunk, of the value head in work: [ValueDim, KeyDim].</summary>
    public readonly float* StateGradientTurned;

    private readonly float* _stateGradients;
    private readonly long _stateGradientFloats;

    public DeltaBackwardBuffers(float* slot, in DeltaShape shape)
    {
        KeyStride = Stride(shape.KeyDim);
        ValueStride = Stride(shape.ValueDim);
        RowStride = Stride(DeltaRule.ChunkRows);
        long keyRows = RoundUp(shape.KeyDim, TileRows), valueRows = RoundUp(shape.ValueDim, TileRows);
        float* next = slot;
        Decays = new ChunkDecays(Take(ref next, ChunkDecays.Floats));
        Beta = Take(ref next, Rows);
        FromState = Take(ref next, Rows);
        IntoState = Take(ref next, Rows);
        Crossing = Take(ref next, Rows);
        Keys = Take(ref next, Rows * KeyStride);
        Queries = Take(ref next, Rows * KeyStride);
        KeyGradient = Take(ref next, Rows * KeyStride);
        QueryGradient = Take(ref next, Rows * KeyStride);
        Part = Take(ref next, Rows * KeyStride);
        KeysTurned = Take(ref next, keyRows * RowStride);
        KeyProducts = Take(ref next, Rows * RowStride);
        QueryProducts = Take(ref next, Rows * RowStride);
        KeyProductGradient = Take(ref next, Rows * RowStride);
        QueryProductGradient = Take(ref next, Rows * RowStride);
        Between = Take(ref next, Rows * RowStride);
        QueryScores = Take(ref next, Rows * RowStride);
        MinusKeyScores = Take(ref next, Rows * RowStride);
        OutputByDelta = Take(ref next, Rows * RowStride);
        ValueGradientByDelta = Take(ref next, Rows * RowStride);
        OutputGradient = Take(ref next, Rows * ValueStride);
        Error = Take(ref next, Rows * ValueStride);
        Delta = Take(ref next, Rows * ValueStride);
        DeltaGradient = Take(ref next, Rows * ValueStride);
        ValueGradient = Take(ref next, Rows * ValueStride);
        DeltaTurned = Take(ref next, valueRows * RowStride);
        State = Take(ref next, keyRows * ValueStride);
        StateTurned = Take(ref next, valueRows * KeyStride);
        StateGradientTurned = Take(ref next, valueRows * KeyStride);
        _stateGradientFloats = keyRows * ValueStride;
        _stateGradients = Take(ref next, shape.ValueHeadsPerKeyHead * _stateGradientFloats);
        UsedFloats = next - slot;
    }

    /// <summary>Floats of the slot that this cut takes up.</summary>
    public long UsedFloats { get; }

    /// <summary>The gradient of the state after the chunk, of the unit's <paramref name="index"/>-th value head: [KeyDim, ValueDim].</summary>
    public float* StateGradient(int index) => _stateGradients + index * _stateGradientFloats;

    public static long Floats(in DeltaShape shape) => new DeltaBackwardBuffers(null, shape).UsedFloats;

    private static float* Take(ref float* next, long count)
    {
        float* taken = next;
        next += count;
        return taken;
    }

    private static int Stride(int columns) => RoundUp(columns, TileColumns) + LineFloats;

    private static int RoundUp(int count, int granule) => checked((count + granule - 1) / granule * granule);
}
