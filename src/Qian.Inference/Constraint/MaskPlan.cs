namespace Qian.Inference.Constraint;

// What all replies of one constraint share over one vocabulary: the automaton, what its states have in common, and masks that cost much. Those that
// replies are likely to come by are made here, when the constraint is compiled, so that no token waits for them. Safe to share between threads.
internal sealed class MaskPlan
{
    // Steps of walks, a few ns each, that preparing may take.
    private const long MostSteps = 6_000_000;

    // What a mask costs beside its walk, in such steps: clearing it, looking at slices and at first bytes.
    private const int StepsOfMask = 2_000;

    // What looking at a state costs in them.
    private const int StepsOfState = 100;

    private readonly int[] _classOf;

    public MaskPlan(Automaton automaton, TokenTrie trie)
        : this(automaton, trie, SharedMasks.UsualLeastSteps, TokenShapes.UsualMostNodes(trie))
    {
    }

    // `leastSteps`: see SharedMasks. `mostShapeNodes`: see TokenShapes.
    public MaskPlan(Automaton automaton, TokenTrie trie, int leastSteps, int mostShapeNodes)
    {
        Automaton = automaton;
        Masks = new SharedMasks(leastSteps);
        Trie = trie;
        Reach = new SliceReach(automaton, trie);
        Shapes = new TokenShapes(automaton, trie, Reach, mostShapeNodes);
        _classOf = StateClasses.Of(automaton, trie.LongestOf(ReadBytes(automaton)));
    }

    public Automaton Automaton { get; }

    public TokenTrie Trie { get; }

    public SliceReach Reach { get; }

    public TokenShapes Shapes { get; }

    public SharedMasks Masks { get; }

    // States of one class have one mask, wherever they return to.
    public int ClassOf(int state) => _classOf[state];

    // Makes masks of states in the order in which they are first met.
    public void Prepare()
    {
        var walk = new ConstraintWalk(Automaton, Trie.Depth);
        var maker = new MaskMaker(this, walk);
        ulong[] mask = new ulong[Trie.WordCount];
        int anyCaller = walk.AnyCaller();
        long left = MostSteps;
        var tried = new HashSet<(int, bool)>();
        foreach ((int state, bool isBottom) in InOrder())
        {
            if (left < 0 || Masks.Count == SharedMasks.Capacity)
                return;
            // Others are never a place alone.
            bool isAlone = Automaton.Reads(state) && (Automaton.IsPlain(state) || (isBottom && Automaton.CallsOf(state).IsEmpty));
            left -= StepsOfState;
            if (!isAlone || !tried.Add((ClassOf(state), isBottom)) || Reach.MostNodesFrom(state) < Masks.LeastSteps)
                continue;
            maker.Make([new Place(state, isBottom ? 0 : anyCaller)], mask);
            left -= maker.Steps + StepsOfMask;
        }
    }

    private static bool[] ReadBytes(Automaton automaton)
    {
        var classes = new bool[automaton.ClassCount];
        for (int i = 0; i < automaton.Next.Length; i++)
            classes[i % classes.Length] |= automaton.Next[i] >= 0;
        var bytes = new bool[256];
        for (int value = 0; value < bytes.Length; value++)
            bytes[value] = classes[automaton.ClassOf[value]];
        return bytes;
    }

    // States by the fewest bytes and calls from the start, and whether they are met with nobody to return to.
    private IEnumerable<(int State, bool IsBottom)> InOrder()
    {
        var seen = new HashSet<(int, bool)> { (Automaton.Start, true) };
        var queue = new Queue<(int State, bool IsBottom)>(seen);
        while (queue.TryDequeue(out (int State, bool IsBottom) place))
        {
            yield return place;
            foreach (int next in Automaton.NextOf(place.State))
            {
                if (next >= 0)
                    Meet(next, place.IsBottom);
            }

            foreach ((int start, int @return) in Automaton.CallsOf(place.State))
            {
                Meet(start, place.IsBottom && Automaton.IsExit(@return));
                Meet(@return, place.IsBottom);
            }
        }

        void Meet(int state, bool isBottom)
        {
            if (seen.Add((state, isBottom)))
                queue.Enqueue((state, isBottom));
        }
    }
}
