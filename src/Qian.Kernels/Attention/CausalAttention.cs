using System.Runtime.Intrinsics;

namespace Qian.Kernels;

/// <summary>
/// Causal attention over whole samples in plain float32 rows, and its derivative: the training side of <see cref="Attention"/>.
/// </summary>
/// <remarks>
/// Samples lie end to end in the rows; sample s takes rows borders[s] … borders[s+1] − 1 and attends to nothing outside itself.
/// Query head h reads key/value head h / (Heads / KvHeads); a score is q·k·HeadDim^-½. No matrix of rows by rows exists: the
/// forward keeps log Σ e^score per (row, head), from which the backward computes the weights anew, tile by tile:
/// D = y·dy per (row, head); P = e^(score − logSumExp); dV = Pᵀ dY; dS = P (dY Vᵀ − D) HeadDim^-½; dQ = dS K; dK = dSᵀ Q.
/// Every output element is summed by one thread in one order that depends on its sample alone, so results are the same to the
/// bit (within one tier) for any number of threads and whatever other samples are in the call.
/// Rows of a sample must be finite: a masked weight is exactly 0, but 0 times infinity is not.
/// </remarks>
public static unsafe partial class CausalAttention
{
    /// <summary>Attention of all rows; rowCount is the last border.</summary>
    /// <param name="shape">Heads of the layer.</param>
    /// <param name="q">Queries [rowCount, Heads · HeadDim], normed and rotated, not scaled.</param>
    /// <param name="k">Keys [rowCount, KvHeads · HeadDim].</param>
    /// <param name="v">Values [rowCount, KvHeads · HeadDim].</param>
    /// <param name="y">Result [rowCount, Heads · HeadDim], before the output gate; must not overlap an input.</param>
    /// <param name="logSumExp">Written for the backward: [rowCount, Heads], log of the sum of e^score.</param>
    /// <param name="borders">Where samples begin: 0 first, not descending, rowCount last.</param>
    /// <param name="scratch">Made for the same shape and at least rowCount rows; one call uses it at a time.</param>
    /// <param name="team">Threads; no more than <paramref name="scratch"/> was made for compute.</param>
    /// <exception cref="ArgumentException">A view is too short or overlaps, or the borders, the shape or the scratch do not fit.</exception>
    public static void Forward(in AttentionShape shape, FloatView q, FloatView k, FloatView v, FloatView y, FloatView logSumExp,
        ReadOnlySpan<int> borders, CausalAttentionScratch scratch, ThreadTeam team) =>
        Forward(IsaTier.Current, shape, q, k, v, y, logSumExp, borders, scratch, team);

    /// <summary>Gradients of queries, keys and values from the gradient of the result; rowCount is the last border.</summary>
    /// <param name="shape">Heads of the layer.</param>
    /// <param name="q">Queries as the forward took them.</param>
    /// <param name="k">Keys as the forward took them.</param>
    /// <param name="v">Values as the forward took them.</param>
    /// <param name="y">The forward's result.</param>
    /// <param name="logSumExp">The forward's [rowCount, Heads].</param>
    /// <param name="dy">Gradient of y, [rowCount, Heads · HeadDim].</param>
    /// <param name="dq">Overwritten, [rowCount, Heads · HeadDim]; like the other outputs it must overlap nothing else.</param>
    /// <param name="dk">Overwritten, [rowCount, KvHeads · HeadDim]: the sum over the query heads that share the head.</param>
    /// <param name="dv">Overwritten, [rowCount, KvHeads · HeadDim].</param>
    /// <param name="borders">Where samples begin: 0 first, not descending, rowCount last.</param>
    /// <param name="scratch">Made for the same shape and at least rowCount rows; one call uses it at a time.</param>
    /// <param name="team">Threads; no more than <paramref name="scratch"/> was made for compute.</param>
    /// <exception cref="ArgumentException">A view is too short or overlaps, or the borders, the shape or the scratch do not fit.</exception>
    public static void Backward(in AttentionShape shape, FloatView q, FloatView k, FloatView v, FloatView y, FloatView logSumExp, FloatView dy,
        FloatView dq, FloatView dk, FloatView dv, ReadOnlySpan<int> borders, CausalAttentionScratch scratch, ThreadTeam team) =>
        Backward(IsaTier.Current, shape, q, k, v, y, logSumExp, dy, dq, dk, dv, borders, scratch, team);

    internal static void Forward(Isa isa, in AttentionShape shape, FloatView q, FloatView k, FloatView v, FloatView y, FloatView logSumExp,
        ReadOnlySpan<int> borders, CausalAttentionScratch scratch, ThreadTeam team)
    {
        int rowCount = CheckRows(shape, borders, scratch, team);
        long queryFloats = (long)rowCount * shape.Heads * shape.HeadDim, keyFloats = (long)rowCount * shape.KvHeads * shape.HeadDim;
        Expect.Floats(q, queryFloats);
        Expect.Floats(k, keyFloats);
        Expect.Floats(v, keyFloats);
        Expect.Floats(y, queryFloats);
        Expect.Floats(logSumExp, (long)rowCount * shape.Heads);
        ExpectApart(y, [q, k, v, logSumExp], nameof(y));
        ExpectApart(logSumExp, [q, k, v], nameof(logSumExp));
        var call = new CausalCall
        {
            Shape = shape,
            RowCount = rowCount,
            Q = q.Pointer,
            K = k.Pointer,
            V = v.Pointer,
            Y = y.Pointer,
            LogSumExp = logSumExp.Pointer,
        };
        switch (isa)
        {
            case Isa.Avx512:
                ForwardTiled<Lanes512, Vector512<float>>(call, borders, scratch, team);
                break;
            case Isa.Avx2 or Isa.Arm64:
                ForwardTiled<Lanes256, Vector256<float>>(call, borders, scratch, team);
                break;
            default:
                ForwardScalar(call, borders, team);
                break;
        }
    }

    internal static void Backward(Isa isa, in AttentionShape shape, FloatView q, FloatView k, FloatView v, FloatView y, FloatView logSumExp,
        FloatView dy, FloatView dq, FloatView dk, FloatView dv, ReadOnlySpan<int> borders, CausalAttentionScratch scratch, ThreadTeam team)
    {
        int rowCount = CheckRows(shape, borders, scratch, team);
        long queryFloats = (long)rowCount * shape.Heads * shape.HeadDim, keyFloats = (long)rowCount * shape.KvHeads * shape.HeadDim;
        Expect.Floats(q, queryFloats);
        Expect.Floats(k, keyFloats);
        Expect.Floats(v, keyFloats);
        Expect.Floats(y, queryFloats);
        Expect.Floats(logSumExp, (long)rowCount * shape.Heads);
        Expect.Floats(dy, queryFloats);
        Expect.Floats(dq, queryFloats);
        Expect.Floats(dk, keyFloats);
        Expect.Floats(dv, keyFloats);
        ExpectApart(dq, [q, k, v, y, logSumExp, dy, dk, dv], nameof(dq));
        ExpectApart(dk, [q, k, v, y, logSumExp, dy, dv], nameof(dk));
        ExpectApart(dv, [q, k, v, y, logSumExp, dy], nameof(dv));
        var call = new CausalCall
        {
            Shape = shape,
            RowCount = rowCount,
            Q = q.Pointer,
            K = k.Pointer,
            V = v.Pointer,
            Y = y.Pointer,
            LogSumExp = logSumExp.Pointer,
            DY = dy.Pointer,
            DQ = dq.Pointer,
            DK = dk.Pointer,
            DV = dv.Pointer,
            Dots = scratch.Dots,
        };
        switch (isa)
        {
            case Isa.Avx512:
                BackwardTiled<Lanes512, Vector512<float>>(call, borders, scratch, team);
                break;
            case Isa.Avx2 or Isa.Arm64:
                BackwardTiled<Lanes256, Vector256<float>>(call, borders, scratch, team);
                break;
            default:
                BackwardScalar(call, borders, team);
                break;
        }
    }

    // Returns the number of rows.
    private static int CheckRows(in AttentionShape shape, ReadOnlySpan<int> borders, CausalAttentionScratch scratch, ThreadTeam team)
    {
        ArgumentNullException.ThrowIfNull(scratch);
        ArgumentNullException.ThrowIfNull(team);
        shape.Check();
        if (borders.IsEmpty || borders[0] != 0)
            throw new ArgumentException("borders: expected 0 first", nameof(borders));
        for (int i = 1; i < borders.Length; i++)
        {
            if (borders[i] < borders[i - 1])
                throw new ArgumentException($"borders: {borders[i]} at {i} follows {borders[i - 1]}", nameof(borders));
        }

        int rowCount = borders[^1];
        if (scratch.Shape != shape || rowCount > scratch.MaxRows)
            throw new ArgumentException($"scratch for {scratch.MaxRows} rows of {scratch.Shape}; needed: {rowCount} rows of {shape}", nameof(scratch));
        return rowCount;
    }

    private static void ExpectApart(FloatView output, ReadOnlySpan<FloatView> others, string name)
    {
        foreach (FloatView other in others)
        {
            if (output.Pointer < other.Pointer + other.Length && other.Pointer < output.Pointer + output.Length)
                throw new ArgumentException($"{name}: overlaps another view", name);
        }
    }
}

// One call's arguments, checked.
internal unsafe struct CausalCall
{
    public AttentionShape Shape;
    public int RowCount;
    public float* Q, K, V, Y, LogSumExp;
    public float* DY, DQ, DK, DV;

    // y·dy, [rowCount, Heads].
    public double* Dots;

    public readonly int QueryStride => Shape.Heads * Shape.HeadDim;

    public readonly int KeyStride => Shape.KvHeads * Shape.HeadDim;

    public readonly long QueryOffset(int rowIndex, int headIndex) => ((long)rowIndex * Shape.Heads + headIndex) * Shape.HeadDim;

    public readonly long KeyOffset(int rowIndex, int kvHeadIndex) => ((long)rowIndex * Shape.KvHeads + kvHeadIndex) * Shape.HeadDim;

    public readonly long RowOffset(int rowIndex, int headIndex) => (long)rowIndex * Shape.Heads + headIndex;
}
