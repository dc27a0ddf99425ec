using System.Runtime.InteropServices;

namespace Qian.Inference.Constraint;

// Sets of nondeterministic states become states of a table, rule by rule; reading a rule counts as a symbol of its own. Bytes that no edge tells
// apart share a column. The number of sets is exponential for hostile patterns, so states, table and work are bounded.
internal sealed class Determinizer
{
    private readonly Nfa _nfa;
    private readonly WorkBudget _budget;
    private readonly byte[] _classOf = new byte[256];
    private readonly List<int[]> _sets = [];
    private readonly List<int> _next = [];
    private readonly List<bool> _accepts = [];
    private readonly List<(int State, int Rule, int Return)> _calls = [];
    private readonly Dictionary<int[], int> _known = new(SetComparer.Instance);
    private readonly Dictionary<int, int> _ofOne = [];
    private readonly int[] _seenAt;
    private readonly List<int>[] _targets;
    private readonly List<int> _closure = [];
    private int _classCount;
    private int _round;
    private int _end;

    private Determinizer(Nfa nfa, WorkBudget budget)
    {
        _nfa = nfa;
        _budget = budget;
        _seenAt = new int[nfa.StateCount];
        FindClasses();
        _targets = new List<int>[_classCount];
        for (int i = 0; i < _classCount; i++)
            _targets[i] = [];
    }

    public static StateTable Run(NfaRules rules, WorkBudget budget)
    {
        var run = new Determinizer(rules.Nfa, budget);
        int[] starts = new int[rules.Bounds.Length];
        for (int rule = 0; rule < starts.Length; rule++)
            starts[rule] = run.AddRule(rules.Bounds[rule]);
        return new StateTable(run._classOf, run._classCount, [.. run._next], [.. run._accepts], [.. run._calls], starts, rules.Names);
    }

    private void FindClasses()
    {
        var startsHere = new bool[257];
        for (int state = 0; state < _nfa.StateCount; state++)
        {
            for (int at = _nfa.FirstEdge(state); at >= 0; at = _nfa.Edge(at).Next)
            {
                NfaEdge edge = _nfa.Edge(at);
                if (edge.Kind != NfaEdgeKind.Bytes)
                    continue;
                startsHere[edge.Low] = true;
                startsHere[edge.High + 1] = true;
            }
        }

        int current = 0;
        for (int value = 0; value < 256; value++)
        {
            if (value > 0 && startsHere[value])
                current++;
            _classOf[value] = (byte)current;
        }

        _classCount = current + 1;
    }

    private int AddRule((int Start, int End) bounds)
    {
        // Sets of different rules never mix: their states are apart.
        _known.Clear();
        _ofOne.Clear();
        _end = bounds.End;
        int first = StateOf([bounds.Start]);
        for (int state = first; state < _sets.Count; state++)
            Expand(state);
        for (int state = first; state < _sets.Count; state++)
            _sets[state] = [];
        return first;
    }

    private void Expand(int state)
    {
        List<(int Rule, int To)>? calls = null;
        foreach (int member in _sets[state])
        {
            for (int at = _nfa.FirstEdge(member); at >= 0; at = _nfa.Edge(at).Next)
            {
                NfaEdge edge = _nfa.Edge(at);
                if (edge.Kind == NfaEdgeKind.Call)
                    (calls ??= []).Add((edge.Low, edge.To));
                if (edge.Kind != NfaEdgeKind.Bytes)
                    continue;
                int last = _classOf[edge.High];
                for (int c = _classOf[edge.Low]; c <= last; c++)
                    _targets[c].Add(edge.To);
                _budget.Spend(last - _classOf[edge.Low] + 1);
            }
        }

        for (int c = 0; c < _classCount; c++)
        {
            if (_targets[c].Count == 0)
                continue;
            int to = StateOf(CollectionsMarshal.AsSpan(_targets[c]));
            _next[(state * _classCount) + c] = to;
            _targets[c].Clear();
        }

        if (calls is null)
            return;
        foreach (IGrouping<int, (int Rule, int To)> group in calls.GroupBy(call => call.Rule))
            _calls.Add((state, group.Key, StateOf([.. group.Select(call => call.To)])));
    }

    private int StateOf(ReadOnlySpan<int> members)
    {
        if (members.Length == 1 && _ofOne.TryGetValue(members[0], out int known))
            return known;
        int state = StateOfSet(Close(members));
        if (members.Length == 1)
            _ofOne.Add(members[0], state);
        return state;
    }

    private int StateOfSet(int[] set)
    {
        if (_known.TryGetValue(set, out int state))
            return state;
        state = _sets.Count;
        if (state >= ConstraintLimits.MaxStates || (long)(state + 1) * _classCount > ConstraintLimits.MaxTableEntries)
            ConstraintLimits.ThrowTooLarge();
        _sets.Add(set);
        _known.Add(set, state);
        _accepts.Add(Array.BinarySearch(set, _end) >= 0);
        for (int c = 0; c < _classCount; c++)
            _next.Add(-1);
        return state;
    }

    // All states reached without reading, sorted. Those that only pass on are left out, so that equal sets look equal.
    private int[] Close(ReadOnlySpan<int> members)
    {
        _round++;
        _closure.Clear();
        foreach (int member in members)
            Visit(member);
        int kept = 0;
        for (int i = 0; i < _closure.Count; i++)
        {
            int state = _closure[i];
            bool reads = state == _end;
            for (int at = _nfa.FirstEdge(state); at >= 0; at = _nfa.Edge(at).Next)
            {
                NfaEdge edge = _nfa.Edge(at);
                if (edge.Kind == NfaEdgeKind.Empty)
                    Visit(edge.To);
                else
                    reads = true;
                _budget.Spend(1);
            }

            if (reads)
                _closure[kept++] = state;
        }

        int[] set = [.. CollectionsMarshal.AsSpan(_closure)[..kept]];
        Array.Sort(set);
        _budget.Spend(kept);
        return set;
    }

    private void Visit(int state)
    {
        if (_seenAt[state] == _round)
            return;
        _seenAt[state] = _round;
        _closure.Add(state);
    }

    private sealed class SetComparer : IEqualityComparer<int[]>
    {
        public static SetComparer Instance { get; } = new();

        public bool Equals(int[]? a, int[]? b) => a.AsSpan().SequenceEqual(b);

        public int GetHashCode(int[] set)
        {
            var hash = default(HashCode);
            hash.AddBytes(MemoryMarshal.AsBytes(set.AsSpan()));
            return hash.ToHashCode();
        }
    }
}

// Deterministic states of all rules, numbered through. Next[state * ClassCount + class] is -1 where nothing may follow.
internal sealed record StateTable(
    byte[] ClassOf, int ClassCount, int[] Next, bool[] Accepts, (int State, int Rule, int Return)[] Calls, int[] RuleStarts, string[] RuleNames)
{
    public int StateCount => Accepts.Length;
}
