using System.Runtime.InteropServices;

namespace Qian.Inference.Constraint;

// States that no token tells apart: what may follow is the same for as many bytes as a token has. x{1,500} has 500 states, and all but the last few
// have one mask. Moore's refinement, one round for each byte: first all alike, then split where bytes lead to different classes. After the first
// round only states whose successors changed class are looked at, so that counting down from the end costs a few states a round.
// Finer than needed is never wrong: states that call rules are each on their own, and where it would take too long all are.
internal sealed class StateClasses
{
    private const long MaxWork = 30_000_000;

    private readonly Automaton _automaton;
    private readonly int[] _classes;
    private readonly int[] _sizes;   // [class]
    private readonly int[] _firstPredecessor;
    private readonly int[] _predecessors;
    private int _count;

    private StateClasses(Automaton automaton)
    {
        _automaton = automaton;
        int count = automaton.StateCount;
        _classes = new int[count];
        _sizes = new int[count];
        (_firstPredecessor, _predecessors) = PredecessorsOf(automaton);
        var known = new Dictionary<int, int>();
        for (int state = 0; state < count; state++)
        {
            int key = (2 * automaton.Need[state]) + (automaton.Accepts[state] ? 1 : 0);
            if (!automaton.CallsOf(state).IsEmpty)
                _classes[state] = _count++;
            else if (known.TryGetValue(key, out int kind))
                _classes[state] = kind;
            else
                known.Add(key, _classes[state] = _count++);
            _sizes[_classes[state]]++;
        }
    }

    // [state] -> class, for tokens of up to `depth` bytes.
    public static int[] Of(Automaton automaton, int depth)
    {
        var refinement = new StateClasses(automaton);
        int[] dirty = [.. Enumerable.Range(0, automaton.StateCount)];
        long work = 0;
        for (int round = 0; round < depth && dirty.Length > 0; round++)
        {
            work += (long)dirty.Length * automaton.ClassCount;
            if (work > MaxWork)
                return [.. Enumerable.Range(0, automaton.StateCount)];
            dirty = refinement.Split(dirty);
        }

        return refinement._classes;
    }

    // Every state that a byte leads to another from, in the order of those others; a state may be listed more than once.
    private static (int[] First, int[] Predecessors) PredecessorsOf(Automaton automaton)
    {
        int[] first = new int[automaton.StateCount + 1];
        for (int state = 0; state < automaton.StateCount; state++)
        {
            int previous = -1;
            foreach (int next in automaton.NextOf(state))
            {
                if (next >= 0 && next != previous)
                    first[next + 1]++;
                previous = next;
            }
        }

        for (int i = 1; i < first.Length; i++)
            first[i] += first[i - 1];
        int[] predecessors = new int[first[^1]];
        int[] at = [.. first];
        for (int state = 0; state < automaton.StateCount; state++)
        {
            int previous = -1;
            foreach (int next in automaton.NextOf(state))
            {
                if (next >= 0 && next != previous)
                    predecessors[at[next]++] = state;
                previous = next;
            }
        }

        return (first, predecessors);
    }

    // One round. `dirty`: the states that may have come to differ from the rest of their class. Gives those of the next round.
    private int[] Split(int[] dirty)
    {
        ulong[] hashes = new ulong[dirty.Length];
        for (int i = 0; i < dirty.Length; i++)
            hashes[i] = HashOf(dirty[i]);
        Array.Sort(hashes, dirty);

        // Groups of states that look alike, all by the classes before this round.
        var starts = new List<int>();
        for (int i = 0; i < dirty.Length; i++)
        {
            if (i == 0 || hashes[i] != hashes[i - 1] || !LookAlike(dirty[starts[^1]], dirty[i]))
                starts.Add(i);
        }

        // Whoever stayed out keeps the number of the class; when nobody did, the largest group does.
        var dirtyOf = new Dictionary<int, (int Count, int Largest)>();
        for (int group = 0; group < starts.Count; group++)
        {
            int size = SizeOf(group);
            ref (int Count, int Largest) known = ref CollectionsMarshal.GetValueRefOrAddDefault(dirtyOf, _classes[dirty[starts[group]]], out bool exists);
            known = (known.Count + size, !exists || size > SizeOf(known.Largest) ? group : known.Largest);
        }

        var keeps = new bool[starts.Count];
        foreach ((int kind, (int count, int largest)) in dirtyOf)
            keeps[largest] = count == _sizes[kind];
        var changed = new List<int>();
        for (int group = 0; group < starts.Count; group++)
        {
            if (keeps[group])
                continue;
            int kind = _count++;
            foreach (int state in dirty.AsSpan(starts[group], SizeOf(group)))
            {
                _sizes[_classes[state]]--;
                _classes[state] = kind;
                changed.Add(state);
            }

            _sizes[kind] = SizeOf(group);
        }

        return BeforeAny(changed);

        int SizeOf(int group) => (group + 1 < starts.Count ? starts[group + 1] : dirty.Length) - starts[group];
    }

    private int[] BeforeAny(List<int> states)
    {
        var before = new List<int>();
        foreach (int state in states)
            before.AddRange(_predecessors.AsSpan(_firstPredecessor[state].._firstPredecessor[state + 1]));
        before.Sort();
        int kept = 0;
        for (int i = 0; i < before.Count; i++)
        {
            if (i == 0 || before[i] != before[i - 1])
                before[kept++] = before[i];
        }

        return [.. CollectionsMarshal.AsSpan(before)[..kept]];
    }

    private ulong HashOf(int state)
    {
        ulong hash = (ulong)_classes[state] + 1;
        foreach (int next in _automaton.NextOf(state))
        {
            hash = (hash ^ (uint)(next < 0 ? -1 : _classes[next])) * 0x9E3779B97F4A7C15;
            hash ^= hash >> 29;
        }

        return hash;
    }

    private bool LookAlike(int a, int b)
    {
        if (_classes[a] != _classes[b])
            return false;
        ReadOnlySpan<int> nextOfA = _automaton.NextOf(a), nextOfB = _automaton.NextOf(b);
        for (int c = 0; c < nextOfA.Length; c++)
        {
            int nextA = nextOfA[c], nextB = nextOfB[c];
            if (nextA != nextB && (nextA < 0 || nextB < 0 || _classes[nextA] != _classes[nextB]))
                return false;
        }

        return true;
    }
}
