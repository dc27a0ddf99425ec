using Qian.Inference.Runtime;

namespace Qian.Inference.Tests.Runtime.Prefixes;

public sealed class PrefixTreeTests
{
    // Against a plain list of texts, for random insertions and removals of texts that share much.
    [Fact]
    public void FindsTheLongestKnownBeginning()
    {
        var random = new Random(5);
        var tree = new PrefixTree<string>();
        var known = new Dictionary<string, PrefixNode<string>>();
        for (int round = 0; round < 3000; round++)
        {
            int[] text = [.. Enumerable.Range(0, random.Next(1, 12)).Select(_ => random.Next(3))];
            string name = string.Join(',', text);
            if (random.Next(3) == 0 && known.Count > 0)
            {
                (string gone, PrefixNode<string> node) = known.ElementAt(random.Next(known.Count));
                Assert.Equal(gone, node.Entry);
                Assert.Equal(gone, string.Join(',', node.Tokens()));
                node.Entry = null;
                PrefixTree<string>.Prune(node);
                known.Remove(gone);
            }
            else
            {
                PrefixNode<string> node = tree.Ensure(text);
                Assert.Equal(text.Length, node.End);
                node.Entry = name;
                known[name] = node;
            }

            int[] asked = [.. Enumerable.Range(0, random.Next(1, 14)).Select(_ => random.Next(3))];
            (int matched, PrefixNode<string> last) = tree.Walk(asked);
            Assert.InRange(matched, last.Parent?.End ?? 0, last.End);
            string? deepest = null;
            for (PrefixNode<string>? node = last; node is not null && deepest is null; node = node.Parent)
                deepest = node.End <= matched ? node.Entry : null;
            string? expected = known.Keys.Where(key => (string.Join(',', asked) + ",").StartsWith(key + ",", StringComparison.Ordinal)).MaxBy(key => key.Length);
            Assert.Equal(expected, deepest);
        }

        Assert.NotEmpty(known);
        foreach (PrefixNode<string> node in known.Values)
        {
            node.Entry = null;
            PrefixTree<string>.Prune(node);
        }

        // What is pruned where nothing hangs on it: only forks that lost a side may be left, and they hold nothing.
        Assert.Empty(tree.Root.Children);
    }
}
