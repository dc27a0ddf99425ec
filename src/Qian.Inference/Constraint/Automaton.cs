namespace Qian.Inference.Constraint;

// A compiled constraint: deterministic states over bytes, with calls of rules that recur. Immutable and shared by all requests that use it.
// What cannot lead to an end is cut away here, and every state knows how much deeper rules must still nest to get to its rule's end (Need), so that
// whoever only goes where Need fits never comes to a dead end. Rules that would call themselves before reading anything are refused.
internal sealed class Automaton
{
    // Far above any depth, and far from overflow when depths are added.
    private const int Unreachable = 1 << 20;

    private readonly int[] _firstCall;   // [states + 1], into _calls
    private readonly (int Start, int Return)[] _calls;
    private readonly bool[] _reads;
    private readonly bool[] _isPlain;

    private Automaton(StateTable table, int maxDepth, bool usesMarkup)
    {
        ClassOf = table.ClassOf;
        ClassCount = table.ClassCount;
        Next = table.Next;
        Accepts = table.Accepts;
        MaxDepth = maxDepth;
        UsesMarkup = usesMarkup;
        Start = table.RuleStarts[0];
        (_firstCall, _calls) = SortCalls(table);
        Need = NeedOf();
        if (Need[Start] == Unreachable)
            throw new BadRequestException("the constraint matches no text at all: some part of it can never be completed.");
        if (Need[Start] > maxDepth)
            throw new BadRequestException($"the constraint nests at least {Need[Start]} deep; at most {maxDepth} is supported.");
        _reads = new bool[Accepts.Length];
        _isPlain = new bool[Accepts.Length];
        Trim();
        LeftRecursion.Refuse(this, table);
    }

    public byte[] ClassOf { get; }

    public int ClassCount { get; }

    // [states, classes], -1 where nothing may follow.
    public int[] Next { get; }

    public bool[] Accepts { get; }

    public int[] Need { get; }

    public int Start { get; }

    public int MaxDepth { get; }

    public bool UsesMarkup { get; }

    public int StateCount => Accepts.Length;

    // Refuses what is too large, matches nothing, or begins with itself.
    public static Automaton Compile(Grammar grammar)
    {
        var budget = new WorkBudget();
        return new Automaton(Determinizer.Run(NfaBuilder.Build(grammar.Root, budget), budget), grammar.MaxDepth, grammar.UsesMarkup);
    }

    // [class of a byte]
    public ReadOnlySpan<int> NextOf(int state) => Next.AsSpan(state * ClassCount, ClassCount);

    public ReadOnlySpan<(int Start, int Return)> CallsOf(int state) => _calls.AsSpan(_firstCall[state].._firstCall[state + 1]);

    // Some byte may follow within the rule.
    public bool Reads(int state) => _reads[state];

    // Only its own bytes matter: it neither ends its rule nor calls another.
    public bool IsPlain(int state) => _isPlain[state];

    // There is nothing left to do in its rule, so that a caller need not be returned to.
    public bool IsExit(int state) => Accepts[state] && !_reads[state] && _firstCall[state] == _firstCall[state + 1];

    private static (int[] First, (int, int)[] Calls) SortCalls(StateTable table)
    {
        var first = new int[table.StateCount + 1];
        foreach ((int state, _, _) in table.Calls)
            first[state + 1]++;
        for (int i = 1; i < first.Length; i++)
            first[i] += first[i - 1];
        var calls = new (int, int)[table.Calls.Length];
        int[] at = [.. first];
        foreach ((int state, int rule, int @return) in table.Calls)
            calls[at[state]++] = (table.RuleStarts[rule], @return);
        return (first, calls);
    }

    // Fewest levels of calls from each state to its rule's end, by relaxing predecessors until nothing changes.
    private int[] NeedOf()
    {
        int count = StateCount;
        var need = new int[count];
        var predecessors = new List<int>[count];
        for (int state = 0; state < count; state++)
        {
            need[state] = Unreachable;
            int previous = -1;
            foreach (int next in Next.AsSpan(state * ClassCount, ClassCount))
            {
                if (next >= 0 && next != previous)
                    (predecessors[next] ??= []).Add(state);
                previous = next;
            }

            foreach ((int start, int @return) in CallsOf(state))
            {
                (predecessors[start] ??= []).Add(state);
                (predecessors[@return] ??= []).Add(state);
            }
        }

        var queue = new Queue<int>();
        for (int state = 0; state < count; state++)
        {
            if (!Accepts[state])
                continue;
            need[state] = 0;
            queue.Enqueue(state);
        }

        while (queue.TryDequeue(out int changed))
        {
            foreach (int state in predecessors[changed] ?? [])
            {
                int best = need[state];
                foreach (int next in Next.AsSpan(state * ClassCount, ClassCount))
                    best = next >= 0 ? Math.Min(best, need[next]) : best;
                foreach ((int start, int @return) in CallsOf(state))
                {
                    if (need[start] != Unreachable)
                        best = Math.Min(best, Math.Max(need[start] + 1, need[@return]));
                }

                if (best >= need[state])
                    continue;
                need[state] = best;
                queue.Enqueue(state);
            }
        }

        return need;
    }

    private void Trim()
    {
        for (int i = 0; i < Next.Length; i++)
        {
            if (Next[i] >= 0 && Need[Next[i]] == Unreachable)
                Next[i] = -1;
        }

        for (int state = 0; state < StateCount; state++)
        {
            _reads[state] = Next.AsSpan(state * ClassCount, ClassCount).ContainsAnyExcept(-1);
            _isPlain[state] = !Accepts[state] && _firstCall[state] == _firstCall[state + 1];
        }
    }
}
