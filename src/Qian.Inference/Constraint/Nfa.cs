namespace Qian.Inference.Constraint;

// Nondeterministic states of all rules of a grammar: edges that read a range of bytes, edges that read nothing, and edges that read what a rule
// matches. Grows edge by edge within bounds; edges of a state form a chain.
internal sealed class Nfa
{
    private readonly List<int> _firstEdge = [];
    private readonly List<NfaEdge> _edges = [];

    public int StateCount => _firstEdge.Count;

    public int AddState()
    {
        if (_firstEdge.Count >= ConstraintLimits.MaxNfaStates)
            ConstraintLimits.ThrowTooLarge();
        _firstEdge.Add(-1);
        return _firstEdge.Count - 1;
    }

    public void AddEmpty(int from, int to) => Add(from, new NfaEdge(NfaEdgeKind.Empty, 0, 0, to, _firstEdge[from]));

    public void AddBytes(int from, byte low, byte high, int to) => Add(from, new NfaEdge(NfaEdgeKind.Bytes, low, high, to, _firstEdge[from]));

    public void AddCall(int from, int rule, int to) => Add(from, new NfaEdge(NfaEdgeKind.Call, rule, 0, to, _firstEdge[from]));

    public int FirstEdge(int state) => _firstEdge[state];

    public NfaEdge Edge(int index) => _edges[index];

    private void Add(int from, NfaEdge edge)
    {
        if (_edges.Count >= ConstraintLimits.MaxNfaEdges)
            ConstraintLimits.ThrowTooLarge();
        _edges.Add(edge);
        _firstEdge[from] = _edges.Count - 1;
    }
}

internal enum NfaEdgeKind : byte
{
    Empty,
    Bytes,
    Call,
}

// Low and High are bytes of Bytes; Low is the rule's index of Call. Next: the state's next edge, or -1.
internal readonly record struct NfaEdge(NfaEdgeKind Kind, int Low, int High, int To, int Next);
