using System.Runtime.CompilerServices;

namespace Qian.Kernels;

// The chunked form in lanes, for value heads that read one key head; the algebra is written out above the scalar one. The products
// k·k and q·k of a chunk are taken once for all of them. After that, columns of a state are independent of each other: the rest runs
// panel by panel (two vectors wide), so that a panel of the state and of V' stay in the first-level cache from the first
// product to the update. Everything is tiles of four rows by two vectors that live in registers; a tile of V' is read,
// substituted and stored in one go. Rows of a tile mix only downwards, so a row depends on nothing behind it; rows behind the
// last one are computed from stale scratch and never read.
public static unsafe partial class DeltaRule
{
    private static void Chunks<TLanes, TVec>(in HeadUnit heads, in ChunkBuffers buffers) where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        for (int i = 0; i < heads.Count; i++)
        {
            float* panels = buffers.States + i * buffers.StateFloats;
            if (heads.Data.State == null)
                new Span<float>(panels, checked((int)buffers.StateFloats)).Clear();
            else
                MoveState<TLanes, TVec>(heads[i], heads[i].State, panels, load: true);
        }

        int panelWidth = 2 * TLanes.Count;
        for (int start = 0; start < heads.Data.RowCount; start += ChunkRows)
        {
            for (int i = 0; i < heads.Count; i++)
            {
                Head head = heads[i];
                var chunk = new ChunkOfHead(head, start);
                // Products with a state that is known to be zero are left out.
                int stateRows = start == 0 && heads.Data.State == null ? 0 : head.KeyDim;
                if (i == 0)
                {
                    PackInputs(chunk, head.KeyDim, panelWidth, buffers);
                    Products<TLanes, TVec>(chunk.RowCount, head.KeyDim, buffers);
                }

                Decays<TLanes, TVec>(chunk, buffers.Decays);
                Scores<TLanes, TVec>(chunk, buffers);
                float* state = buffers.States + i * buffers.StateFloats;
                if (head.ChunkStates != null)
                    MoveState<TLanes, TVec>(head, head.ChunkStates + start / ChunkRows * head.ChunkStateStride, state, load: false);
                for (int column = 0; column < head.ValueDim; column += panelWidth, state += PanelFloats<TLanes, TVec>(head.KeyDim))
                {
                    for (int row = 0; row < chunk.RowCount; row += 4)
                        ValueTile<TLanes, TVec>(chunk, head.KeyDim, stateRows, head.ValueDim, buffers, state, row, column);
                    for (int row = 0; row < chunk.RowCount; row += 4)
                        OutputTile<TLanes, TVec>(chunk, head.KeyDim, stateRows, head.ValueDim, buffers, state, row, column);
                    UpdateState<TLanes, TVec>(chunk, head.KeyDim, buffers, state);
                }
            }
        }

        for (int i = 0; i < heads.Count && heads.Data.State != null; i++)
            MoveState<TLanes, TVec>(heads[i], heads[i].State, buffers.States + i * buffers.StateFloats, load: false);
    }

    private static long PanelFloats<TLanes, TVec>(int keyDim) where TLanes : struct, ILanes<TVec> where TVec : struct =>
        ChunkBuffers.PaddedRows(keyDim) * 2L * TLanes.Count;

    /// <summary>The rows of one chunk: pointers to its first row, strides from row to row.</summary>
    private readonly struct ChunkOfHead
    {
        public readonly float* Q, K, V, G, Beta, Y;
        public readonly nint InputStride, GateStride, OutputStride;
        public readonly int RowCount;

        public ChunkOfHead(in Head head, int start)
        {
            Q = head.Q + start * head.InputStride;
            K = head.K + start * head.InputStride;
            V = head.V + start * head.InputStride;
            G = head.G + start * head.GateStride;
            Beta = head.Beta + start * head.GateStride;
            Y = head.Y + start * head.OutputStride;
            InputStride = head.InputStride;
            GateStride = head.GateStride;
            OutputStride = head.OutputStride;
            RowCount = Math.Min(ChunkRows, head.RowCount - start);
        }

        // A tile's rows behind the last one read the last one again.
        public int Existing(int row) => Math.Min(row, RowCount - 1);
    }

    private static void MoveState<TLanes, TVec>(in Head head, float* state, float* panel, bool load) where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        int width = TLanes.Count;
        for (int column = 0; column < head.ValueDim; column += 2 * width, panel += PanelFloats<TLanes, TVec>(head.KeyDim))
        {
            int left = Math.Min(head.ValueDim - column, width), right = Math.Clamp(head.ValueDim - column - width, 0, width);
            for (int d = 0; d < head.KeyDim; d++)
            {
                float* outside = state + (long)d * head.ValueDim + column;
                float* inside = panel + (long)d * 2 * width;
                if (load)
                {
                    TLanes.Store(inside, TLanes.LoadPartial(outside, left));
                    TLanes.Store(inside + width, TLanes.LoadPartial(outside + width, right));
                }
                else
                {
                    TLanes.StorePartial(outside, TLanes.Load(inside), left);
                    TLanes.StorePartial(outside + width, TLanes.Load(inside + width), right);
                }
            }
        }
    }

    // Rows of the network lie 40 KiB apart, all in the same few cache sets: they are gathered once.
    private static void PackInputs(in ChunkOfHead chunk, int keyDim, int panelWidth, in ChunkBuffers buffers)
    {
        float* queries = buffers.Inputs + (long)ChunkRows * keyDim;
        for (int row = 0; row < chunk.RowCount; row++)
        {
            float* k = chunk.K + row * chunk.InputStride;
            new ReadOnlySpan<float>(k, keyDim).CopyTo(new Span<float>(buffers.Inputs + (long)row * keyDim, keyDim));
            new ReadOnlySpan<float>(chunk.Q + row * chunk.InputStride, keyDim).CopyTo(new Span<float>(queries + (long)row * keyDim, keyDim));
            float* turned = buffers.TurnedKeys + (long)(row / panelWidth) * keyDim * panelWidth + row % panelWidth;
            for (int d = 0; d < keyDim; d++)
                turned[(long)d * panelWidth] = k[d];
        }
    }

    // A sum of gates is kept as two floats, because its small differences are what counts.
    private static void Decays<TLanes, TVec>(in ChunkOfHead chunk, in ChunkDecays decays) where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        double sum = 0;
        for (int row = 0; row < chunk.RowCount; row++)
        {
            sum += Math.Max(chunk.G[row * chunk.GateStride], MinLogDecay);
            decays.Log[row] = (float)sum;
            decays.LogRest[row] = (float)(sum - (float)sum);
        }

        int last = chunk.RowCount - 1;
        for (int row = 0; row < chunk.RowCount; row += TLanes.Count)
        {
            TLanes.Store(decays.FromStart + row, Activation.Exp<TLanes, TVec>(TLanes.Load(decays.Log + row)));
            TLanes.Store(decays.ToEnd + row, DecayBetween<TLanes, TVec>(decays, last, row));
        }
    }

    /// <summary>e^{G_to − G_from} for a vector of rows from <paramref name="from"/> on; meaningless for those after <paramref name="to"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static TVec DecayBetween<TLanes, TVec>(in ChunkDecays decays, int to, int from) where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        TVec difference = TLanes.Subtract(TLanes.Broadcast(decays.Log[to]), TLanes.Load(decays.Log + from));
        TVec rest = TLanes.Subtract(TLanes.Broadcast(decays.LogRest[to]), TLanes.Load(decays.LogRest + from));
        return Activation.Exp<TLanes, TVec>(TLanes.Add(difference, rest));
    }

    private static void Products<TLanes, TVec>(int rowCount, int keyDim, in ChunkBuffers buffers) where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        for (int row = 0; row < rowCount; row += 4)
        {
            for (int column = 0; column < row + 4; column += 2 * TLanes.Count)
            {
                float* keys = buffers.TurnedKeys + (long)column * keyDim;
                float* products = buffers.Products + row * ChunkRows + column;
                ProductTile<TLanes, TVec>(buffers.Inputs + (long)row * keyDim, keyDim, keys, products);
                ProductTile<TLanes, TVec>(buffers.Inputs + (long)(ChunkRows + row) * keyDim, keyDim, keys, products + ChunkRows * ChunkRows);
            }
        }
    }

    private static void Scores<TLanes, TVec>(in ChunkOfHead chunk, in ChunkBuffers buffers) where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        for (int row = 0; row < chunk.RowCount; row++)
        {
            TVec minusBeta = TLanes.Broadcast(-chunk.Beta[row * chunk.GateStride]);
            int queries = ChunkRows * ChunkRows;
            float* products = buffers.Products + row * ChunkRows, scores = buffers.Scores + row * ChunkRows;
            for (int column = 0; column <= row; column += TLanes.Count)
            {
                TVec decay = DecayBetween<TLanes, TVec>(buffers.Decays, row, column);
                TLanes.Store(scores + column, TLanes.Multiply(TLanes.Multiply(TLanes.Load(products + column), decay), minusBeta));
                TLanes.Store(scores + queries + column, TLanes.Multiply(TLanes.Load(products + queries + column), decay));
            }
        }
    }

    private static void ProductTile<TLanes, TVec>(float* rows, int keyDim, float* keys, float* products) where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        TVec a0 = TLanes.Zero, a1 = TLanes.Zero, b0 = TLanes.Zero, b1 = TLanes.Zero;
        TVec c0 = TLanes.Zero, c1 = TLanes.Zero, d0 = TLanes.Zero, d1 = TLanes.Zero;
        MultiplyTile<TLanes, TVec>(rows, keyDim, 1, keys, 2 * TLanes.Count, keyDim, ref a0, ref a1, ref b0, ref b1, ref c0, ref c1, ref d0, ref d1);
        int width = TLanes.Count;
        TLanes.Store(products, a0);
        TLanes.Store(products + width, a1);
        TLanes.Store(products + ChunkRows, b0);
        TLanes.Store(products + ChunkRows + width, b1);
        TLanes.Store(products + 2 * ChunkRows, c0);
        TLanes.Store(products + 2 * ChunkRows + width, c1);
        TLanes.Store(products + 3 * ChunkRows, d0);
        TLanes.Store(products + 3 * ChunkRows + width, d1);
    }

    // V' of four rows: β (v − e^G kᵀS), less what the rows above contribute.
    private static void ValueTile<TLanes, TVec>(in ChunkOfHead chunk, int keyDim, int stateRows, int valueDim, in ChunkBuffers buffers, float* state,
        int row, int column) where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        TVec a0 = TLanes.Zero, a1 = TLanes.Zero, b0 = TLanes.Zero, b1 = TLanes.Zero;
        TVec c0 = TLanes.Zero, c1 = TLanes.Zero, d0 = TLanes.Zero, d1 = TLanes.Zero;
        MultiplyTile<TLanes, TVec>(buffers.Inputs + (long)row * keyDim, keyDim, 1, state, 2 * TLanes.Count, stateRows,
            ref a0, ref a1, ref b0, ref b1, ref c0, ref c1, ref d0, ref d1);

        int width = TLanes.Count, left = valueDim - column;
        RightSide<TLanes, TVec>(chunk, buffers, row, column, left, ref a0, ref a1);
        RightSide<TLanes, TVec>(chunk, buffers, row + 1, column, left, ref b0, ref b1);
        RightSide<TLanes, TVec>(chunk, buffers, row + 2, column, left, ref c0, ref c1);
        RightSide<TLanes, TVec>(chunk, buffers, row + 3, column, left, ref d0, ref d1);

        float* scores = buffers.Scores + row * ChunkRows;
        MultiplyTile<TLanes, TVec>(scores, ChunkRows, 1, buffers.Values, 2 * TLanes.Count, row, ref a0, ref a1, ref b0, ref b1, ref c0, ref c1, ref d0, ref d1);

        // The triangle inside the tile.
        float* b = scores + ChunkRows + row, c = b + ChunkRows, d = c + ChunkRows;
        AddScaled<TLanes, TVec>(b[0], a0, a1, ref b0, ref b1);
        AddScaled<TLanes, TVec>(c[0], a0, a1, ref c0, ref c1);
        AddScaled<TLanes, TVec>(c[1], b0, b1, ref c0, ref c1);
        AddScaled<TLanes, TVec>(d[0], a0, a1, ref d0, ref d1);
        AddScaled<TLanes, TVec>(d[1], b0, b1, ref d0, ref d1);
        AddScaled<TLanes, TVec>(d[2], c0, c1, ref d0, ref d1);

        float* values = buffers.Values + row * 2 * width;
        TLanes.Store(values, a0);
        TLanes.Store(values + width, a1);
        TLanes.Store(values + 2 * width, b0);
        TLanes.Store(values + 3 * width, b1);
        TLanes.Store(values + 4 * width, c0);
        TLanes.Store(values + 5 * width, c1);
        TLanes.Store(values + 6 * width, d0);
        TLanes.Store(values + 7 * width, d1);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void RightSide<TLanes, TVec>(in ChunkOfHead chunk, in ChunkBuffers buffers, int row, int column, int left, ref TVec low, ref TVec high)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        row = chunk.Existing(row);
        float* v = chunk.V + row * chunk.InputStride + column;
        TVec decay = TLanes.Broadcast(buffers.Decays.FromStart[row]), beta = TLanes.Broadcast(chunk.Beta[row * chunk.GateStride]);
        low = TLanes.Multiply(beta, TLanes.MultiplySubtractFrom(decay, low, TLanes.LoadPartial(v, left)));
        high = TLanes.Multiply(beta, TLanes.MultiplySubtractFrom(decay, high, TLanes.LoadPartial(v + TLanes.Count, left - TLanes.Count)));
    }

    // Four rows of output: e^G qᵀS plus what the rows up to each contribute.
    private static void OutputTile<TLanes, TVec>(in ChunkOfHead chunk, int keyDim, int stateRows, int valueDim, in ChunkBuffers buffers, float* state,
        int row, int column) where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        TVec a0 = TLanes.Zero, a1 = TLanes.Zero, b0 = TLanes.Zero, b1 = TLanes.Zero;
        TVec c0 = TLanes.Zero, c1 = TLanes.Zero, d0 = TLanes.Zero, d1 = TLanes.Zero;
        MultiplyTile<TLanes, TVec>(buffers.Inputs + (long)(ChunkRows + row) * keyDim, keyDim, 1, state, 2 * TLanes.Count, stateRows,
            ref a0, ref a1, ref b0, ref b1, ref c0, ref c1, ref d0, ref d1);

        float* decay = buffers.Decays.FromStart + row;
        Scale<TLanes, TVec>(decay[0], ref a0, ref a1);
        Scale<TLanes, TVec>(decay[1], ref b0, ref b1);
        Scale<TLanes, TVec>(decay[2], ref c0, ref c1);
        Scale<TLanes, TVec>(decay[3], ref d0, ref d1);

        float* scores = buffers.Scores + (ChunkRows + row) * ChunkRows;
        MultiplyTile<TLanes, TVec>(scores, ChunkRows, 1, buffers.Values, 2 * TLanes.Count, row, ref a0, ref a1, ref b0, ref b1, ref c0, ref c1, ref d0, ref d1);

        // The triangle inside the tile, its diagonal included.
        int width = TLanes.Count;
        float* a = scores + row, b = a + ChunkRows, c = b + ChunkRows, d = c + ChunkRows;
        float* values = buffers.Values + row * 2 * width;
        TVec low = TLanes.Load(values), high = TLanes.Load(values + width);
        AddScaled<TLanes, TVec>(a[0], low, high, ref a0, ref a1);
        AddScaled<TLanes, TVec>(b[0], low, high, ref b0, ref b1);
        AddScaled<TLanes, TVec>(c[0], low, high, ref c0, ref c1);
        AddScaled<TLanes, TVec>(d[0], low, high, ref d0, ref d1);
        low = TLanes.Load(values + 2 * width);
        high = TLanes.Load(values + 3 * width);
        AddScaled<TLanes, TVec>(b[1], low, high, ref b0, ref b1);
        AddScaled<TLanes, TVec>(c[1], low, high, ref c0, ref c1);
        AddScaled<TLanes, TVec>(d[1], low, high, ref d0, ref d1);
        low = TLanes.Load(values + 4 * width);
        high = TLanes.Load(values + 5 * width);
        AddScaled<TLanes, TVec>(c[2], low, high, ref c0, ref c1);
        AddScaled<TLanes, TVec>(d[2], low, high, ref d0, ref d1);
        low = TLanes.Load(values + 6 * width);
        high = TLanes.Load(values + 7 * width);
        AddScaled<TLanes, TVec>(d[3], low, high, ref d0, ref d1);

        float* y = chunk.Y + row * chunk.OutputStride + column;
        int left = valueDim - column, rows = chunk.RowCount - row;
        StoreOutput<TLanes, TVec>(y, a0, a1, left);
        if (rows > 1)
            StoreOutput<TLanes, TVec>(y + chunk.OutputStride, b0, b1, left);
        if (rows > 2)
            StoreOutput<TLanes, TVec>(y + 2 * chunk.OutputStride, c0, c1, left);
        if (rows > 3)
            StoreOutput<TLanes, TVec>(y + 3 * chunk.OutputStride, d0, d1, left);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void StoreOutput<TLanes, TVec>(float* y, TVec low, TVec high, int left) where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        TLanes.StorePartial(y, low, left);
        TLanes.StorePartial(y + TLanes.Count, high, left - TLanes.Count);
    }

    // S ← e^{G_last} S + Σ_j k_j (e^{G_last − G_j} V'_j)ᵀ on one panel; V' is scaled in place, its last use.
    private static void UpdateState<TLanes, TVec>(in ChunkOfHead chunk, int keyDim, in ChunkBuffers buffers, float* state)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        int width = TLanes.Count;
        float* values = buffers.Values;
        for (int row = 0; row < chunk.RowCount; row++)
        {
            TVec decay = TLanes.Broadcast(buffers.Decays.ToEnd[row]);
            TLanes.Store(values + row * 2 * width, TLanes.Multiply(decay, TLanes.Load(values + row * 2 * width)));
            TLanes.Store(values + (row * 2 + 1) * width, TLanes.Multiply(decay, TLanes.Load(values + (row * 2 + 1) * width)));
        }

        float whole = buffers.Decays.FromStart[chunk.RowCount - 1];
        for (int d = 0; d < keyDim; d += 4, state += 8 * width)
        {
            TVec a0 = TLanes.Load(state), a1 = TLanes.Load(state + width);
            TVec b0 = TLanes.Load(state + 2 * width), b1 = TLanes.Load(state + 3 * width);
            TVec c0 = TLanes.Load(state + 4 * width), c1 = TLanes.Load(state + 5 * width);
            TVec d0 = TLanes.Load(state + 6 * width), d1 = TLanes.Load(state + 7 * width);
            Scale<TLanes, TVec>(whole, ref a0, ref a1);
            Scale<TLanes, TVec>(whole, ref b0, ref b1);
            Scale<TLanes, TVec>(whole, ref c0, ref c1);
            Scale<TLanes, TVec>(whole, ref d0, ref d1);
            MultiplyTile<TLanes, TVec>(buffers.Inputs + d, 1, keyDim, values, 2 * width, chunk.RowCount,
                ref a0, ref a1, ref b0, ref b1, ref c0, ref c1, ref d0, ref d1);
            TLanes.Store(state, a0);
            TLanes.Store(state + width, a1);
            TLanes.Store(state + 2 * width, b0);
            TLanes.Store(state + 3 * width, b1);
            TLanes.Store(state + 4 * width, c0);
            TLanes.Store(state + 5 * width, c1);
            TLanes.Store(state + 6 * width, d0);
            TLanes.Store(state + 7 * width, d1);
        }
    }

    /// <summary>Tile [4, 2 vectors] += A [4, count] · panel [count, 2 vectors]; strides are free, so A may be a transpose.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void MultiplyTile<TLanes, TVec>(float* a, nint rowStride, nint stepStride, float* panel, nint panelStride, int count,
        ref TVec a0, ref TVec a1, ref TVec b0, ref TVec b1, ref TVec c0, ref TVec c1, ref TVec d0, ref TVec d1)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        for (int i = 0; i < count; i++)
        {
            TVec low = TLanes.Load(panel), high = TLanes.Load(panel + TLanes.Count);
            AddScaled<TLanes, TVec>(a[0], low, high, ref a0, ref a1);
            AddScaled<TLanes, TVec>(a[rowStride], low, high, ref b0, ref b1);
            AddScaled<TLanes, TVec>(a[2 * rowStride], low, high, ref c0, ref c1);
            AddScaled<TLanes, TVec>(a[3 * rowStride], low, high, ref d0, ref d1);
            a += stepStride;
            panel += panelStride;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddScaled<TLanes, TVec>(float factor, TVec low, TVec high, ref TVec sumLow, ref TVec sumHigh)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        TVec wide = TLanes.Broadcast(factor);
        sumLow = TLanes.MultiplyAdd(wide, low, sumLow);
        sumHigh = TLanes.MultiplyAdd(wide, high, sumHigh);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Scale<TLanes, TVec>(float factor, ref TVec low, ref TVec high) where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        TVec wide = TLanes.Broadcast(factor);
        low = TLanes.Multiply(wide, low);
        high = TLanes.Multiply(wide, high);
    }
}
