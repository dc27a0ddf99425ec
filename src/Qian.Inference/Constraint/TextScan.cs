using System.Text;

namespace Qian.Inference.Constraint;

// Free text in which some markers mean something: states that follow all markers at once (Aho and Corasick's automaton) beside a mode, such as
// "inside inline code". When a marker is complete the longest one decides where to go: to other modes, and out of the text (End).
internal static class TextScan
{
    public const int End = -1;

    // `on(mode, marker)`: the modes to be in afterwards, several where the text is ambiguous; none forbids the marker here.
    // The text begins as after `before`, in mode 0. `mayStop`: it may also just end, anywhere.
    public static Term.Graph Build(string[] markers, int modeCount, Func<int, int, int[]> on, bool mayStop, string before = "")
    {
        (int[][] next, int[] matches) = Follow(markers);
        int start = 0;
        foreach (byte value in Encoding.UTF8.GetBytes(before))
            start = next[start][value];
        int nodeCount = next.Length;
        var edges = new List<Term.Edge>();
        // State 0 is where the text begins.
        int StateOf(int node, int mode)
        {
            int state = (mode * nodeCount) + node;
            return state == start ? 0 : state == 0 ? start : state;
        }

        for (int mode = 0; mode < modeCount; mode++)
        {
            for (int node = 0; node < nodeCount; node++)
            {
                for (int low = 0; low < 256;)
                {
                    int to = next[node][low], high = low;
                    while (high < 255 && next[node][high + 1] == to)
                        high++;
                    foreach (int target in matches[to] < 0 ? [mode] : on(mode, matches[to]))
                        edges.Add(new Term.Edge(StateOf(node, mode), (byte)low, (byte)high, target == End ? End : StateOf(to, target)));
                    low = high + 1;
                }
            }
        }

        return new Term.Graph(nodeCount * modeCount, edges, mayStop ? [.. Enumerable.Range(0, nodeCount * modeCount)] : []);
    }

    // Next[node][byte], and per node the longest marker that ends there, or -1.
    private static (int[][] Next, int[] Matches) Follow(string[] markers)
    {
        var next = new List<int[]> { NewNode() };
        var matches = new List<int> { -1 };
        for (int marker = 0; marker < markers.Length; marker++)
        {
            int node = 0;
            foreach (byte value in Encoding.UTF8.GetBytes(markers[marker]))
            {
                if (next[node][value] < 0)
                {
                    next[node][value] = next.Count;
                    next.Add(NewNode());
                    matches.Add(-1);
                }

                node = next[node][value];
            }

            matches[node] = marker;
        }

        var fallback = new int[next.Count];
        var queue = new Queue<int>();
        for (int value = 0; value < 256; value++)
        {
            if (next[0][value] < 0)
                next[0][value] = 0;
            else
                queue.Enqueue(next[0][value]);
        }

        while (queue.TryDequeue(out int node))
        {
            if (matches[node] < 0)
                matches[node] = matches[fallback[node]];
            for (int value = 0; value < 256; value++)
            {
                int child = next[node][value];
                if (child < 0)
                {
                    next[node][value] = next[fallback[node]][value];
                }
                else
                {
                    fallback[child] = next[fallback[node]][value];
                    queue.Enqueue(child);
                }
            }
        }

        return ([.. next], [.. matches]);
    }

    private static int[] NewNode()
    {
        var node = new int[256];
        Array.Fill(node, -1);
        return node;
    }
}
