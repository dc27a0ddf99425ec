namespace Qian.Kernels;

// The chunked backward in lanes, for all value heads of one key head in one sample. With G the running sum of g inside the chunk,
// L_ij = e^{G_i−G_j} for j ≤ i, S the state before the chunk and D the gradient of the state after it, the forward of a chunk is
//   ε_i = v_i − e^{G_i} k_iᵀS − Σ_{j<i} (k_i·k_j) L_ij δ_j,   δ = βε
//   o_i = e^{G_i} q_iᵀS + Σ_{j≤i} (q_i·k_j) L_ij δ_j
//   S   ← e^{G_C} S + Σ_j e^{G_C−G_j} k_j δ_jᵀ
// and backward, where u = dε turns out to be dv:
//   dδ_j = Σ_{i≥j} (q_i·k_j) L_ij do_i + e^{G_C−G_j} k_jᵀD − Σ_{i>j} (k_i·k_j) L_ij u_i,   u = β dδ,   dβ_j = dδ_j·ε_j
//   d(q_i·k_j) = (do_i·δ_j) L_ij,   d(k_i·k_j) = −(u_i·δ_j) L_ij
//   dq_i += e^{G_i} S do_i,   dk_i += −e^{G_i} S u_i + e^{G_C−G_i} D δ_i
//   D ← e^{G_C} D + Σ_i e^{G_i} (q_i do_iᵀ − k_i u_iᵀ)
// The substitution is never an inverse, and β never a divisor. The gradient of g_t is the sum of what crosses row t: whatever an
// exponent of a difference that g_t is part of was multiplied with. Each is counted where it crosses, instead of taking
// differences of sums over rows, so nothing cancels where a strong decay leaves little. The products k·k and q·k belong to the
// key head: their gradients are summed over its value heads first and multiplied out once.
public static unsafe partial class DeltaRule
{
    private static void ChunksBackward<TLanes, TVec>(in HeadUnit heads, in HeadUnit gradients, in DeltaBackwardBuffers buffers, float* slot)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        new Span<float>(slot, checked((int)buffers.UsedFloats)).Clear();
        int rowCount = heads.Data.RowCount;
        for (int index = ChunksOf(rowCount) - 1; index >= 0; index--)
        {
            // Before the first chunk there is no state, behind the last no gradient of it: products with zeros are left out.
            bool hasState = index > 0, hasGradient = (index + 1) * ChunkRows < rowCount;
            for (int i = 0; i < heads.Count; i++)
            {
                Head head = heads[i];
                ChunkOfHead chunk = new(head, index * ChunkRows), output = new(gradients[i], index * ChunkRows);
                var work = new BackwardChunk(chunk, output, head.KeyDim, head.ValueDim, hasState, hasGradient);
                if (i == 0)
                    StartKeyHead<TLanes, TVec>(work, buffers);
                float* stateGradient = buffers.StateGradient(i);
                PackHead<TLanes, TVec>(work, buffers, head.ChunkStates + index * head.ChunkStateStride, stateGradient);
                Deltas<TLanes, TVec>(work, buffers);
                DeltaGradients<TLanes, TVec>(work, buffers, stateGradient);
                InputGradientsThroughStates<TLanes, TVec>(work, buffers);
                ProductGradients<TLanes, TVec>(work, buffers, first: i == 0);
                float throughChunk = hasState ? StateGradient<TLanes, TVec>(work, buffers, stateGradient) : 0;
                GateGradients<TLanes, TVec>(work, buffers, throughChunk);
                if (i == heads.Count - 1)
                    FinishKeyHead<TLanes, TVec>(work, buffers);
            }
        }
    }

    /// <summary>A chunk of one value head with its gradients, and what of it is known to be zero.</summary>
    private readonly struct BackwardChunk
    {
        public readonly ChunkOfHead Input, Output;
        public readonly int KeyDim, ValueDim, RowCount, TileRows;
        public readonly bool HasState, HasGradient;

        public BackwardChunk(in ChunkOfHead input, in ChunkOfHead output, int keyDim, int valueDim, bool hasState, bool hasGradient)
        {
            Input = input;
            Output = output;
            KeyDim = keyDim;
            ValueDim = valueDim;
            RowCount = input.RowCount;
            TileRows = (input.RowCount + 3) / 4 * 4;
            HasState = hasState;
            HasGradient = hasGradient;
        }
    }

    private static void StartKeyHead<TLanes, TVec>(in BackwardChunk work, in DeltaBackwardBuffers buffers)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        int keyDim = work.KeyDim, stride = buffers.KeyStride;
        CopyRows(work.Input.K, work.Input.InputStride, buffers.Keys, stride, work.RowCount, keyDim);
        CopyRows(work.Input.Q, work.Input.InputStride, buffers.Queries, stride, work.RowCount, keyDim);
        Transpose(buffers.Keys, stride, work.TileRows, keyDim, buffers.KeysTurned, buffers.RowStride);
        LowerProduct<TLanes, TVec>(buffers.Keys, stride, buffers.KeysTurned, buffers.RowStride, keyDim, buffers.KeyProducts, work.TileRows);
        LowerProduct<TLanes, TVec>(buffers.Queries, stride, buffers.KeysTurned, buffers.RowStride, keyDim, buffers.QueryProducts, work.TileRows);
        new Span<float>(buffers.KeyGradient, work.RowCount * stride).Clear();
        new Span<float>(buffers.QueryGradient, work.RowCount * stride).Clear();
    }

    // Gathers what belongs to the value head, and takes the exponents of all differences of gates.
    private static void PackHead<TLanes, TVec>(in BackwardChunk work, in DeltaBackwardBuffers buffers, float* state, float* stateGradient)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        ChunkOfHead chunk = work.Input;
        int keyDim = work.KeyDim, valueDim = work.ValueDim;
        CopyRows(chunk.Y, chunk.OutputStride, buffers.OutputGradient, buffers.ValueStride, work.RowCount, valueDim);
        if (work.HasState)
        {
            CopyRows(state, valueDim, buffers.State, buffers.ValueStride, keyDim, valueDim);
            Transpose(buffers.State, buffers.ValueStride, keyDim, valueDim, buffers.StateTurned, buffers.KeyStride);
        }

        if (work.HasGradient)
            Transpose(stateGradient, buffers.ValueStride, keyDim, valueDim, buffers.StateGradientTurned, buffers.KeyStride);

        Decays<TLanes, TVec>(chunk, buffers.Decays);
        for (int row = 0; row < work.RowCount; row++)
        {
            buffers.Beta[row] = chunk.Beta[row * chunk.GateStride];
            nint offset = row * buffers.RowStride;
            for (int column = 0; column <= row; column += TLanes.Count)
            {
                TVec between = DecayBetween<TLanes, TVec>(buffers.Decays, row, column);
                TVec queries = TLanes.Multiply(TLanes.Load(buffers.QueryProducts + offset + column), between);
                TVec keys = TLanes.Multiply(TLanes.Load(buffers.KeyProducts + offset + column), TLanes.Subtract(TLanes.Zero, between));
                TLanes.StorePartial(buffers.Between + offset + column, between, row + 1 - column);
                TLanes.StorePartial(buffers.QueryScores + offset + column, queries, row + 1 - column);
                TLanes.StorePartial(buffers.MinusKeyScores + offset + column, keys, row - column);
            }
        }
    }

    // ε and δ by forward substitution, as the forward does it.
    private static void Deltas<TLanes, TVec>(in BackwardChunk work, in DeltaBackwardBuffers buffers) where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        ChunkOfHead chunk = work.Input;
        int valueDim = work.ValueDim;
        nint stride = buffers.ValueStride;
        Product<TLanes, TVec>(buffers.Keys, buffers.KeyStride, 1, buffers.State, stride, work.HasState ? work.KeyDim : 0,
            buffers.Error, stride, work.TileRows, valueDim, accumulate: false);
        for (int row = 0; row < work.RowCount; row++)
        {
            TVec decay = TLanes.Broadcast(buffers.Decays.FromStart[row]);
            float* v = chunk.V + row * chunk.InputStride, error = buffers.Error + row * stride;
            for (int column = 0; column < valueDim; column += TLanes.Count)
            {
                TVec value = TLanes.LoadPartial(v + column, valueDim - column);
                TLanes.Store(error + column, TLanes.MultiplySubtractFrom(decay, TLanes.Load(error + column), value));
            }
        }

        for (int column = 0; column < valueDim; column += 2 * TLanes.Count)
        {
            for (int row = 0; row < work.TileRows; row += 4)
            {
                float* scores = buffers.MinusKeyScores + row * buffers.RowStride;
                float* error = buffers.Error + row * stride + column, delta = buffers.Delta + row * stride + column;
                Tile<TLanes, TVec>(scores, buffers.RowStride, 1, buffers.Delta + column, stride, row, error, stride, accumulate: true);
                for (int i = 0; i < 4; i++, error += stride)
                {
                    for (int j = 0; j < i; j++)
                        AddScaledRow<TLanes, TVec>(scores[i * buffers.RowStride + row + j], delta + j * stride, error);
                    ScaleRow<TLanes, TVec>(buffers.Beta[row + i], error, delta + i * stride);
                }
            }
        }

        Transpose(buffers.Delta, buffers.ValueStride, work.TileRows, valueDim, buffers.DeltaTurned, buffers.RowStride);
    }

    // dδ and u = dv by substitution from below, and dβ.
    private static void DeltaGradients<TLanes, TVec>(in BackwardChunk work, in DeltaBackwardBuffers buffers, float* stateGradient)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        int valueDim = work.ValueDim, rows = work.TileRows;
        nint stride = buffers.ValueStride, scoreStride = buffers.RowStride;
        Product<TLanes, TVec>(buffers.Keys, buffers.KeyStride, 1, stateGradient, stride, work.HasGradient ? work.KeyDim : 0,
            buffers.DeltaGradient, stride, rows, valueDim, accumulate: false);
        if (work.HasGradient)
            ScaleRows<TLanes, TVec>(buffers.Decays.ToEnd, 1, buffers.DeltaGradient, stride, work.RowCount, valueDim);

        for (int column = 0; column < valueDim; column += 2 * TLanes.Count)
        {
            for (int row = rows - 4; row >= 0; row -= 4)
            {
                float* queryScores = buffers.QueryScores + row * scoreStride + row, keyScores = buffers.MinusKeyScores + row * scoreStride + row;
                float* gradient = buffers.DeltaGradient + row * stride + column, value = buffers.ValueGradient + row * stride + column;
                Tile<TLanes, TVec>(queryScores, 1, scoreStride, buffers.OutputGradient + row * stride + column, stride, rows - row,
                    gradient, stride, accumulate: true);
                Tile<TLanes, TVec>(keyScores + 4 * scoreStride, 1, scoreStride, value + 4 * stride, stride, rows - row - 4,
                    gradient, stride, accumulate: true);
                for (int j = 3; j >= 0; j--)
                {
                    for (int i = 3; i > j; i--)
                        AddScaledRow<TLanes, TVec>(keyScores[i * scoreStride + j], value + i * stride, gradient + j * stride);
                    ScaleRow<TLanes, TVec>(buffers.Beta[row + j], gradient + j * stride, value + j * stride);
                }
            }
        }

        ChunkOfHead output = work.Output;
        CopyRows(buffers.ValueGradient, buffers.ValueStride, output.V, output.InputStride, work.RowCount, valueDim);
        for (int row = 0; row < work.RowCount; row++)
            output.Beta[row * output.GateStride] = Dot<TLanes, TVec>(buffers.DeltaGradient + row * stride, buffers.Error + row * stride, valueDim);
    }

    // What dq and dk get by way of the states at both ends, and what of it crosses the gates.
    private static void InputGradientsThroughStates<TLanes, TVec>(in BackwardChunk work, in DeltaBackwardBuffers buffers)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        int rows = work.RowCount;
        new Span<float>(buffers.FromState, ChunkRows).Clear();
        new Span<float>(buffers.IntoState, ChunkRows).Clear();
        if (work.HasState)
        {
            PartThroughState<TLanes, TVec>(work, buffers, buffers.OutputGradient, buffers.StateTurned);
            AddPart<TLanes, TVec>(work, buffers, buffers.Decays.FromStart, 1, buffers.Queries, buffers.QueryGradient, buffers.FromState);
            PartThroughState<TLanes, TVec>(work, buffers, buffers.ValueGradient, buffers.StateTurned);
            AddPart<TLanes, TVec>(work, buffers, buffers.Decays.FromStart, -1, buffers.Keys, buffers.KeyGradient, buffers.FromState);
        }

        if (work.HasGradient)
        {
            PartThroughState<TLanes, TVec>(work, buffers, buffers.Delta, buffers.StateGradientTurned);
            AddPart<TLanes, TVec>(work, buffers, buffers.Decays.ToEnd, 1, buffers.Keys, buffers.KeyGradient, buffers.IntoState);
        }
    }

    private static void PartThroughState<TLanes, TVec>(in BackwardChunk work, in DeltaBackwardBuffers buffers, float* rows, float* stateTurned)
        where TLanes : struct, ILanes<TVec> where TVec : struct =>
        Product<TLanes, TVec>(rows, buffers.ValueStride, 1, stateTurned, buffers.KeyStride, work.ValueDim,
            buffers.Part, buffers.KeyStride, work.TileRows, work.KeyDim, accumulate: false);

    // The part, scaled by a factor per row, goes into the gradient; times the input itself it is what crosses the gates.
    private static void AddPart<TLanes, TVec>(in BackwardChunk work, in DeltaBackwardBuffers buffers, float* factors, float sign, float* input,
        float* gradient, float* crossing) where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        float* part = buffers.Part;
        for (int row = 0; row < work.RowCount; row++)
        {
            TVec factor = TLanes.Broadcast(sign * factors[row]), sum = TLanes.Zero;
            for (int column = 0; column < work.KeyDim; column += TLanes.Count)
            {
                TVec scaled = TLanes.Multiply(factor, TLanes.Load(part + column));
                sum = TLanes.MultiplyAdd(scaled, TLanes.Load(input + column), sum);
                TLanes.Store(gradient + column, TLanes.Add(TLanes.Load(gradient + column), scaled));
            }

            crossing[row] += TLanes.Sum(sum);
            part += buffers.KeyStride;
            input += buffers.KeyStride;
            gradient += buffers.KeyStride;
        }
    }

    // Gradients of q·k and k·k; what of them crosses the gates is left in the place of the products do·δ.
    private static void ProductGradients<TLanes, TVec>(in BackwardChunk work, in DeltaBackwardBuffers buffers, bool first)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        LowerProduct<TLanes, TVec>(buffers.OutputGradient, buffers.ValueStride, buffers.DeltaTurned, buffers.RowStride, work.ValueDim,
            buffers.OutputByDelta, work.TileRows);
        LowerProduct<TLanes, TVec>(buffers.ValueGradient, buffers.ValueStride, buffers.DeltaTurned, buffers.RowStride, work.ValueDim,
            buffers.ValueGradientByDelta, work.TileRows);
        for (int row = 0; row < work.RowCount; row++)
        {
            for (nint i = row * buffers.RowStride; i <= row * (buffers.RowStride + 1); i += TLanes.Count)
            {
                TVec between = TLanes.Load(buffers.Between + i);
                TVec outputs = TLanes.Load(buffers.OutputByDelta + i), values = TLanes.Load(buffers.ValueGradientByDelta + i);
                TVec queries = first ? TLanes.Zero : TLanes.Load(buffers.QueryProductGradient + i);
                TVec keys = first ? TLanes.Zero : TLanes.Load(buffers.KeyProductGradient + i);
                TLanes.Store(buffers.QueryProductGradient + i, TLanes.MultiplyAdd(outputs, between, queries));
                TLanes.Store(buffers.KeyProductGradient + i, TLanes.MultiplySubtractFrom(values, between, keys));
                TVec crossing = TLanes.Multiply(outputs, TLanes.Load(buffers.QueryScores + i));
                TLanes.Store(buffers.OutputByDelta + i, TLanes.MultiplyAdd(values, TLanes.Load(buffers.MinusKeyScores + i), crossing));
            }
        }
    }

    // D ← e^{G_C} D + Σ_i e^{G_i} (q_i do_iᵀ − k_i u_iᵀ); do and u are scaled in place, their last use. Returns what crosses the whole chunk.
    private static float StateGradient<TLanes, TVec>(in BackwardChunk work, in DeltaBackwardBuffers buffers, float* stateGradient)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        nint stride = buffers.ValueStride;
        float throughChunk = 0;
        if (work.HasGradient)
        {
            float whole = buffers.Decays.FromStart[work.RowCount - 1];
            TVec decay = TLanes.Broadcast(whole), sum = TLanes.Zero;
            for (int d = 0; d < work.KeyDim; d++)
            {
                float* gradient = stateGradient + d * stride, state = buffers.State + d * stride;
                for (int column = 0; column < work.ValueDim; column += TLanes.Count)
                {
                    TVec decayed = TLanes.Multiply(decay, TLanes.Load(gradient + column));
                    sum = TLanes.MultiplyAdd(decayed, TLanes.Load(state + column), sum);
                    TLanes.Store(gradient + column, decayed);
                }
            }

            throughChunk = TLanes.Sum(sum);
        }

        ScaleRows<TLanes, TVec>(buffers.Decays.FromStart, 1, buffers.OutputGradient, stride, work.RowCount, work.ValueDim);
        ScaleRows<TLanes, TVec>(buffers.Decays.FromStart, -1, buffers.ValueGradient, stride, work.RowCount, work.ValueDim);
        int keyRows = (work.KeyDim + 3) / 4 * 4;
        Product<TLanes, TVec>(buffers.Queries, 1, buffers.KeyStride, buffers.OutputGradient, stride, work.TileRows,
            stateGradient, stride, keyRows, work.ValueDim, accumulate: true);
        Product<TLanes, TVec>(buffers.Keys, 1, buffers.KeyStride, buffers.ValueGradient, stride, work.TileRows,
            stateGradient, stride, keyRows, work.ValueDim, accumulate: true);
        return throughChunk;
    }

    // What crosses row t: from rows before it to it and rows behind, from the state to it and rows behind, from rows before it to
    // the state behind, and from state to state.
    private static void GateGradients<TLanes, TVec>(in BackwardChunk work, in DeltaBackwardBuffers buffers, float throughChunk)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        float* crossing = buffers.Crossing;
        new Span<float>(crossing, ChunkRows).Clear();
        double fromState = 0, intoState = throughChunk;
        for (int row = 0; row < work.RowCount; row++)
            intoState += buffers.IntoState[row];
        for (int row = work.RowCount - 1; row >= 0; row--)
        {
            float* pairs = buffers.OutputByDelta + row * buffers.RowStride;
            crossing[row] = 0;
            TVec sum = TLanes.Zero;
            for (int column = 0; column < row; column += TLanes.Count)
            {
                TVec added = TLanes.Add(TLanes.Load(crossing + column), TLanes.LoadPartial(pairs + column, row - column));
                TLanes.Store(crossing + column, added);
                sum = TLanes.Add(sum, added);
            }

            fromState += buffers.FromState[row];
            intoState -= buffers.IntoState[row];
            work.Output.G[row * work.Output.GateStride] = (float)(TLanes.Sum(sum) + fromState + intoState);
        }
    }

    // Multiplies out the gradients of q·k and k·k and hands the sums over the value heads to the caller.
    private static void FinishKeyHead<TLanes, TVec>(in BackwardChunk work, in DeltaBackwardBuffers buffers)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        nint stride = buffers.KeyStride, pairStride = buffers.RowStride;
        for (int row = 0; row < work.RowCount; row++)
            buffers.KeyProductGradient[row * (pairStride + 1)] = 0;
        for (int column = 0; column < work.KeyDim; column += 2 * TLanes.Count)
        {
            float* keys = buffers.Keys + column, queries = buffers.Queries + column;
            for (int row = 0; row < work.TileRows; row += 4)
            {
                float* queryPairs = buffers.QueryProductGradient + row * pairStride, keyPairs = buffers.KeyProductGradient + row * pairStride;
                float* dq = buffers.QueryGradient + row * stride + column, dk = buffers.KeyGradient + row * stride + column;
                int behind = work.TileRows - row;
                Tile<TLanes, TVec>(queryPairs, pairStride, 1, keys, stride, row + 4, dq, stride, accumulate: true);
                Tile<TLanes, TVec>(queryPairs + row, 1, pairStride, queries + row * stride, stride, behind, dk, stride, accumulate: true);
                Tile<TLanes, TVec>(keyPairs, pairStride, 1, keys, stride, row + 4, dk, stride, accumulate: true);
                Tile<TLanes, TVec>(keyPairs + row, 1, pairStride, keys + row * stride, stride, behind, dk, stride, accumulate: true);
            }
        }

        ChunkOfHead output = work.Output;
        CopyRows(buffers.QueryGradient, buffers.KeyStride, output.Q, output.InputStride, work.RowCount, work.KeyDim);
        CopyRows(buffers.KeyGradient, buffers.KeyStride, output.K, output.InputStride, work.RowCount, work.KeyDim);
    }
}
