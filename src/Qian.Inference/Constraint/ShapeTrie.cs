using System.Runtime.InteropServices;

namespace Qian.Inference.Constraint;

// Finds the shape of every token by going over the vocabulary's tries once: whole characters as CharacterShapes has them, bytes of others by their
// column. Shapes are nodes of a trie of their own, which is given up when it grows too large.
internal sealed class ShapeTrie(int[] columns, int columnCount, CharacterShapes characters, TokenTrie trie, int mostNodes)
{
    // The column of bytes that no state reads.
    public const int Dead = -1;

    // Entries of the table of children.
    private const int MostChildren = 1 << 18;

    private const int Full = -1;

    private readonly List<(int Parent, byte Label)> _nodes = [(-1, 0)];
    private readonly int[] _shapeOf = new int[trie.VocabularySize];   // [id] -> node, 0 for what can never be read
    private int[] _children = new int[columnCount];                   // [nodes, columns], 0 where there is none

    // Null where there are too many shapes.
    public TailWalk? Group()
    {
        // Letters first: where they are told apart there are soon too many.
        foreach (TrieWalk walk in (TrieWalk[])[.. trie.Slices.Select(slice => slice.Tokens), trie.Rest])
        {
            if (!Add(walk))
                return null;
        }

        var counts = new int[_nodes.Count];
        foreach (int node in _shapeOf)
            counts[node]++;
        var shapes = new List<ReadOnlyMemory<byte>>();
        var ids = new List<int[]>();
        var place = new int[_nodes.Count];
        for (int node = 1; node < counts.Length; node++)
        {
            if (counts[node] == 0)
                continue;
            place[node] = shapes.Count;
            shapes.Add(BytesOf(node));
            ids.Add(new int[counts[node]]);
        }

        for (int id = _shapeOf.Length - 1; id >= 0; id--)
        {
            int node = _shapeOf[id];
            if (node != 0)
                ids[place[node]][--counts[node]] = id;
        }

        return new TailWalk([.. shapes], [.. ids], trie.WordCount);
    }

    private bool Add(TrieWalk walk)
    {
        TrieNode[] nodes = walk.Nodes;
        // By depth: the shape of the whole characters and other bytes so far, and how many bytes of a character have come since.
        var shapes = new int[trie.Depth + 1];
        var pending = new int[trie.Depth + 1];
        byte[] text = new byte[trie.Depth];
        for (int i = 0; i < nodes.Length;)
        {
            ref readonly TrieNode node = ref nodes[i];
            int depth = node.Depth;
            text[depth] = node.Label;
            if (columns[node.Label] == Dead)
            {
                i = node.After;
                continue;
            }

            int shape = shapes[depth], count = pending[depth];
            bool isRead = true;
            if (count > 0 && !IsTrail(node.Label))
            {
                // What was begun is no character.
                shape = Follow(shape, text.AsSpan(depth - count, count));
                count = 0;
            }

            count++;
            int length = LengthOf(text[depth + 1 - count]);
            if (count == length && shape != Full)
            {
                ReadOnlySpan<byte> character = text.AsSpan(depth + 1 - count, count);
                ReadOnlySpan<byte> like = count == 1 ? character : characters.Of(character, columns);
                isRead = !like.IsEmpty;
                shape = Follow(shape, like);
                count = 0;
            }

            if (!isRead)
            {
                i = node.After;
                continue;
            }

            (shapes[depth + 1], pending[depth + 1]) = (shape, count);
            if (node.Token >= 0)
            {
                // A token may end within a character.
                shape = Follow(shape, text.AsSpan(depth + 1 - count, count));
                _shapeOf[node.Token] = shape;
            }

            if (shape == Full)
                return false;
            i++;
        }

        foreach ((int of, int id) in walk.Doubles ?? [])
            _shapeOf[id] = _shapeOf[of];
        return true;
    }

    private static bool IsTrail(byte value) => value is >= 0x80 and < 0xC0;

    // Of a character that begins so; bytes that begin none stand for themselves.
    private static int LengthOf(byte value) => value switch
    {
        < 0xC0 => 1,
        < 0xE0 => 2,
        < 0xF0 => 3,
        < 0xF8 => 4,
        _ => 1,
    };

    // The node that bytes lead to, made where there is none; Full where there is no more room.
    private int Follow(int shape, ReadOnlySpan<byte> bytes)
    {
        foreach (byte value in bytes)
        {
            if (shape == Full)
                return Full;
            ref int child = ref _children[(shape * columnCount) + columns[value]];
            if (child == 0)
            {
                if (_nodes.Count >= mostNodes || _nodes.Count * columnCount > MostChildren)
                    return Full;
                child = _nodes.Count;
                _nodes.Add((shape, value));
            }

            shape = child;
            if (_children.Length < _nodes.Count * columnCount)
                Array.Resize(ref _children, 2 * _nodes.Count * columnCount);
        }

        return shape;
    }

    private byte[] BytesOf(int node)
    {
        var bytes = new List<byte>();
        for (; node != 0; node = _nodes[node].Parent)
            bytes.Add(_nodes[node].Label);
        CollectionsMarshal.AsSpan(bytes).Reverse();
        return [.. bytes];
    }
}
