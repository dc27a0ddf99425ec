namespace Qian.Inference.Runtime;

// A radix tree over token ids: which texts are known, and where on their way something was kept. An edge is a run of tokens; a
// node ends it and may hold an entry, which stands for all tokens from the root. It knows tokens and places, not what is kept.
internal sealed class PrefixTree<T> where T : class
{
    public PrefixNode<T> Root { get; } = new(null, ReadOnlyMemory<int>.Empty);

    public bool IsEmpty => Root is { Entry: null, Children.Count: 0 };

    // How far `tokens` can be followed, and the node that the way ends in or before (its edge may be matched in part).
    public (int MatchedCount, PrefixNode<T> Last) Walk(ReadOnlySpan<int> tokens)
    {
        PrefixNode<T> node = Root;
        int matched = 0;
        while (matched < tokens.Length && node.Children.TryGetValue(tokens[matched], out PrefixNode<T>? child))
        {
            int common = child.Edge.Span.CommonPrefixLength(tokens[matched..]);
            matched += common;
            node = child;
            if (common < child.Edge.Length)
                break;
        }

        return (matched, node);
    }

    // The node that stands for exactly these tokens, made where there is none.
    public PrefixNode<T> Ensure(ReadOnlySpan<int> tokens)
    {
        (int matched, PrefixNode<T> node) = Walk(tokens);
        if (matched < node.End)
            node = Split(node, matched - node.Parent!.End);
        return matched == tokens.Length ? node : AddChild(node, tokens[matched..].ToArray());
    }

    // Takes out what leads nowhere any more, from this node upwards.
    public static void Prune(PrefixNode<T> node)
    {
        while (node is { Entry: null, Children.Count: 0, Parent: { } parent })
        {
            parent.Children.Remove(node.Edge.Span[0]);
            node = parent;
        }
    }

    private static PrefixNode<T> AddChild(PrefixNode<T> parent, ReadOnlyMemory<int> edge)
    {
        var child = new PrefixNode<T>(parent, edge);
        parent.Children.Add(edge.Span[0], child);
        return child;
    }

    // A node in the middle of this one's edge, after `length` of its tokens.
    private static PrefixNode<T> Split(PrefixNode<T> node, int length)
    {
        PrefixNode<T> parent = node.Parent!;
        parent.Children.Remove(node.Edge.Span[0]);
        PrefixNode<T> middle = AddChild(parent, node.Edge[..length]);
        node.MoveUnder(middle, node.Edge[length..]);
        return middle;
    }
}

internal sealed class PrefixNode<T>(PrefixNode<T>? parent, ReadOnlyMemory<int> edge) where T : class
{
    public PrefixNode<T>? Parent { get; private set; } = parent;

    public ReadOnlyMemory<int> Edge { get; private set; } = edge;

    public Dictionary<int, PrefixNode<T>> Children { get; } = [];

    // Tokens from the root to here.
    public int End { get; } = (parent?.End ?? 0) + edge.Length;

    public T? Entry { get; set; }

    public void MoveUnder(PrefixNode<T> other, ReadOnlyMemory<int> rest)
    {
        Parent = other;
        Edge = rest;
        other.Children.Add(rest.Span[0], this);
    }

    // The tokens from the root to here.
    public int[] Tokens()
    {
        var tokens = new int[End];
        for (PrefixNode<T> node = this; node.Parent is { } above; node = above)
            node.Edge.Span.CopyTo(tokens.AsSpan(above.End));
        return tokens;
    }
}
