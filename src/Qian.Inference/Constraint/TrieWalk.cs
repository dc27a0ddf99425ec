using System.Runtime.InteropServices;

namespace Qian.Inference.Constraint;

// A trie as arrays in depth-first order: a node's children follow it, After says where its subtree ends.
internal sealed class TrieWalk
{
    public TrieWalk(List<int> ids, ReadOnlyMemory<byte>[] bytes)
    {
        ids.Sort((a, b) => bytes[a].Span.SequenceCompareTo(bytes[b].Span));
        var nodes = new List<TrieNode>();
        var path = new List<int>();
        ReadOnlySpan<byte> previous = [];
        Ids = [.. ids];
        for (int index = 0; index < Ids.Length; index++)
        {
            int id = Ids[index];
            ReadOnlySpan<byte> token = bytes[id].Span;
            int shared = previous.CommonPrefixLength(token);
            Close(path, shared, nodes);
            for (int i = shared; i < token.Length; i++)
            {
                path.Add(nodes.Count);
                nodes.Add(new TrieNode { Label = token[i], Depth = (ushort)i, Token = -1, FirstId = index });
            }

            // Two tokens of the same bytes: a chain of nodes at the same place would need walking twice, so the second hangs on the first.
            ref TrieNode node = ref CollectionsMarshal.AsSpan(nodes)[path[^1]];
            if (node.Token < 0)
                node.Token = id;
            else
                (Doubles ??= []).Add((node.Token, id));
            previous = token;
        }

        Close(path, 0, nodes);
        Nodes = [.. nodes];
        var roots = new List<(int, byte)>();
        for (int i = 0; i < Nodes.Length; i = Nodes[i].After)
            roots.Add((i, Nodes[i].Label));
        Roots = [.. roots];
    }

    public TrieNode[] Nodes { get; }

    // All tokens in the order of the nodes, so that those of a subtree stand together.
    public int[] Ids { get; }

    // Nodes without a parent, and their labels.
    public (int Node, byte Label)[] Roots { get; }

    // Ids whose bytes are those of another token, which stands for both in the trie.
    public List<(int Of, int Id)>? Doubles { get; }

    // Sets the bits of all tokens at the node and below it. Gives about how many steps of a walk that costs.
    public int MarkUnder(int node, Span<ulong> mask)
    {
        int after = Nodes[node].After;
        ReadOnlySpan<int> ids = Ids.AsSpan(Nodes[node].FirstId..(after < Nodes.Length ? Nodes[after].FirstId : Ids.Length));
        foreach (int id in ids)
            TokenMask.Set(mask, id);
        return ids.Length / 4;
    }

    private static void Close(List<int> path, int depth, List<TrieNode> nodes)
    {
        while (path.Count > depth)
        {
            CollectionsMarshal.AsSpan(nodes)[path[^1]].After = nodes.Count;
            path.RemoveAt(path.Count - 1);
        }
    }
}

// Byte strings, each of which stands for all tokens that have it: as their end behind equally many characters of a kind, or as their shape.
internal sealed class TailWalk
{
    // More tokens than this are united as a whole mask.
    private const int MostListed = 4096;

    private readonly int[][] _ids;    // [token of the walk]
    private readonly ulong[]?[] _bits;

    public TailWalk(ReadOnlyMemory<byte>[] tails, int[][] ids, int wordCount)
    {
        Walk = new TrieWalk([.. Enumerable.Range(0, tails.Length)], tails);
        _ids = ids;
        _bits = new ulong[]?[ids.Length];
        for (int i = 0; i < ids.Length; i++)
        {
            if (ids[i].Length <= MostListed)
                continue;
            ulong[] bits = new ulong[wordCount];
            foreach (int id in ids[i])
                TokenMask.Set(bits, id);
            (_bits[i], _ids[i]) = (bits, []);
        }
    }

    public TrieWalk Walk { get; }

    // Gives about how many steps of a walk that costs.
    public int Mark(int tail, Span<ulong> mask)
    {
        if (_bits[tail] is { } bits)
        {
            TokenMask.Unite(mask, bits);
            return bits.Length / 4;
        }

        foreach (int id in _ids[tail])
            TokenMask.Set(mask, id);
        return _ids[tail].Length / 4;
    }
}

internal struct TrieNode
{
    public int Token;
    public int After;
    public int FirstId;   // in Ids
    public ushort Depth;
    public byte Label;
}
