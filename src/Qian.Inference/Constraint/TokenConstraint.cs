using System.Numerics;
using System.Runtime.InteropServices;

namespace Qian.Inference.Constraint;

// One reply's place in its constraint: which tokens may come next, and on to the next place. The mask of a place is made of whole slices of the
// vocabulary where any text of a kind may follow, and of walks over what is left; places come again and again, so their masks are kept.
// Tokens that end a turn are allowed where the text is whole, and nowhere else. Not for sharing; in steady state nothing is allocated.
internal sealed class TokenConstraint
{
    // With more places than this the slices' promise could be broken by the bound on places.
    private const int MostSlicedPlaces = 16;

    private readonly SliceReach _reach;
    private readonly TokenTrie _trie;
    private readonly int[] _endIds;
    private readonly ConstraintWalk _walk;
    private readonly MaskStore _masks;
    private Place[] _places = [];
    private int _placeCount;
    private Place[] _kept = [];
    private ulong[]? _mask;
    private bool _isWhole;
    private bool _isEnded;

    // `endIds`: tokens that may stand after the whole text; they are no part of it.
    public TokenConstraint(SliceReach reach, IEnumerable<int> endIds)
    {
        _reach = reach;
        _trie = reach.Trie;
        _endIds = [.. endIds.Where(id => id >= 0 && id < _trie.VocabularySize)];
        _walk = new ConstraintWalk(reach.Automaton, _trie.Depth);
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
            if (_mask is null && !_masks.TryFind(_places.AsSpan(0, _placeCount), _isWhole, out _mask))
                Fill(_mask);
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
        if (_reach.Automaton.UsesMarkup)
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

    private void Take(int level)
    {
        ReadOnlySpan<Place> places = _walk.Places(level);
        if (_places.Length < places.Length)
            _places = new Place[2 * places.Length];
        places.CopyTo(_places);
        _placeCount = places.Length;
        _mask = null;
    }

    private void Fill(ulong[] mask)
    {
        Array.Clear(mask);
        ReadOnlySpan<Place> places = _places.AsSpan(0, _placeCount);
        _walk.Load(places);
        int frames = _walk.FrameCount;
        if (places.Length > 0)
        {
            for (int slice = 0; slice < _trie.Slices.Length; slice++)
                FillSlice(slice, places, mask);
            FillRest(places, mask);
            if (_reach.Automaton.UsesMarkup)
                WalkMarkup(mask);
        }

        _walk.ForgetFrames(frames);
        if (!_isWhole)
            return;
        foreach (int id in _endIds)
            mask[id >> 6] |= 1UL << (id & 63);
    }

    private void FillSlice(int index, ReadOnlySpan<Place> places, ulong[] mask)
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

            Unite(mask, slice.UpTo(best));
        }

        if (best < TokenTrie.MaxSliceLength && !isExact)
            Walk(slice.Tokens, mask);
    }

    private static void Unite(Span<ulong> mask, ReadOnlySpan<ulong> more)
    {
        Span<Vector<ulong>> wide = MemoryMarshal.Cast<ulong, Vector<ulong>>(mask);
        ReadOnlySpan<Vector<ulong>> wideMore = MemoryMarshal.Cast<ulong, Vector<ulong>>(more);
        for (int i = 0; i < wide.Length; i++)
            wide[i] |= wideMore[i];
        for (int i = wide.Length * Vector<ulong>.Count; i < mask.Length; i++)
            mask[i] |= more[i];
    }

    // Where any text leads from state to state, what tokens begin with need not be read: their ends are read from the state they come to.
    private void FillRest(ReadOnlySpan<Place> places, ulong[] mask)
    {
        if (places.Length != 1 || !LeadsOn(places[0]))
        {
            Walk(_trie.Rest, mask);
            return;
        }

        Span<Place> place = [places[0]];
        for (int length = 0; length < _trie.Tails.Length; length++)
        {
            if (length > 0)
            {
                int after = _reach.After(place[0].State);
                if (after < 0)
                    break;
                place[0] = place[0] with { State = after };
                _walk.Load(place);
            }

            WalkTails(_trie.Tails[length], mask);
        }

        _walk.Load(places);
    }

    // As far as tokens reach, every character of the widest kind leads to one state that neither calls nor returns, or none may follow.
    private bool LeadsOn(Place place)
    {
        for (int length = 0; length < _trie.Tails.Length; length++)
        {
            int state = place.State;
            if (!_reach.Automaton.CallsOf(state).IsEmpty || (place.Frame != 0 && _reach.Automaton.Accepts[state]))
                return false;
            int after = _reach.After(state);
            if (after < 0)
                return after == SliceReach.Nowhere || length == _trie.Tails.Length - 1;
            place = place with { State = after };
        }

        return true;
    }

    private void WalkTails(TailWalk tails, ulong[] mask)
    {
        TrieNode[] nodes = tails.Walk.Nodes;
        for (int i = 0; i < nodes.Length;)
        {
            ref readonly TrieNode node = ref nodes[i];
            if (!_walk.Step(node.Depth, node.Label))
            {
                i = node.After;
                continue;
            }

            if (node.Token >= 0)
            {
                foreach (int id in tails.Ids[node.Token])
                    mask[id >> 6] |= 1UL << (id & 63);
            }

            i++;
        }
    }

    private void Walk(TrieWalk tokens, ulong[] mask)
    {
        TrieNode[] nodes = tokens.Nodes;
        for (int i = 0; i < nodes.Length;)
        {
            ref readonly TrieNode node = ref nodes[i];
            if (!_walk.Step(node.Depth, node.Label))
            {
                i = node.After;
                continue;
            }

            if (node.Token >= 0)
                mask[node.Token >> 6] |= 1UL << (node.Token & 63);
            i++;
        }

        if (tokens.Doubles is null)
            return;
        foreach ((int of, int id) in tokens.Doubles)
        {
            if ((mask[of >> 6] >> (of & 63) & 1) != 0)
                mask[id >> 6] |= 1UL << (id & 63);
        }
    }

    private void WalkMarkup(ulong[] mask)
    {
        foreach ((int id, byte[] bytes) in _trie.Markup)
        {
            int read = 0;
            while (read < bytes.Length && _walk.Step(read, bytes[read]))
                read++;
            if (read == bytes.Length)
                mask[id >> 6] |= 1UL << (id & 63);
        }
    }
}
