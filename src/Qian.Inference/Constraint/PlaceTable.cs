using System.Runtime.CompilerServices;

namespace Qian.Inference.Constraint;

// Where bytes lead from the sets of places that one mask's walk comes by, each worked out once: a vocabulary's tries have hundreds of thousands of
// nodes, a walk over them meets few sets of places, so nearly every node costs one look into a table, however ambiguous the constraint. Walked depth
// first like ConstraintWalk, which works out what is new. Holds for one mask, since the frames that a walk pushes are forgotten after it.
internal sealed class PlaceTable
{
    // With more rows beside the path to where the walk is, or places in them, it starts anew from that path.
    private const int MostRows = 2048;
    private const int MostPlaces = 1 << 16;

    private const int Dead = -1, Unknown = -2;
    private const int BucketCount = 1024;

    // Subtrees of fewer nodes are walked.
    private const int LeastSubtree = 16;

    private readonly ConstraintWalk _walk;
    private readonly SliceReach _reach;
    private readonly byte[] _classOf;
    private readonly int _classCount;
    private readonly int[] _path;        // [level] -> index of a row's first entry in _next
    private readonly int[] _buckets = new int[BucketCount];
    private int[] _next;                 // [rows, classes]: index of another row's first entry, Dead or Unknown
    private Row[] _rows = new Row[64];
    private Place[] _places = new Place[64];
    private Place[] _kept = [];
    private Row[] _keptRows = [];
    private int _rowCount;
    private int _placeCount;
    private int _restartAt;

    public PlaceTable(Automaton automaton, SliceReach reach, ConstraintWalk walk, int depth)
    {
        _reach = reach;
        _walk = walk;
        _classOf = automaton.ClassOf;
        _classCount = automaton.ClassCount;
        _path = new int[depth + 2];
        _next = new int[64 * _classCount];
    }

    public void Clear()
    {
        Array.Fill(_buckets, -1);
        _rowCount = _placeCount = 0;
        _restartAt = MostPlaces;
    }

    // Level 0 becomes the given places.
    public void Load(ReadOnlySpan<Place> places) => _path[0] = RowOf(places, 0);

    // Level + 1 becomes level after one byte. False when nothing of the constraint begins like this.
    public bool Step(int level, byte value)
    {
        int next = _next[_path[level] + _classOf[value]];
        if (next == Unknown)
            next = Find(level, value);
        if (next < 0)
            return false;
        _path[level + 1] = next;
        return true;
    }

    // Sets the bits of all tokens of the trie that level 0 can read; `tails`: what a token of the trie stands for, null where it is the id.
    // `slice`: the kind that all their characters are of, or -1. Gives how many nodes were looked at, or would have been in the time.
    public int Mark(TrieWalk tokens, TailWalk? tails, int slice, Span<ulong> mask)
    {
        TrieNode[] nodes = tokens.Nodes;
        int[] path = _path;
        byte[] classOf = _classOf;
        int steps = 0;
        foreach ((int first, byte label) in tokens.Roots)
        {
            // Most first bytes are of no use, and their nodes lie far apart.
            if (!Step(0, label))
                continue;
            int[] next = _next;
            int end = nodes[first].After;
            for (int i = first; i < end; steps++)
            {
                ref readonly TrieNode node = ref nodes[i];
                int level = node.Depth;
                int to = next[path[level] + classOf[node.Label]];
                if (to == Unknown)
                {
                    to = Find(level, node.Label);
                    next = _next;
                }

                if (to < 0)
                {
                    i = node.After;
                    continue;
                }

                if (slice >= 0 && node.After - i >= LeastSubtree && IsFree(to, slice, nodes[i + 1].Label))
                {
                    steps += tokens.MarkUnder(i, mask);
                    i = node.After;
                    continue;
                }

                path[level + 1] = to;
                i++;
                if (node.Token < 0)
                    continue;
                if (tails is null)
                    TokenMask.Set(mask, node.Token);
                else
                    steps += tails.Mark(node.Token, mask);
            }
        }

        return steps;
    }

    // Any text of the kind may follow, be it from within a character: `label` is one of the bytes that come next.
    private bool IsFree(int at, int slice, byte label)
    {
        Row row = _rows[at / _classCount];
        return row.PlaceCount == 1 && _reach.IsFree(_places[row.FirstPlace].State, slice, isInside: label is >= 0x80 and < 0xC0);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private int Find(int level, byte value)
    {
        Row row = _rows[_path[level] / _classCount];
        _walk.Load(_places.AsSpan(row.FirstPlace, row.PlaceCount));
        int next = _walk.Step(0, value) ? RowOf(_walk.Places(1), level + 1) : Dead;
        // The path may have moved on the way.
        _next[_path[level] + _classOf[value]] = next;
        return next;
    }

    // `pathLength`: the levels that must stay.
    private int RowOf(ReadOnlySpan<Place> places, int pathLength)
    {
        uint hash = 1;
        foreach (Place place in places)
            hash = (hash ^ (uint)place.State ^ ((uint)place.Frame * 0x85EBCA6B)) * 0x9E3779B1 + 1;
        ref int bucket = ref _buckets[hash >> 22];
        for (int at = bucket; at >= 0; at = _rows[at].NextRow)
        {
            if (_rows[at].PlaceCount == places.Length && _places.AsSpan(_rows[at].FirstPlace, places.Length).SequenceEqual(places))
                return at * _classCount;
        }

        if (_rowCount >= MostRows + _path.Length || _placeCount > _restartAt)
            Restart(pathLength);
        int index = _rowCount++;
        if (index == _rows.Length)
        {
            Array.Resize(ref _rows, 2 * index);
            Array.Resize(ref _next, 2 * index * _classCount);
        }

        while (_places.Length < _placeCount + places.Length)
            Array.Resize(ref _places, 2 * _places.Length);
        places.CopyTo(_places.AsSpan(_placeCount));
        _rows[index] = new Row(_placeCount, places.Length, bucket);
        bucket = index;
        _placeCount += places.Length;
        _next.AsSpan(index * _classCount, _classCount).Fill(Unknown);
        return index * _classCount;
    }

    private void Restart(int pathLength)
    {
        int count = 0;
        if (_keptRows.Length == 0)
            _keptRows = new Row[_path.Length];
        for (int level = 0; level < pathLength; level++)
        {
            Row row = _rows[_path[level] / _classCount];
            if (_kept.Length < count + row.PlaceCount)
                Array.Resize(ref _kept, 2 * (count + row.PlaceCount));
            _places.AsSpan(row.FirstPlace, row.PlaceCount).CopyTo(_kept.AsSpan(count));
            _keptRows[level] = row with { FirstPlace = count };
            count += row.PlaceCount;
        }

        Clear();
        _restartAt = int.MaxValue;
        for (int level = 0; level < pathLength; level++)
            _path[level] = RowOf(_kept.AsSpan(_keptRows[level].FirstPlace, _keptRows[level].PlaceCount), 0);
        _restartAt = _placeCount + MostPlaces;
    }

    private readonly record struct Row(int FirstPlace, int PlaceCount, int NextRow);
}
