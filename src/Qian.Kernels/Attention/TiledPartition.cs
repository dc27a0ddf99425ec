namespace Qian.Kernels;

// One partition for one tile: all scores, then the softmax of each head row over what it sees, then the weighted sums. K and V
// are taken in pieces of up to 64 tokens of one block; a piece is decoded to float once when enough head rows share it, else
// decoded in registers. Both ways give the kernel the same floats in the same order.
internal static unsafe class TiledPartition<TTier> where TTier : struct, IAttentionTier
{
    // Head rows that the product takes at a time; a group of them is skipped where none sees the piece.
    private const int RegisterRows = 6;

    // From this many head rows on (two register tiles), decoding to memory is cheaper than decoding per register tile.
    private const int DecodeFromHeadRows = 13;

    // Leaves maximum, total and weighted sum of each head row in the slot; of head rows that see nothing here, garbage.
    public static void Compute(in AttentionTile tile, int partitionIndex, int threadIndex, int slotIndex)
    {
        AttentionScratch scratch = tile.Call.Scratch;
        int first = partitionIndex * Attention.PartitionTokens;
        int count = Math.Min(Attention.PartitionTokens, tile.KeyCount - first);
        int pieceTokens = Math.Min(AttentionScratch.PieceTokens, tile.Call.Kv.BlockTokens);
        float* scores = scratch.Scores(threadIndex);

        for (int start = 0; start < count; start += pieceTokens)
            Score(tile, first, start, Math.Min(pieceTokens, count - start), threadIndex, scores);

        int paddedCount = KvLayout.PadToLanes(count);
        for (int headRow = 0; headRow < tile.HeadRowCount; headRow++)
        {
            float* row = scores + (long)headRow * AttentionScratch.ScoreStride;
            int visible = tile.VisibleFrom(first, headRow, count);
            if (visible > 0)
                TTier.Softmax(row, visible, paddedCount, out scratch.SlotMaxima(slotIndex)[headRow], out scratch.SlotTotals(slotIndex)[headRow]);
            else
                new Span<float>(row, paddedCount).Clear();
        }

        for (int start = 0; start < count; start += pieceTokens)
            Sum(tile, first, start, Math.Min(pieceTokens, count - start), threadIndex, scores, scratch.SlotSums(slotIndex));
    }

    // Tokens first + start … + tokenCount: scores[headRow][start…], for register tiles that see any of them.
    private static void Score(in AttentionTile tile, int first, int start, int tokenCount, int threadIndex, float* scores)
    {
        AttentionScratch scratch = tile.Call.Scratch;
        KvBlock block = tile.Call.Blocks[(first + start) / tile.Call.Kv.BlockTokens];
        KvLayout layout = block.Layout;
        KvType type = block.Type;
        int firstGroup = (first + start) % layout.BlockTokens / KvLayout.Lanes;
        int groupCount = (tokenCount + KvLayout.Lanes - 1) / KvLayout.Lanes;
        byte* head = block.Keys(tile.Call.LayerIndex, tile.KvHeadIndex);
        byte* keys = head + firstGroup * layout.KeyGroupBytes, next = NextKeys(tile, first, start + tokenCount);
        long groupBytes = layout.KeyGroupBytes;

        if (MustDecode(type, tile.HeadRowCount))
        {
            float* piece = scratch.Piece(threadIndex);
            if (type == KvType.Q8_0)
                DecodeByteKeys(layout, (sbyte*)keys, next, (ushort*)(head + layout.KeyDataBytes) + (long)firstGroup * layout.ScaleGroupCount * KvLayout.Lanes, groupCount, piece);
            else
                TTier.Decode(type, keys, next, piece, groupCount * layout.HeadDim * KvLayout.Lanes);
            keys = next = (byte*)piece;
            groupBytes = (long)layout.HeadDim * KvLayout.Lanes * sizeof(float);
            type = KvType.F32;
        }

        for (int headRow = 0; headRow < tile.HeadRowCount; headRow += RegisterRows)
        {
            int rows = Math.Min(RegisterRows, tile.HeadRowCount - headRow);
            int visible = tile.VisibleFrom(first + start, headRow + rows - 1, tokenCount);
            if (visible <= 0)
                continue;
            TTier.Product(
                type,
                rows,
                scratch.Queries(threadIndex) + (long)headRow * scratch.QueryStride,
                scratch.QueryStride,
                keys,
                next,
                groupBytes,
                (visible + KvLayout.Lanes - 1) / KvLayout.Lanes,
                layout.HeadDim,
                scores + (long)headRow * AttentionScratch.ScoreStride + start,
                AttentionScratch.ScoreStride,
                fresh: true);
        }
    }

    // sums[headRow] += Σ weight * V over the tokens of the piece.
    private static void Sum(in AttentionTile tile, int first, int start, int tokenCount, int threadIndex, float* weights, float* sums)
    {
        AttentionScratch scratch = tile.Call.Scratch;
        KvBlock block = tile.Call.Blocks[(first + start) / tile.Call.Kv.BlockTokens];
        KvLayout layout = block.Layout;
        KvType type = block.Type;
        int firstInBlock = (first + start) % layout.BlockTokens;
        int groupCount = KvLayout.PadToLanes(layout.HeadDim) / KvLayout.Lanes;
        byte* head = block.Values(tile.Call.LayerIndex, tile.KvHeadIndex);
        byte* values = head + (long)firstInBlock * KvLayout.Lanes * layout.ElementBytes, next = NextValues(tile, first, start + tokenCount);
        long groupBytes = layout.ValueGroupBytes;

        if (MustDecode(type, tile.HeadRowCount))
        {
            float* piece = scratch.Piece(threadIndex);
            for (int group = 0; group < groupCount; group++)
            {
                float* destination = piece + (long)group * AttentionScratch.PieceTokens * KvLayout.Lanes;
                byte* source = values + group * groupBytes, nextSource = next + group * groupBytes;
                if (type == KvType.Q8_0)
                {
                    ushort* scales = (ushort*)(head + layout.ValueDataBytes) + (long)(group * KvLayout.Lanes / KvLayout.ScaleGroup) * layout.BlockTokens + firstInBlock;
                    TTier.DecodeByRow((sbyte*)source, nextSource, scales, destination, tokenCount);
                }
                else
                {
                    TTier.Decode(type, source, nextSource, destination, tokenCount * KvLayout.Lanes);
                }
            }

            values = next = (byte*)piece;
            groupBytes = AttentionScratch.PieceTokens * KvLayout.Lanes * sizeof(float);
            type = KvType.F32;
        }

        for (int headRow = 0; headRow < tile.HeadRowCount; headRow += RegisterRows)
        {
            int rows = Math.Min(RegisterRows, tile.HeadRowCount - headRow);
            int visible = tile.VisibleFrom(first + start, headRow + rows - 1, tokenCount);
            if (visible <= 0)
                continue;
            TTier.Product(
                type,
                rows,
                weights + (long)headRow * AttentionScratch.ScoreStride + start,
                AttentionScratch.ScoreStride,
                values,
                next,
                groupBytes,
                groupCount,
                visible,
                sums + (long)headRow * scratch.SumStride,
                scratch.SumStride,
                fresh: start == 0);
        }
    }

    // What follows the keys of a piece: the next piece's, or the first values of the partition.
    private static byte* NextKeys(in AttentionTile tile, int first, int start)
    {
        int blockTokens = tile.Call.Kv.BlockTokens, token = first + start;
        if (start == Attention.PartitionTokens || token >= tile.KeyCount)
            return tile.Call.Blocks[first / blockTokens].Values(tile.Call.LayerIndex, tile.KvHeadIndex);
        KvBlock block = tile.Call.Blocks[token / blockTokens];
        return block.Keys(tile.Call.LayerIndex, tile.KvHeadIndex) + token % blockTokens / KvLayout.Lanes * block.Layout.KeyGroupBytes;
    }

    // What follows the values of a piece: the next piece's, or the first keys of the next partition.
    private static byte* NextValues(in AttentionTile tile, int first, int start)
    {
        int blockTokens = tile.Call.Kv.BlockTokens, token = Math.Min(first + start, tile.KeyCount - 1);
        KvBlock block = tile.Call.Blocks[token / blockTokens];
        return start == Attention.PartitionTokens
            ? block.Keys(tile.Call.LayerIndex, tile.KvHeadIndex)
            : block.Values(tile.Call.LayerIndex, tile.KvHeadIndex) + (long)(token % blockTokens) * KvLayout.Lanes * block.Layout.ElementBytes;
    }

    private static bool MustDecode(KvType type, int headRowCount) =>
        type == KvType.Q8_0 || (type != KvType.F32 && headRowCount >= DecodeFromHeadRows);

    private static void DecodeByteKeys(in KvLayout layout, sbyte* keys, byte* next, ushort* scales, int groupCount, float* destination)
    {
        for (int group = 0; group < groupCount; group++)
        {
            for (int d = 0; d < layout.HeadDim; d += KvLayout.ScaleGroup)
            {
                int rows = Math.Min(KvLayout.ScaleGroup, layout.HeadDim - d);
                TTier.DecodeByLane(keys, next, scales, destination, rows);
                keys += rows * KvLayout.Lanes;
                next += rows * KvLayout.Lanes;
                destination += rows * KvLayout.Lanes;
                scales += KvLayout.Lanes;
            }
        }
    }
}
