namespace Qian.Kernels;

// The vector tiers: tiles of queries against tiles of keys, each pair a few matrix products (CausalAttention.Products.cs) and a
// pass over their scores between them. The forward holds scores with a column per query, so that maxima and sums over the keys
// need no sum across lanes, and rescales y where a maximum has moved. The backward holds them with a row per query.
public static unsafe partial class CausalAttention
{
    private static void ForwardTiled<TLanes, TVec>(in CausalCall call, ReadOnlySpan<int> borders, CausalAttentionScratch scratch, ThreadTeam team)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        var job = new ForwardJob<TLanes, TVec>
        {
            Call = call,
            Scratch = scratch,
            UnitCount = checked(ForwardUnits(borders, scratch) * call.Shape.Heads),
        };
        team.Run(ref job, Math.Min(Math.Min(team.ThreadCount, scratch.ThreadCount), job.UnitCount));
    }

    private static void BackwardTiled<TLanes, TVec>(in CausalCall call, ReadOnlySpan<int> borders, CausalAttentionScratch scratch, ThreadTeam team)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        int threadCount = Math.Min(team.ThreadCount, scratch.ThreadCount);
        var dots = new DotJob<TLanes, TVec> { Call = call, Split = WorkSplit.Of((long)call.RowCount * call.Shape.Heads, call.Shape.HeadDim, team) };
        team.Run(ref dots, dots.Split.ChunkCount);
        var job = new BackwardJob<TLanes, TVec>
        {
            Call = call,
            Scratch = scratch,
            UnitCount = checked(BackwardUnits(borders, scratch, threadCount) * call.Shape.KvHeads),
        };
        team.Run(ref job, Math.Min(threadCount, job.UnitCount));
    }

    // One chunk per thread, so that the chunk index names the thread's buffers; units are taken from a counter in the job.
    private struct ForwardJob<TLanes, TVec> : IChunkedJob where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        public CausalCall Call;
        public CausalAttentionScratch Scratch;
        public int UnitCount;
        private int _taken;

        public void Run(int chunkIndex)
        {
            CausalBuffers buffers = Scratch.Buffers(chunkIndex);
            for (int unit = Interlocked.Increment(ref _taken) - 1; unit < UnitCount; unit = Interlocked.Increment(ref _taken) - 1)
                AttendTile<TLanes, TVec>(Call, Scratch.Units[unit / Call.Shape.Heads], unit % Call.Shape.Heads, buffers);
        }
    }

    private struct BackwardJob<TLanes, TVec> : IChunkedJob where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        public CausalCall Call;
        public CausalAttentionScratch Scratch;
        public int UnitCount;
        private int _taken;

        public void Run(int chunkIndex)
        {
            CausalBuffers buffers = Scratch.Buffers(chunkIndex);
            for (int unit = Interlocked.Increment(ref _taken) - 1; unit < UnitCount; unit = Interlocked.Increment(ref _taken) - 1)
                Differentiate<TLanes, TVec>(Call, Scratch.Units[unit / Call.Shape.KvHeads], unit % Call.Shape.KvHeads, buffers);
        }
    }

    private struct DotJob<TLanes, TVec> : IChunkedJob where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        public CausalCall Call;
        public WorkSplit Split;

        public readonly void Run(int chunkIndex)
        {
            int headDim = Call.Shape.HeadDim;
            for (long i = Split.First(chunkIndex); i < Split.End(chunkIndex); i++)
            {
                float* y = Call.Y + i * headDim, dy = Call.DY + i * headDim;
                TVec sum = TLanes.Zero;
                for (int d = 0; d < headDim; d += TLanes.Count)
                    sum = TLanes.MultiplyAdd(TLanes.LoadPartial(y + d, headDim - d), TLanes.LoadPartial(dy + d, headDim - d), sum);
                Call.Dots[i] = TLanes.Sum(sum);
            }
        }
    }

    // y and logSumExp of one tile of queries of one head.
    private static void AttendTile<TLanes, TVec>(in CausalCall call, in CausalUnit unit, int head, in CausalBuffers buffers)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        int headDim = call.Shape.HeadDim, kvHead = head / call.Shape.HeadsPerKvHead;
        int firstQuery = unit.FirstRow + unit.TileIndex * TileRows, queryCount = Math.Min(TileRows, unit.EndRow - firstQuery);
        float scale = 1f / MathF.Sqrt(headDim);
        float* y = call.Y + call.QueryOffset(firstQuery, head);
        Panels queries = PackTurned<TLanes, TVec>(call.Q + call.QueryOffset(firstQuery, head), call.QueryStride, queryCount, headDim, buffers.FirstTurned);
        new Span<float>(buffers.Max, TileRows).Fill(float.NegativeInfinity);
        new Span<float>(buffers.Total, TileRows).Clear();
        for (int firstKey = unit.FirstRow; firstKey <= firstQuery; firstKey += TileRows)
        {
            bool isFirst = firstKey == unit.FirstRow, isDiagonal = firstKey == firstQuery;
            int keyCount = Math.Min(TileRows, unit.EndRow - firstKey);
            var keys = new Left(call.K + call.KeyOffset(firstKey, kvHead), call.KeyStride, 1);
            Multiply<TLanes, TVec>(keys, queries, buffers.Scores, TileRows, keyCount, headDim, queryCount, accumulate: false,
                isDiagonal ? Band.RowsToColumn : Band.Full);
            Softmax<TLanes, TVec>(buffers, queryCount, keyCount, scale, isDiagonal);
            if (!isFirst)
                Rescale<TLanes, TVec>(y, call.QueryStride, queryCount, headDim, buffers.Factor);
            Panels values = PackRows<TLanes, TVec>(call.V + call.KeyOffset(firstKey, kvHead), call.KeyStride, keyCount, headDim, buffers.KeyRows);
            Multiply<TLanes, TVec>(new Left(buffers.Scores, 1, TileRows), values, y, call.QueryStride, queryCount, keyCount, headDim, accumulate: !isFirst,
                isDiagonal ? Band.StepsToRow : Band.Full);
        }

        for (int i = 0; i < queryCount; i++)
        {
            buffers.Factor[i] = 1 / buffers.Total[i];
            call.LogSumExp[call.RowOffset(firstQuery + i, head)] = buffers.Max[i] + MathF.Log(buffers.Total[i]);
        }

        Rescale<TLanes, TVec>(y, call.QueryStride, queryCount, headDim, buffers.Factor);
    }

    // Scores [key, query] become e^(score − max); max, total and the factor of what was summed under the maximum before.
    private static void Softmax<TLanes, TVec>(in CausalBuffers buffers, int queryCount, int keyCount, float scale, bool isDiagonal)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        int width = TLanes.Count;
        TVec wideScale = TLanes.Broadcast(scale);
        for (int query = 0; query < queryCount; query += width)
        {
            int end = keyCount;
            if (isDiagonal)
            {
                // Keys behind the last of these queries are not read again; among these queries the mask is a triangle.
                end = Math.Min(keyCount, query + width);
                for (int key = query + 1; key < end; key++)
                    new Span<float>(buffers.Scores + key * TileRows + query, key - query).Fill(float.NegativeInfinity);
            }

            TVec before = TLanes.Load(buffers.Max + query), max = before, total = TLanes.Zero;
            for (float* scores = buffers.Scores + query, last = scores + end * TileRows; scores < last; scores += TileRows)
                max = TLanes.Max(max, TLanes.Multiply(wideScale, TLanes.Load(scores)));
            for (float* scores = buffers.Scores + query, last = scores + end * TileRows; scores < last; scores += TileRows)
            {
                TVec weight = Activation.Exp<TLanes, TVec>(TLanes.Subtract(TLanes.Multiply(wideScale, TLanes.Load(scores)), max));
                total = TLanes.Add(total, weight);
                TLanes.Store(scores, weight);
            }

            TVec factor = Activation.Exp<TLanes, TVec>(TLanes.Subtract(before, max));
            TLanes.Store(buffers.Max + query, max);
            TLanes.Store(buffers.Factor + query, factor);
            TLanes.Store(buffers.Total + query, TLanes.MultiplyAdd(factor, TLanes.Load(buffers.Total + query), total));
        }
    }

    private static void Rescale<TLanes, TVec>(float* rows, nint rowStride, int rowCount, int columnCount, float* factors)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        for (int row = 0; row < rowCount; row++, rows += rowStride)
        {
            if (factors[row] == 1)
                continue;
            TVec factor = TLanes.Broadcast(factors[row]);
            for (int column = 0; column < columnCount; column += TLanes.Count)
                TLanes.StorePartial(rows + column, TLanes.Multiply(factor, TLanes.LoadPartial(rows + column, columnCount - column)), columnCount - column);
        }
    }

    // The gradients of a unit. Keys outside, so that their panels serve all queries and heads; whatever the part, a tile of dq
    // gets its keys in ascending order, a tile of dk and dv its heads and in each its queries in ascending order.
    private static void Differentiate<TLanes, TVec>(in CausalCall call, in CausalUnit unit, int kvHead, in CausalBuffers buffers)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        int headDim = call.Shape.HeadDim, group = call.Shape.HeadsPerKvHead;
        int tileCount = TileCount(unit.EndRow - unit.FirstRow);
        int firstTile = unit.Part == CausalPart.Keys ? unit.TileIndex : 0;
        int endTile = unit.Part == CausalPart.All ? tileCount : unit.TileIndex + 1;
        for (int keyTile = firstTile; keyTile < endTile; keyTile++)
        {
            int firstKey = unit.FirstRow + keyTile * TileRows, keyCount = Math.Min(TileRows, unit.EndRow - firstKey);
            float* k = call.K + call.KeyOffset(firstKey, kvHead), v = call.V + call.KeyOffset(firstKey, kvHead);
            var keys = new KeyTile
            {
                FirstRow = firstKey,
                RowCount = keyCount,
                TurnedKeys = PackTurned<TLanes, TVec>(k, call.KeyStride, keyCount, headDim, buffers.FirstTurned),
                TurnedValues = PackTurned<TLanes, TVec>(v, call.KeyStride, keyCount, headDim, buffers.SecondTurned),
            };
            if (unit.Part != CausalPart.Keys)
                keys.Keys = PackRows<TLanes, TVec>(k, call.KeyStride, keyCount, headDim, buffers.KeyRows);
            int firstQueryTile = unit.Part == CausalPart.Queries ? unit.TileIndex : keyTile;
            int endQueryTile = unit.Part == CausalPart.Queries ? unit.TileIndex + 1 : tileCount;
            for (int head = kvHead * group; head < (kvHead + 1) * group; head++)
            {
                for (int queryTile = firstQueryTile; queryTile < endQueryTile; queryTile++)
                    DifferentiatePair<TLanes, TVec>(call, unit, keys, head, unit.FirstRow + queryTile * TileRows, buffers);
            }
        }
    }

    private static void DifferentiatePair<TLanes, TVec>(in CausalCall call, in CausalUnit unit, in KeyTile keys, int head, int firstQuery, in CausalBuffers buffers)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        int headDim = call.Shape.HeadDim, kvHead = head / call.Shape.HeadsPerKvHead;
        int queryCount = Math.Min(TileRows, unit.EndRow - firstQuery), keyCount = keys.RowCount;
        int queryStride = call.QueryStride, keyStride = call.KeyStride;
        bool isDiagonal = firstQuery == keys.FirstRow;
        long offset = call.QueryOffset(firstQuery, head);
        float* q = call.Q + offset, dy = call.DY + offset;

        Band band = isDiagonal ? Band.RowsFromColumn : Band.Full;
        Multiply<TLanes, TVec>(new Left(q, queryStride, 1), keys.TurnedKeys, buffers.Scores, TileRows, queryCount, headDim, keyCount, accumulate: false, band);
        Multiply<TLanes, TVec>(new Left(dy, queryStride, 1), keys.TurnedValues, buffers.Slopes, TileRows, queryCount, headDim, keyCount, accumulate: false, band);
        WeightsAndSlopes<TLanes, TVec>(call, head, firstQuery, queryCount, keyCount, isDiagonal, buffers);

        if (unit.Part != CausalPart.Keys)
        {
            Multiply<TLanes, TVec>(new Left(buffers.Slopes, TileRows, 1), keys.Keys, call.DQ + offset, queryStride, queryCount, keyCount, headDim,
                accumulate: keys.FirstRow != unit.FirstRow, isDiagonal ? Band.StepsToRow : Band.Full);
        }

        if (unit.Part != CausalPart.Queries)
        {
            // The diagonal of the first head is the first that a tile of dk and dv gets.
            bool accumulate = !isDiagonal || head % call.Shape.HeadsPerKvHead != 0;
            band = isDiagonal ? Band.StepsFromRow : Band.Full;
            Panels gradients = PackRows<TLanes, TVec>(dy, queryStride, queryCount, headDim, buffers.GradientRows);
            Multiply<TLanes, TVec>(new Left(buffers.Scores, 1, TileRows), gradients, call.DV + call.KeyOffset(keys.FirstRow, kvHead), keyStride, keyCount,
                queryCount, headDim, accumulate, band);
            Panels queries = PackRows<TLanes, TVec>(q, queryStride, queryCount, headDim, buffers.QueryRows);
            Multiply<TLanes, TVec>(new Left(buffers.Slopes, 1, TileRows), queries, call.DK + call.KeyOffset(keys.FirstRow, kvHead), keyStride, keyCount,
                queryCount, headDim, accumulate, band);
        }
    }

    // Scores q·k [query, key] become P, slopes dy·v become dS; both exactly 0 where masked.
    private static void WeightsAndSlopes<TLanes, TVec>(in CausalCall call, int head, int firstQuery, int queryCount, int keyCount, bool isDiagonal,
        in CausalBuffers buffers) where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        TVec scale = TLanes.Broadcast(1f / MathF.Sqrt(call.Shape.HeadDim));
        for (int query = 0; query < queryCount; query++)
        {
            long row = call.RowOffset(firstQuery + query, head);
            TVec logSumExp = TLanes.Broadcast(call.LogSumExp[row]), dot = TLanes.Broadcast((float)call.Dots[row]);
            float* scores = buffers.Scores + query * TileRows, slopes = buffers.Slopes + query * TileRows;
            int end = isDiagonal ? query + 1 : keyCount;
            for (int key = 0; key < end; key += TLanes.Count)
            {
                TVec weight = Activation.Exp<TLanes, TVec>(TLanes.Subtract(TLanes.Multiply(scale, TLanes.Load(scores + key)), logSumExp));
                TVec slope = TLanes.Multiply(TLanes.Multiply(scale, weight), TLanes.Subtract(TLanes.Load(slopes + key), dot));
                TLanes.Store(scores + key, weight);
                TLanes.Store(slopes + key, slope);
            }

            if (isDiagonal)
            {
                new Span<float>(scores + end, TileRows - end).Clear();
                new Span<float>(slopes + end, TileRows - end).Clear();
            }
        }
    }

    // A tile of keys and values, ready as right matrices.
    private struct KeyTile
    {
        public int FirstRow, RowCount;
        public Panels TurnedKeys, TurnedValues, Keys;
    }
}
