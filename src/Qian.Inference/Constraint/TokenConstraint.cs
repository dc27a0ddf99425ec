namespace Qian.Inference.Constraint;

// One reply's place in its constraint: which tokens may come next, and on to the next place. Places come again and again, so their masks are kept.
// Tokens that end a turn are allowed where the text is whole, and nowhere else. Not for sharing; in steady state nothing is allocated.
internal sealed class TokenConstraint
{
    private readonly MaskPlan _plan;
    private readonly TokenTrie _trie;
    private readonly int[] _endIds;
    private readonly ConstraintWalk _walk;
    private readonly MaskMaker _maker;
    private readonly MaskStore _masks;
    private Place[] _places = [];
    private int _placeCount;
    private Place[] _kept = [];
    private Place[] _key = [];
    private ulong[]? _mask;
    private bool _isWhole;
    private bool _isEnded;

    // `endIds`: tokens that may stand after the whole text; they are no part of it.
    public TokenConstraint(MaskPlan plan, IEnumerable<int> endIds)
    {
        _plan = plan;
        _trie = plan.Trie;
        _endIds = [.. endIds.Where(id => id >= 0 && id < _trie.VocabularySize)];
        _walk = new ConstraintWalk(plan.Automaton, _trie.Depth);
        _maker = new MaskMaker(plan, _walk);
        _masks = new MaskStore(_trie.WordCount);
        _isWhole = _walk.Begin();
        Take(0);
    }

    // The text may end here.
    public bool IsWhole => _isWhole;

    // The text must end here.
    public bool IsComplete => _isEnded || (_isWhole && _placeCount == 0);

    // Bit (id mod 64) of word (id div 64) for every token that may come next. Valid until the next call of any member.
    public ReadOnlySpan<ulong> Allowed
    {
        get
        {
            if (_mask is null && !_masks.TryFind(Key(), _isWhole, out _mask))
            {
                _maker.Make(_places.AsSpan(0, _placeCount), _mask);
                foreach (int id in _isWhole ? _endIds : [])
                    TokenMask.Set(_mask, id);
            }

            return _mask;
        }
    }

    // Takes in the token that came.
    public void Accept(int token)
    {
        if (_isEnded)
            return;
        if (_isWhole && Array.IndexOf(_endIds, token) >= 0)
        {
            _isEnded = true;
            return;
        }

        if (!TryRead(token))
            throw new BadRequestException($"the constraint is too ambiguous to be followed: token {token} was thought to fit and does not. Write it with fewer alternatives that begin alike.");
    }

    // How many of these tokens could come, one after the other; the place stays where it is.
    public int CountAllowed(ReadOnlySpan<int> tokens)
    {
        if (_isEnded)
            return tokens.Length;
        int keptCount = _placeCount;
        bool wasWhole = _isWhole;
        ulong[]? mask = _mask;
        if (_kept.Length < keptCount)
            _kept = new Place[2 * keptCount];
        _places.AsSpan(0, keptCount).CopyTo(_kept);
        int frames = _walk.FrameCount;
        int count = 0;
        while (count < tokens.Length && IsAllowed(tokens[count]))
        {
            bool ends = _isWhole && Array.IndexOf(_endIds, tokens[count]) >= 0;
            count++;
            if (ends)
                break;
        }

        _walk.ForgetFrames(frames);
        _kept.AsSpan(0, keptCount).CopyTo(_places);
        (_placeCount, _isWhole, _mask) = (keptCount, wasWhole, mask);
        return count;
    }

    private bool IsAllowed(int token) => (_isWhole && Array.IndexOf(_endIds, token) >= 0) || (!IsForeign(token) && TryRead(token));

    private bool IsForeign(int token)
    {
        if (_plan.Automaton.UsesMarkup)
            return false;
        foreach ((int id, _) in _trie.Markup)
        {
            if (id == token)
                return true;
        }

        return false;
    }

    private bool TryRead(int token)
    {
        ReadOnlySpan<byte> bytes = _trie.Bytes[token].Span;
        if (bytes.IsEmpty)
            return false;
        _walk.Load(_places.AsSpan(0, _placeCount));
        bool isWhole = false;
        for (int i = 0; i < bytes.Length; i++)
        {
            if (!_walk.Step(i, bytes[i], out isWhole))
                return false;
        }

        _isWhole = isWhole;
        Take(bytes.Length);
        return true;
    }

    // What the mask is a function of.
    private ReadOnlySpan<Place> Key()
    {
        if (_key.Length < _placeCount)
            _key = new Place[_places.Length];
        for (int i = 0; i < _placeCount; i++)
            _key[i] = _places[i] with { State = _plan.ClassOf(_places[i].State) };
        return _key.AsSpan(0, _placeCount);
    }

    private void Take(int level)
    {
        ReadOnlySpan<Place> places = _walk.Places(level);
        if (_places.Length < places.Length)
            _places = new Place[2 * places.Length];
        places.CopyTo(_places);
        _placeCount = places.Length;
        _mask = null;
    }
}
