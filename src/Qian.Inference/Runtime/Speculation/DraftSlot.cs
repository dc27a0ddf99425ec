namespace Qian.Inference.Runtime;

// The drafts of one request: what is guessed for the next pass and where it came from, how right its guesses were so far,
// and its counters. Made once per request; a pass allocates nothing.
internal sealed class DraftSlot
{
    public const int MaxDepth = Model.Network.MaxTrialRun - 1;

    private readonly int[] _lookupTokens = new int[MaxDepth];
    private int _lookupCount;
    private int _taken;

    // `fixedDepth`: as many drafts as the request asked for, null to choose live. `capacity`: tokens that the text may come to.
    public DraftSlot(int? fixedDepth, AcceptanceRates engineRates, int capacity)
    {
        FixedDepth = fixedDepth;
        Rates = new AcceptanceRates(engineRates);
        Lookup = new PromptLookup(capacity);
    }

    public int? FixedDepth { get; }

    public AcceptanceRates Rates { get; }

    // Guesses for the next pass.
    public int[] Tokens { get; } = new int[MaxDepth];

    public int Count { get; set; }

    public DraftSource Source { get; set; }

    // Drafts that could be used at most: what is left to generate, less the token that a pass yields anyway.
    public int Limit { get; private set; }

    // The MTP head may draft for this sequence.
    public bool HasMtp { get; private set; }

    // Of the tokens that match the context's end best.
    public int MatchLength { get; private set; }

    public long DraftedCount { get; private set; }

    public long AcceptedCount { get; private set; }

    private PromptLookup Lookup { get; }

    // Before the choice of depth: looks into the context.
    public void Begin(ReadOnlySpan<int> tokens, int limit, bool hasMtp)
    {
        Limit = Math.Min(limit, MaxDepth);
        HasMtp = hasMtp;
        Clear();
        _lookupCount = Lookup.Draft(tokens, _lookupTokens, out int matchLength);
        MatchLength = matchLength;
    }

    // No drafts for the next pass.
    public void Clear()
    {
        Count = 0;
        _taken = 0;
        _lookupCount = 0;
    }

    // Drafts that a source can give.
    public int Available(DraftSource source) => source == DraftSource.Mtp
        ? Math.Min(HasMtp ? AcceptanceRates.DepthCount : 0, Limit)
        : Math.Min(_lookupCount, Limit);

    // Chance that draft `depth` (from 0) of a run is right when those before it were.
    public double Rate(DraftSource source, int depth) => Rates.Of(source, depth, MatchLength);

    public void UseLookup() => _lookupTokens.AsSpan(0, Count).CopyTo(Tokens);

    // When the pass begins that verifies the drafts.
    public void Submit() => DraftedCount += Count;

    // The next token of the text is known: true when it is the next draft.
    public bool Take(int token)
    {
        int depth = _taken++;
        bool isRight = depth < Count && Tokens[depth] == token;
        if (depth < Count)
            Rates.Observe(Source, depth, MatchLength, isRight);
        // What the context would have said costs nothing to know.
        if (depth == 0 && _lookupCount > 0 && (Count == 0 || Source != DraftSource.Lookup))
            Rates.Observe(DraftSource.Lookup, 0, MatchLength, _lookupTokens[0] == token);
        AcceptedCount += isRight ? 1 : 0;
        return isRight;
    }
}
