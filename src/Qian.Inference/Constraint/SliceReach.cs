namespace Qian.Inference.Constraint;

// How many characters of a kind may follow a state, whichever they are: the bridge between a constraint and a vocabulary's slices. Worked out when
// first asked for, by following the state over all characters of the kind at once. One per automaton and vocabulary; safe to share.
internal sealed class SliceReach
{
    // State after any one character of a kind; see After.
    public const int Nowhere = -1;
    public const int Various = -2;

    private const int MostStates = 256;

    private readonly Automaton _automaton;
    private readonly TokenTrie _trie;
    private readonly int[][][] _rangeClasses;   // [slice][range of its sequences, in order] -> classes of bytes
    private readonly Character?[][] _characters;   // [slice][state]
    private readonly byte[][] _known;              // [slice][state]: 0 unknown, else 1 + 2 * length + (exact ? 1 : 0)

    private readonly byte[] _free;                 // [state]: 0 unknown, 1 not, 2 any bytes of the widest kind may follow for ever

    public SliceReach(Automaton automaton, TokenTrie trie)
    {
        _free = new byte[automaton.StateCount];
        _automaton = automaton;
        _trie = trie;
        _known = new byte[trie.Slices.Length][];
        _characters = new Character?[trie.Slices.Length][];
        _rangeClasses = new int[trie.Slices.Length][][];
        for (int slice = 0; slice < _known.Length; slice++)
        {
            _known[slice] = new byte[automaton.StateCount];
            _characters[slice] = new Character?[automaton.StateCount];
            _rangeClasses[slice] = [.. trie.Slices[slice].Sequences.SelectMany(sequence => sequence).Select(range => ClassesOf(range.Low, range.High))];
        }
    }

    // Any text of up to `length` characters of the kind may follow. Exact: and no longer one of that kind, by any way.
    public (int Length, bool IsExact) Of(int state, int slice)
    {
        byte known = Volatile.Read(ref _known[slice][state]);
        if (known == 0)
        {
            (int length, bool isExact) = Find(state, slice);
            known = Note(state, slice, length, isExact);
        }

        return ((known - 1) / 2, (known - 1) % 2 == 1);
    }

    // The one state that any character of the kind leads to; Nowhere when none may follow, Various when it depends. `mayEnd`: the rule may end at the
    // state or before such a character does.
    public int After(int state, int slice, out bool mayEnd)
    {
        Character character = AnyOf(state, slice);
        mayEnd = _automaton.Accepts[state] || character.EndsInside;
        return character.None ? Nowhere : character.All && character.Ends.Length == 1 ? character.Ends[0] : Various;
    }

    // The rest of any token of the kind may follow. Inside a character that is known only where bytes are not told apart by whose they are.
    public bool IsFree(int state, int slice, bool isInside)
    {
        if (!isInside && Of(state, slice).Length == TokenTrie.MaxSliceLength)
            return true;
        byte known = Volatile.Read(ref _free[state]);
        return (known != 0 ? known : FindFree(state)) == 2;
    }

    private byte FindFree(int state)
    {
        var seen = new HashSet<int> { state };
        var queue = new Queue<int>(seen);
        while (queue.TryDequeue(out int at))
        {
            foreach (int[] classes in _rangeClasses[^1])
            {
                foreach (int c in classes)
                {
                    int next = _automaton.NextOf(at)[c];
                    if (next < 0 || _automaton.Need[next] > _automaton.Need[at] || seen.Count > MostStates)
                    {
                        Volatile.Write(ref _free[state], 1);
                        return 1;
                    }

                    if (seen.Add(next))
                        queue.Enqueue(next);
                }
            }
        }

        // Wherever that leads, it goes on so.
        foreach (int member in seen)
            Volatile.Write(ref _free[member], 2);
        return 2;
    }

    // No walk from the state looks at more nodes than stand under the bytes that may follow.
    public int MostNodesFrom(int state)
    {
        ReadOnlySpan<int> next = _automaton.NextOf(state);
        int nodes = 0;
        for (int value = 0; value < 256; value++)
            nodes += next[_automaton.ClassOf[value]] >= 0 ? _trie.NodesUnder(value) : 0;
        return nodes;
    }

    private byte Note(int state, int slice, int length, bool isExact)
    {
        byte known = (byte)(1 + (2 * length) + (isExact ? 1 : 0));
        Volatile.Write(ref _known[slice][state], known);
        return known;
    }

    private int[] ClassesOf(byte low, byte high)
    {
        var classes = new List<int>();
        for (int value = low; value <= high; value++)
        {
            if (classes.Count == 0 || classes[^1] != _automaton.ClassOf[value])
                classes.Add(_automaton.ClassOf[value]);
        }

        return [.. classes];
    }

    // Most states lead on to one other, which one has been at before: a count's states differ by a step.
    private (int Length, bool IsExact) Find(int state, int slice)
    {
        bool stays = true;
        for (int length = 0; length < TokenTrie.MaxSliceLength; length++)
        {
            int after = After(state, slice, out bool mayEnd);
            if (after == Various)
                return FindFrom(state, slice, length, stays);
            stays &= !mayEnd && _automaton.IsPlain(state);
            if (after == Nowhere)
                return (length, stays);
            if (after == state)
                break;
            state = after;
        }

        return (TokenTrie.MaxSliceLength, true);
    }

    // The same from where there is more than one way; `length` characters were read before.
    private (int Length, bool IsExact) FindFrom(int state, int slice, int length, bool stays)
    {
        var seen = new HashSet<int> { state };
        HashSet<int> current = [state], next = [];
        for (; length < TokenTrie.MaxSliceLength; length++)
        {
            bool all = true, none = true;
            next.Clear();
            bool grows = false;
            foreach (int member in current)
            {
                Character character = AnyOf(member, slice);
                all &= character.All;
                none &= character.None;
                stays &= _automaton.IsPlain(member) && !character.EndsInside;
                if (!all && !none)
                    return (length, false);
                foreach (int end in character.Ends)
                {
                    grows |= seen.Add(end);
                    next.Add(end);
                }
            }

            if (!all)
                return (length, none && stays);
            // Nothing new: it goes round for ever, wherever it begins.
            if (!grows)
            {
                foreach (int member in seen)
                    Note(member, slice, TokenTrie.MaxSliceLength, isExact: true);
                break;
            }

            if (seen.Count > MostStates)
                return (length + 1, false);
            (current, next) = (next, current);
        }

        return (TokenTrie.MaxSliceLength, true);
    }

    private Character AnyOf(int state, int slice)
    {
        ref Character? known = ref _characters[slice][state];
        if (Volatile.Read(ref known) is { } character)
            return character;
        var ends = new HashSet<int>();
        (bool all, bool none, bool endsInside) = Read(state, slice, ends);
        character = new Character(all, none, endsInside, [.. ends]);
        Volatile.Write(ref known, character);
        return character;
    }

    // One character of the kind from a state: whether all lead on, whether none does, and where to.
    private (bool All, bool None, bool EndsInside) Read(int state, int slice, HashSet<int> ends)
    {
        bool all = true, none = true, endsInside = false;
        int at = 0;
        Span<int> from = stackalloc int[MostStates];
        Span<int> to = stackalloc int[MostStates];
        foreach ((byte Low, byte High)[] sequence in _trie.Slices[slice].Sequences)
        {
            from[0] = state;
            int fromCount = 1;
            for (int i = 0; i < sequence.Length; i++)
            {
                int toCount = 0;
                foreach (int member in from[..fromCount])
                {
                    foreach (int c in _rangeClasses[slice][at + i])
                    {
                        int next = _automaton.Next[(member * _automaton.ClassCount) + c];
                        bool isOn = next >= 0;
                        all &= isOn;
                        none &= !isOn;
                        // Where more nesting is needed it may not fit.
                        all &= !isOn || _automaton.Need[next] <= _automaton.Need[state];
                        // Inside a character no other way may branch off, except that a rule may end.
                        bool isInside = isOn && i < sequence.Length - 1;
                        all &= !isInside || _automaton.CallsOf(next).IsEmpty;
                        endsInside |= isInside && _automaton.Accepts[next];
                        if (isOn && !to[..toCount].Contains(next))
                        {
                            if (toCount == MostStates)
                                return (false, false, false);
                            to[toCount++] = next;
                        }
                    }
                }

                to[..toCount].CopyTo(from);
                fromCount = toCount;
                if (fromCount == 0)
                    break;
            }

            at += sequence.Length;
            foreach (int end in from[..fromCount])
                ends.Add(end);
        }

        return (all, none, endsInside);
    }

    // What one character of a kind does to a state, whichever it is. EndsInside: a rule may end before the character does.
    private sealed record Character(bool All, bool None, bool EndsInside, int[] Ends);
}
