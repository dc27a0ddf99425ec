namespace Qian.Inference.Text;

// Byte-pair merging of one piece: again and again the adjacent pair of lowest rank, the leftmost of equals, becomes one token.
// Short pieces, which is nearly all of them, scan an array of ranks for the least (no allocation, all in L1). Long ones use a heap of
// (rank, position) over a linked list, so a megabyte of one character class costs n log n, not n squared.
internal static class BytePairMerger
{
    // Length, in bytes, from which the heap is faster than the scan.
    public const int LongPieceBytes = 96;

    // Scratch for a short piece: ids, then ranks.
    public const int ScratchLength = 2 * LongPieceBytes;

    // Appends the tokens of the piece, which is not empty. scratch has at least ScratchLength elements.
    public static void Encode(MergeTable table, ReadOnlySpan<byte> piece, Span<int> scratch, List<int> destination)
    {
        if (piece.Length == 1)
        {
            destination.Add(table.ByteIds[piece[0]]);
        }
        else if (piece.Length < LongPieceBytes)
        {
            EncodeShort(table, piece, scratch, destination);
        }
        else
        {
            EncodeLong(table, piece, destination);
        }
    }

    private static void EncodeShort(MergeTable table, ReadOnlySpan<byte> piece, Span<int> scratch, List<int> destination)
    {
        int count = piece.Length;
        Span<int> ids = scratch[..LongPieceBytes];
        Span<int> ranks = scratch.Slice(LongPieceBytes, LongPieceBytes); // ranks[i]: of merging ids[i] with ids[i + 1]
        ReadOnlySpan<int> byteIds = table.ByteIds;
        ReadOnlySpan<int> bytePairRanks = table.BytePairRanks;
        int previous = piece[0];
        ids[0] = byteIds[previous];
        int bestRank = MergeTable.NoRank;
        int best = 0;
        for (int i = 1; i < piece.Length; i++)
        {
            int current = piece[i];
            ids[i] = byteIds[current];
            int rank = bytePairRanks[(previous << 8) | current];
            ranks[i - 1] = rank;
            if (rank < bestRank)
            {
                bestRank = rank;
                best = i - 1;
            }

            previous = current;
        }

        while (bestRank != MergeTable.NoRank)
        {
            ids[best] = table.Results[bestRank];
            count--;
            for (int i = best + 1; i < count; i++)
            {
                ids[i] = ids[i + 1];
                ranks[i - 1] = ranks[i];
            }

            if (best > 0)
            {
                ranks[best - 1] = table.RankOf(ids[best - 1], ids[best]);
            }

            if (best + 1 < count)
            {
                ranks[best] = table.RankOf(ids[best], ids[best + 1]);
            }

            bestRank = MergeTable.NoRank;
            ReadOnlySpan<int> live = ranks[..(count - 1)];
            for (int i = 0; i < live.Length; i++)
            {
                if (live[i] < bestRank)
                {
                    bestRank = live[i];
                    best = i;
                }
            }
        }

        destination.AddRange(ids[..count]);
    }

    // A token of a long piece, at the index of its first byte. Rank: of merging with the next one; -1 once merged into the one before.
    private record struct Node(int Id, int Previous, int Next, int Rank);

    private static void EncodeLong(MergeTable table, ReadOnlySpan<byte> piece, List<int> destination)
    {
        var nodeList = new PooledList<Node>(piece.Length);
        var heap = new PooledList<ulong>(piece.Length);
        Span<Node> nodes = nodeList.Extend(piece.Length);
        for (int i = 0; i < nodes.Length; i++)
        {
            int rank = MergeTable.NoRank;
            if (i + 1 < nodes.Length)
            {
                rank = table.BytePairRanks[(piece[i] << 8) | piece[i + 1]];
                PushIfMergeable(ref heap, rank, i);
            }

            nodes[i] = new Node(table.ByteIds[piece[i]], i - 1, i + 1, rank);
        }

        while (heap.Count > 0)
        {
            ulong least = Pop(ref heap);
            int index = (int)(uint)least;
            ref Node node = ref nodes[index];
            if (node.Rank != (int)(least >> 32))
            {
                continue; // an entry of a pair that has changed since
            }

            ref Node merged = ref nodes[node.Next];
            node.Id = table.Results[node.Rank];
            node.Next = merged.Next;
            merged.Rank = -1;
            node.Rank = MergeTable.NoRank;
            if (node.Next < nodes.Length)
            {
                nodes[node.Next].Previous = index;
                node.Rank = table.RankOf(node.Id, nodes[node.Next].Id);
                PushIfMergeable(ref heap, node.Rank, index);
            }

            if (node.Previous >= 0)
            {
                ref Node before = ref nodes[node.Previous];
                before.Rank = table.RankOf(before.Id, node.Id);
                PushIfMergeable(ref heap, before.Rank, node.Previous);
            }
        }

        for (int i = 0; i < nodes.Length; i = nodes[i].Next)
        {
            destination.Add(nodes[i].Id);
        }

        heap.Dispose();
        nodeList.Dispose();
    }

    // Heap entries order by rank, then by position: the leftmost of equals comes first.
    private static void PushIfMergeable(ref PooledList<ulong> heap, int rank, int index)
    {
        if (rank == MergeTable.NoRank)
        {
            return;
        }

        ulong entry = ((ulong)(uint)rank << 32) | (uint)index;
        heap.Add(entry);
        Span<ulong> items = heap.Span;
        int child = items.Length - 1;
        while (child > 0)
        {
            int parent = (child - 1) >> 1;
            if (items[parent] <= entry)
            {
                break;
            }

            items[child] = items[parent];
            child = parent;
        }

        items[child] = entry;
    }

    private static ulong Pop(ref PooledList<ulong> heap)
    {
        Span<ulong> items = heap.Span;
        ulong least = items[0];
        ulong last = items[^1];
        items = items[..^1];
        heap.Truncate(items.Length);
        int parent = 0;
        while (true)
        {
            int child = (2 * parent) + 1;
            if (child >= items.Length)
            {
                break;
            }

            if (child + 1 < items.Length && items[child + 1] < items[child])
            {
                child++;
            }

            if (items[child] >= last)
            {
                break;
            }

            items[parent] = items[child];
            parent = child;
        }

        if (!items.IsEmpty)
        {
            items[parent] = last;
        }

        return least;
    }
}
