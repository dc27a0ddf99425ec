namespace Qian.Inference.Constraint;

// The vocabulary as an automaton sees it. Bytes that lead to the same from every state are one, characters likewise, so that tokens become shapes: [^,]{1,80} knows
// commas and other characters, and a quarter of a million tokens have few shapes under it. One walk over the shapes then gives a mask, whatever sets the
// constraint is made of. Where the automaton tells most letters apart nothing is won, but what is behind its words may do with few: of
// "name: [^,]{1,80}" the part that no longer tells the letters of "name" apart.
internal sealed class TokenShapes
{
    private const int MostColumns = 64;

    // Vocabularies by shapes that are kept, of about three megabytes at most.
    private const int MostKept = 2;

    private const int MostTries = 2;

    // Entries of the table to be looked at in search of parts with few shapes.
    private const long MostWork = 16_000_000;

    private readonly Automaton _automaton;
    private readonly TokenTrie _trie;
    private readonly int _mostNodes;
    private readonly TailWalk?[] _of;   // [state]

    // `mostNodes`: how many the trie of the shapes may have.
    public TokenShapes(Automaton automaton, TokenTrie trie, SliceReach reach, int mostNodes)
    {
        _automaton = automaton;
        _trie = trie;
        _mostNodes = mostNodes;
        _of = new TailWalk?[automaton.StateCount];
        int[] states = [.. Enumerable.Range(0, automaton.StateCount)];
        int[] columns = ColumnsOf(states, out int fewest);
        if (TryGroup(states, columns, fewest) is { } whole)
            Array.Fill(_of, whole);
        // A rule's states go on in their callers, so that no part of what calls rules is closed.
        else if (mostNodes > 0 && !Array.Exists(states, state => !automaton.CallsOf(state).IsEmpty))
            FindParts(reach, fewest);
    }

    // More nodes than this are not worth making and walking: slices of the vocabulary do better.
    public static int UsualMostNodes(TokenTrie trie) => Math.Min(1 << 14, trie.NodeCount / 8);

    // The shapes for masks of the state, and of any other that is reached with it; null where there are too many.
    public TailWalk? Of(int state) => _of[state];

    private TailWalk? TryGroup(int[] states, int[] columns, int count) =>
        count > MostColumns ? null : new ShapeTrie(columns, count, new CharacterShapes(_automaton, states, columns, count), _trie, _mostNodes).Group();

    // `fewest`: as many columns were too many.
    private void FindParts(SliceReach reach, int fewest)
    {
        int light = _trie.NodeCount / 16, kept = 0, tries = 0;
        long left = MostWork;
        foreach (int state in StatesFrom(_automaton.Start))
        {
            left -= 256;
            if (left < 0)
                return;
            if (_of[state] is not null || reach.MostNodesFrom(state) < light)
                continue;
            int[] part = StatesFrom(state);
            left -= 2L * part.Length * _automaton.ClassCount;
            if (left < 0)
                return;
            int[] columns = ColumnsOf(part, out int count);
            if (count >= fewest)
                continue;
            if (TryGroup(part, columns, count) is not { } shapes)
            {
                fewest = count;
                if (++tries == MostTries)
                    return;
                continue;
            }

            foreach (int member in part)
                _of[member] ??= shapes;
            if (++kept == MostKept)
                return;
        }
    }

    // The state and all that bytes lead to from it, the nearest first.
    private int[] StatesFrom(int start)
    {
        var found = new List<int> { start };
        var seen = new bool[_automaton.StateCount];
        seen[start] = true;
        for (int i = 0; i < found.Count; i++)
        {
            foreach (int next in _automaton.NextOf(found[i]))
            {
                if (next < 0 || seen[next])
                    continue;
                seen[next] = true;
                found.Add(next);
            }
        }

        return [.. found];
    }

    // [byte]: a number for all bytes that lead to the same from each of the states, ShapeTrie.Dead where none may be read in any.
    private int[] ColumnsOf(int[] states, out int count)
    {
        int classes = _automaton.ClassCount;
        var hashes = new ulong[classes];
        var isRead = new bool[classes];
        foreach (int state in states)
        {
            ReadOnlySpan<int> next = _automaton.NextOf(state);
            for (int c = 0; c < classes; c++)
            {
                hashes[c] = (hashes[c] ^ (uint)next[c]) * 0x9E3779B97F4A7C15;
                hashes[c] ^= hashes[c] >> 29;
                isRead[c] |= next[c] >= 0;
            }
        }

        // The first class of each column stands for it; classes whose hashes agree by chance alone stay apart.
        var firsts = new List<int>();
        var columnOf = new int[classes];
        for (int c = 0; c < classes; c++)
        {
            columnOf[c] = isRead[c] ? firsts.FindIndex(first => hashes[first] == hashes[c] && AreEqual(states, first, c)) : ShapeTrie.Dead;
            if (!isRead[c] || columnOf[c] >= 0)
                continue;
            columnOf[c] = firsts.Count;
            firsts.Add(c);
        }

        count = firsts.Count;
        var columns = new int[256];
        for (int value = 0; value < columns.Length; value++)
            columns[value] = columnOf[_automaton.ClassOf[value]];
        return columns;
    }

    private bool AreEqual(int[] states, int a, int b)
    {
        foreach (int state in states)
        {
            ReadOnlySpan<int> next = _automaton.NextOf(state);
            if (next[a] != next[b])
                return false;
        }

        return true;
    }
}
