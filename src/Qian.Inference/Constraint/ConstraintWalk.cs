namespace Qian.Inference.Constraint;

// The places that a text read so far may be at, and where each byte leads. A place is a state and the frames to return to; an ambiguous constraint
// is at several. Places are kept per level, so that a trie can be walked depth first: level d + 1 is level d after one byte.
// What does not fit under the depth limit is not entered, so that from every place an end can be reached.
internal sealed class ConstraintWalk
{
    // More places than this are dropped: what is left is still a part of the constraint, and can still be completed.
    private const int MostPlaces = 512;

    private readonly Automaton _automaton;
    private readonly int[] _next;
    private readonly byte[] _classOf;
    private readonly int _classCount;
    private readonly CallFrames _frames = new();
    private readonly int[] _starts;
    private readonly int[] _ends;
    private Place[] _places = new Place[256];
    private int _watchedDepth;

    public ConstraintWalk(Automaton automaton, int depth)
    {
        _automaton = automaton;
        _next = automaton.Next;
        _classOf = automaton.ClassOf;
        _classCount = automaton.ClassCount;
        _starts = new int[depth + 2];
        _ends = new int[depth + 2];
    }

    public int FrameCount => _frames.Count;

    public ReadOnlySpan<Place> Places(int level) => _places.AsSpan(_starts[level].._ends[level]);

    // Since Watch: a rule that was being read then may have ended, so that what came depends on its caller.
    public bool HasLeft { get; private set; }

    // Since Watch: how many levels below the frame given then were needed or asked for.
    public int MostNeeded { get; private set; }

    public int Depth(int frame) => _frames.Depth(frame);

    public void ForgetFrames(int count) => _frames.Truncate(count);

    public void Watch(int frame)
    {
        _watchedDepth = _frames.Depth(frame);
        (HasLeft, MostNeeded) = (false, 0);
    }

    // Level 0 becomes the start of the constraint. True when the empty text is whole.
    public bool Begin()
    {
        _starts[0] = _ends[0] = 0;
        Append(0, new Place(_automaton.Start, 0));
        return Close(0);
    }

    // Level 0 becomes the given places.
    public void Load(ReadOnlySpan<Place> places)
    {
        while (_places.Length < places.Length)
            Grow();
        places.CopyTo(_places);
        _starts[0] = 0;
        _ends[0] = places.Length;
    }

    // False when nothing of the constraint begins like this. Used along a trie.
    public bool Step(int level, byte value) => Step(level, value, out _);

    // Also says whether the text is whole after this byte.
    public bool Step(int level, byte value, out bool isWhole)
    {
        isWhole = false;
        int start = _starts[level], end = _ends[level], c = _classOf[value];
        _starts[level + 1] = end;
        if (end - start == 1)
        {
            Place place = _places[start];
            int next = _next[(place.State * _classCount) + c];
            if (next < 0)
                return false;
            // The bottom has nobody to return to, so that an end there adds no place.
            bool isAlone = _automaton.IsPlain(next) || (place.Frame == 0 && _automaton.CallsOf(next).IsEmpty && _automaton.Reads(next));
            if (isAlone && Fits(next, place.Frame))
            {
                isWhole = _automaton.Accepts[next];
                if (end == _places.Length)
                    Grow();
                _places[end] = new Place(next, place.Frame);
                _ends[level + 1] = end + 1;
                return true;
            }
        }

        _ends[level + 1] = end;
        for (int i = start; i < end; i++)
        {
            Place place = _places[i];
            int next = _next[(place.State * _classCount) + c];
            if (next >= 0 && Fits(next, place.Frame))
                Append(level + 1, new Place(next, place.Frame));
        }

        if (_ends[level + 1] == end)
            return false;
        isWhole = Close(level + 1);
        return true;
    }

    private bool Fits(int state, int frame) => _automaton.Need[state] == 0 || Fits(_frames.Depth(frame) + _automaton.Need[state]);

    private bool Fits(int depth)
    {
        // What never fits says nothing about the depth.
        if (depth - _watchedDepth <= _automaton.MaxDepth)
            MostNeeded = Math.Max(MostNeeded, depth - _watchedDepth);
        return depth <= _automaton.MaxDepth;
    }

    // Adds what is reached without reading: rules called, callers returned to. Then leaves only places that read. True when the text may end here.
    private bool Close(int level)
    {
        bool isWhole = false;
        for (int i = _starts[level]; i < _ends[level]; i++)
        {
            Place place = _places[i];
            if (_automaton.IsPlain(place.State))
                continue;
            if (_automaton.Accepts[place.State])
            {
                if (place.Frame == 0)
                {
                    isWhole = true;
                }
                else
                {
                    HasLeft |= _frames.Depth(place.Frame) <= _watchedDepth;
                    Append(level, new Place(_frames.Return(place.Frame), _frames.Parent(place.Frame)));
                }
            }

            foreach ((int start, int @return) in _automaton.CallsOf(place.State))
                Call(level, place.Frame, start, @return);
        }

        int kept = _starts[level];
        for (int i = kept; i < _ends[level]; i++)
        {
            if (_automaton.Reads(_places[i].State))
                _places[kept++] = _places[i];
        }

        _ends[level] = kept;
        return isWhole;
    }

    private void Call(int level, int frame, int start, int @return)
    {
        // A caller that has nothing left to do need not be returned to: lists written as recursion do not nest.
        if (_automaton.IsExit(@return))
        {
            if (Fits(start, frame))
                Append(level, new Place(start, frame));
            return;
        }

        if (Fits(_frames.Depth(frame) + 1 + _automaton.Need[start]) && Fits(@return, frame))
            Append(level, new Place(start, _frames.Push(@return, frame)));
    }

    private void Append(int level, Place place)
    {
        int start = _starts[level], end = _ends[level];
        if (end - start >= MostPlaces || _places.AsSpan(start, end - start).Contains(place))
            return;
        if (end == _places.Length)
            Grow();
        _places[end] = place;
        _ends[level] = end + 1;
    }

    private void Grow() => Array.Resize(ref _places, 2 * _places.Length);
}

internal readonly record struct Place(int State, int Frame);
