namespace Qian.Inference.Constraint;

// Works out which tokens may follow places: by a walk over their shapes where these are few, else by whole slices of the vocabulary where any text of a
// kind may follow, and walks over what is left. Masks that cost much are taken from and given to the constraint's other replies. Not for sharing.
internal sealed class MaskMaker
{
    // With more places than this the slices' promise could be broken by the bound on places.
    private const int MostSlicedPlaces = 16;

    private readonly MaskPlan _plan;
    private readonly SliceReach _reach;
    private readonly TokenTrie _trie;
    private readonly ConstraintWalk _walk;
    private readonly PlaceTable _table;
    private int _steps;

    // `walk`: whose frames the places stand on; frames are left as they were.
    public MaskMaker(MaskPlan plan, ConstraintWalk walk)
    {
        _plan = plan;
        _reach = plan.Reach;
        _trie = plan.Trie;
        _walk = walk;
        _table = new PlaceTable(plan.Automaton, plan.Reach, walk, _trie.Depth);
    }

    // Tokens that end a reply are no part of it.
    public void Make(ReadOnlySpan<Place> places, Span<ulong> mask)
    {
        _steps = 0;
        bool isOne = places.Length == 1;
        int state = isOne ? _plan.ClassOf(places[0].State) : -1;
        bool isBottom = isOne && places[0].Frame == 0;
        if (isOne && _plan.Masks.TryFind(state, isBottom, _plan.Automaton.MaxDepth - _walk.Depth(places[0].Frame), out ReadOnlySpan<ulong> known))
        {
            known.CopyTo(mask);
            return;
        }

        mask.Clear();
        if (places.IsEmpty)
            return;
        int frames = _walk.FrameCount;
        _walk.Watch(places[0].Frame);
        Fill(places, mask);
        _walk.ForgetFrames(frames);
        if (isOne && _steps >= _plan.Masks.LeastSteps && (isBottom || !_walk.HasLeft))
            _plan.Masks.Add(state, isBottom, _walk.MostNeeded, mask);
    }

    private void Fill(ReadOnlySpan<Place> places, Span<ulong> mask)
    {
        _table.Clear();
        _table.Load(places);
        if (_plan.Shapes.Of(places[0].State) is { } shapes)
        {
            _steps += _table.Mark(shapes.Walk, shapes, -1, mask);
        }
        else
        {
            for (int slice = 0; slice < _trie.Slices.Length; slice++)
                FillSlice(slice, places, mask);
            FillRest(places, mask);
        }

        if (!_plan.Automaton.UsesMarkup)
            return;
        _table.Load(places);
        foreach ((int id, byte[] bytes) in _trie.Markup)
        {
            int read = 0;
            while (read < bytes.Length && _table.Step(read, bytes[read]))
                read++;
            if (read == bytes.Length)
                TokenMask.Set(mask, id);
        }
    }

    private void FillSlice(int index, ReadOnlySpan<Place> places, Span<ulong> mask)
    {
        TokenSlice slice = _trie.Slices[index];
        int best = 0;
        bool isExact = places.Length <= MostSlicedPlaces;
        if (isExact)
        {
            foreach (Place place in places)
            {
                (int length, bool exact) = _reach.Of(place.State, index);
                best = Math.Max(best, length);
                isExact &= exact;
            }

            TokenMask.Unite(mask, slice.UpTo(best));
        }

        if (best < TokenTrie.MaxSliceLength && !isExact)
            Walk(slice.Tokens, index, mask);
    }

    // Where any text leads from state to state, what tokens begin with need not be read: their ends are read from the state they come to.
    private void FillRest(ReadOnlySpan<Place> places, Span<ulong> mask)
    {
        if (places.Length != 1 || !LeadsOn(places[0]))
        {
            Walk(_trie.Rest, -1, mask);
            return;
        }

        Place place = places[0];
        for (int length = 0; length < _trie.Tails.Length; length++)
        {
            if (length > 0)
            {
                int after = _reach.After(place.State, TokenTrie.WidestSlice, out _);
                if (after < 0)
                    break;
                place = place with { State = after };
                _table.Load([place]);
            }

            _steps += _table.Mark(_trie.Tails[length].Walk, _trie.Tails[length], -1, mask);
        }
    }

    // As far as tokens reach, every character of the widest kind leads to one state that neither calls nor returns, or none may follow.
    private bool LeadsOn(Place place)
    {
        for (int length = 0; length < _trie.Tails.Length; length++)
        {
            int state = place.State;
            int after = _reach.After(state, TokenTrie.WidestSlice, out bool mayEnd);
            if (!_plan.Automaton.CallsOf(state).IsEmpty || (place.Frame != 0 && mayEnd))
                return false;
            if (after < 0)
                return after == SliceReach.Nowhere || length == _trie.Tails.Length - 1;
            place = place with { State = after };
        }

        return true;
    }

    private void Walk(TrieWalk tokens, int slice, Span<ulong> mask)
    {
        _steps += _table.Mark(tokens, null, slice, mask);
        if (tokens.Doubles is null)
            return;
        foreach ((int of, int id) in tokens.Doubles)
        {
            if ((mask[of >> 6] >> (of & 63) & 1) != 0)
                TokenMask.Set(mask, id);
        }
    }
}
