namespace Qian.Inference.Constraint;

// What all replies of one constraint share over one vocabulary: the automaton, what its states have in common, and masks that cost much. Safe to share
// between threads.
internal sealed class MaskPlan
{
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
}
