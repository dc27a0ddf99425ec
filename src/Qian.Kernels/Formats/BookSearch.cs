using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace Qian.Kernels;

/// <summary>
/// Finds the rows of a code book with the least weighted squared distance, for 32 runs of values at once, a run in each lane. Every row counts, but none is
/// looked at whole: a row is a first and a second half out of 64 (two values of 8 levels) or 81 (four of 3). What each second half costs is a table; the rows that
/// share a first half need the least of their entries, one minimum per row. Which entry it was is told by its lowest bits, which hold a tag in place of a part
/// of the cost too small to matter (6 of 23 bits at most). Second halves have the same tag where no first half goes with both.
/// All vector widths do the same arithmetic in each lane and find the same rows.
/// Not known here: signs and scales.
/// </summary>
internal sealed unsafe class BookSearch
{
    // Runs that are searched for at once.
    public const int Lanes = 32;

    private const int MostLevelCosts = 32, MostQuarterCosts = 36, MostHalves = 81;
    private const int MostTags = 64;

    // Values end here, so that a tiny scale leaves costs that are numbers.
    private const float Furthest = 1e12f;

    private readonly int _levelCount;

    // What a quarter of a row can be: one of the levels, or a pair of them.
    private readonly int _quarterCount;
    private readonly float* _levels;

    // By second half.
    private readonly int* _tags;
    private readonly int _tagMask;

    // For each first half, longest first so that the loop over an end is foreseen: the number of entries behind two, where its two quarters stand in their tables, and as
    // entries where each second half stands that goes with it; the last one again where their number is odd.
    private readonly ushort* _paths;
    private readonly int _pathCount;

    // [path][tag] indices of rows; [half of eight][row] four values of a row as bytes.
    private readonly ushort* _rows;
    private readonly uint* _words;
    private readonly int _rowCount;

    public BookSearch(ulong[] rows, int rowValues)
    {
        (_rowCount, RowValues) = (rows.Length, rowValues);
        var found = new SortedSet<int>();
        for (int i = 0; i < _rowCount * rowValues; i++)
            found.Add((int)(rows[i / rowValues] >> 8 * (i % rowValues) & 255));
        int[] levels = [.. found];
        Highest = levels[^1];
        _levelCount = levels.Length;
        _quarterCount = rowValues == 4 ? _levelCount : _levelCount * _levelCount;
        int halfCount = _quarterCount * _quarterCount;
        if (halfCount > MostHalves || rowValues * _levelCount > MostLevelCosts)
            throw new ArgumentException($"A book of {_levelCount} levels in rows of {rowValues} has {halfCount} halves of rows, more than {MostHalves}.", nameof(rows));
        _levels = Allocate<float>(_levelCount);
        for (int i = 0; i < _levelCount; i++)
            _levels[i] = levels[i];

        var paths = new List<(int Second, int Row)>[halfCount];
        for (int half = 0; half < halfCount; half++)
            paths[half] = [];
        for (int row = 0; row < _rowCount; row++)
            paths[Half(rows[row], 0)].Add((Half(rows[row], 1), row));
        _tags = Allocate<int>(halfCount);
        int tagCount = (int)BitOperations.RoundUpToPowerOf2((uint)GiveTags(paths, halfCount));
        _tagMask = tagCount - 1;

        var order = new List<int>();
        for (int half = 0; half < halfCount; half++)
        {
            if (paths[half].Count > 0)
                order.Add(half);
        }

        order.Sort((a, b) => paths[a].Count == paths[b].Count ? a - b : paths[b].Count - paths[a].Count);
        _pathCount = order.Count;
        _rows = Allocate<ushort>(_pathCount * tagCount);
        var steps = new List<ushort>();
        for (int path = 0; path < _pathCount; path++)
        {
            List<(int Second, int Row)> entries = paths[order[path]];
            int filled = (entries.Count + 1) / 2 * 2;
            steps.AddRange([(ushort)(filled - 2), (ushort)(order[path] / _quarterCount * Lanes), (ushort)(order[path] % _quarterCount * Lanes)]);
            for (int entry = 0; entry < filled; entry++)
            {
                (int second, int row) = entries[Math.Min(entry, entries.Count - 1)];
                steps.Add((ushort)(second * Lanes));
                _rows[path * tagCount + _tags[second]] = (ushort)row;
            }
        }

        _paths = Allocate<ushort>(steps.Count);
        CollectionsMarshal.AsSpan(steps).CopyTo(new Span<ushort>(_paths, steps.Count));
        _words = Allocate<uint>(2 * _rowCount);
        for (int row = 0; row < _rowCount; row++)
            (_words[row], _words[_rowCount + row]) = ((uint)rows[row], (uint)(rows[row] >> 32));

        int Half(ulong row, int half) => Quarter(row, 2 * half) * _quarterCount + Quarter(row, 2 * half + 1);

        int Quarter(ulong row, int quarter) =>
            rowValues == 4 ? Level(row, quarter) : Level(row, 2 * quarter) * _levelCount + Level(row, 2 * quarter + 1);

        int Level(ulong row, int value) => Array.IndexOf(levels, (int)(row >> 8 * value & 255));
    }

    // 4 or 8.
    public int RowValues { get; }

    public float Highest { get; }

    // The rows nearest to values * inverse, a run in each lane, and what they sum up to.
    public void Nearest(in BookRuns runs)
    {
        if (IsaTier.Current == Isa.Avx512)
            Nearest<Lanes512, Vector512<float>>(in runs);
        else
            Nearest<Lanes256, Vector256<float>>(in runs);
    }

    [SkipLocalsInit]
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public void Nearest<TLanes, TVec>(in BookRuns runs)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        float* leasts = stackalloc float[(MostHalves + 4) * Lanes];
        leasts = (float*)((nint)leasts + 63 & -64);
        float* found = leasts + MostHalves * Lanes;
        uint* words = (uint*)(found + Lanes);
        for (int lane = 0; lane < Lanes; lane += 2 * TLanes.Count)
            Search<TLanes, TVec>(in runs, lane, leasts + lane, found + lane);
        // In locals: behind every store a field would be read again.
        ushort* rows = _rows, chosen = runs.Rows;
        uint* book = _words;
        int tagMask = _tagMask, tagCount = tagMask + 1, rowCount = _rowCount;
        for (int lane = 0; lane < Lanes; lane++)
        {
            int path = (int)found[lane], tag = ((int*)leasts)[path * Lanes + lane] & tagMask;
            ushort row = rows[path * tagCount + tag];
            chosen[lane] = row;
            words[lane] = book[row];
            words[Lanes + lane] = book[rowCount + row];
        }

        for (int lane = 0; lane < Lanes; lane += TLanes.Count)
            Sum<TLanes, TVec>(in runs, lane, (float*)words + lane);
    }

    // For each lane of two vectors the best path, and the least entry of every path. Two, because half of the instructions are for finding places in tables.
    [SkipLocalsInit]
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Search<TLanes, TVec>(in BookRuns runs, int lane, float* leasts, float* found)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        float* levelCosts = stackalloc float[(MostLevelCosts + MostQuarterCosts + MostHalves + 1) * Lanes];
        levelCosts = (float*)((nint)levelCosts + 63 & -64);
        float* quarters = levelCosts + MostLevelCosts * Lanes, seconds = quarters + MostQuarterCosts * Lanes;
        if (RowValues == 4)
            quarters = levelCosts;
        CostLevels<TLanes, TVec>(in runs, lane, levelCosts);
        CostLevels<TLanes, TVec>(in runs, lane + TLanes.Count, levelCosts + TLanes.Count);
        int levelStride = _levelCount * Lanes, quarterStride = _quarterCount * Lanes;
        if (RowValues == 8)
        {
            for (int quarter = 0; quarter < 4; quarter++)
                AddPairs<TLanes, TVec>(levelCosts + 2 * quarter * levelStride, levelCosts + (2 * quarter + 1) * levelStride, _levelCount, quarters + quarter * quarterStride);
        }

        AddTagged<TLanes, TVec>(quarters + 2 * quarterStride, quarters + 3 * quarterStride, seconds);
        float* upper = seconds + TLanes.Count, others = quarters + quarterStride;
        TVec path = TLanes.Zero, best = path, upperBest = path, least = TLanes.Broadcast(float.PositiveInfinity), upperLeast = least;
        ushort* at = _paths;
        for (int pathsLeft = _pathCount; pathsLeft > 0; pathsLeft--, leasts += Lanes)
        {
            nuint first = at[1], second = at[2];
            TVec cost = TLanes.Add(TLanes.Load(quarters + first), TLanes.Load(others + second));
            TVec upperCost = TLanes.Add(TLanes.Load(quarters + TLanes.Count + first), TLanes.Load(others + TLanes.Count + second));
            int left = at[0];
            nuint a = at[3], b = at[4];
            TVec entry = TLanes.Min(TLanes.Load(seconds + a), TLanes.Load(seconds + b));
            TVec upperEntry = TLanes.Min(TLanes.Load(upper + a), TLanes.Load(upper + b));
            for (at += 5; left >= 4; left -= 4, at += 4)
            {
                (a, b) = (at[0], at[1]);
                nuint c = at[2], d = at[3];
                entry = TLanes.Min(TLanes.Min(entry, TLanes.Load(seconds + a)), TLanes.Load(seconds + b));
                upperEntry = TLanes.Min(TLanes.Min(upperEntry, TLanes.Load(upper + a)), TLanes.Load(upper + b));
                entry = TLanes.Min(TLanes.Min(entry, TLanes.Load(seconds + c)), TLanes.Load(seconds + d));
                upperEntry = TLanes.Min(TLanes.Min(upperEntry, TLanes.Load(upper + c)), TLanes.Load(upper + d));
            }

            if (left > 0)
            {
                (a, b) = (at[0], at[1]);
                entry = TLanes.Min(TLanes.Min(entry, TLanes.Load(seconds + a)), TLanes.Load(seconds + b));
                upperEntry = TLanes.Min(TLanes.Min(upperEntry, TLanes.Load(upper + a)), TLanes.Load(upper + b));
                at += 2;
            }

            TLanes.Store(leasts, entry);
            TLanes.Store(leasts + TLanes.Count, upperEntry);
            cost = TLanes.Add(cost, entry);
            upperCost = TLanes.Add(upperCost, upperEntry);
            best = TLanes.SelectLess(cost, least, path, best);
            upperBest = TLanes.SelectLess(upperCost, upperLeast, path, upperBest);
            least = TLanes.Min(cost, least);
            upperLeast = TLanes.Min(upperCost, upperLeast);
            path = TLanes.Add(path, TLanes.Broadcast(1));
        }

        TLanes.Store(found, best);
        TLanes.Store(found + TLanes.Count, upperBest);
    }

    // [value][level] what each value costs at each level.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void CostLevels<TLanes, TVec>(in BookRuns runs, int lane, float* costs)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        float* levels = _levels;
        int levelCount = _levelCount;
        TVec inverse = TLanes.Load(runs.Inverses + lane), most = TLanes.Broadcast(Furthest), least = TLanes.Broadcast(-Furthest);
        for (int i = 0; i < RowValues; i++)
        {
            TVec value = TLanes.Multiply(TLanes.Load(runs.Values + i * runs.Stride + lane), inverse), weight = TLanes.Load(runs.Weights + i * runs.Stride + lane);
            value = TLanes.Min(TLanes.Max(value, least), most);
            for (int level = 0; level < levelCount; level++, costs += Lanes)
            {
                TVec distance = TLanes.Subtract(value, TLanes.Broadcast(levels[level]));
                TLanes.Store(costs, TLanes.Multiply(TLanes.Multiply(distance, distance), weight));
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void AddPairs<TLanes, TVec>(float* first, float* second, int count, float* sums)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        float* end = second + count * Lanes;
        for (int i = 0; i < count; i++, first += Lanes)
        {
            TVec cost = TLanes.Load(first), upper = TLanes.Load(first + TLanes.Count);
            for (float* other = second; other < end; other += Lanes, sums += Lanes)
            {
                TLanes.Store(sums, TLanes.Add(cost, TLanes.Load(other)));
                TLanes.Store(sums + TLanes.Count, TLanes.Add(upper, TLanes.Load(other + TLanes.Count)));
            }
        }
    }

    // The costs of second halves.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void AddTagged<TLanes, TVec>(float* third, float* fourth, float* sums)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        int mask = _tagMask, count = _quarterCount;
        int* tag = _tags;
        float* end = fourth + count * Lanes;
        for (int i = 0; i < count; i++, third += Lanes)
        {
            TVec cost = TLanes.Load(third), upper = TLanes.Load(third + TLanes.Count);
            for (float* other = fourth; other < end; other += Lanes, sums += Lanes, tag++)
            {
                TLanes.Store(sums, TLanes.WithTag(TLanes.Add(cost, TLanes.Load(other)), mask, *tag));
                TLanes.Store(sums + TLanes.Count, TLanes.WithTag(TLanes.Add(upper, TLanes.Load(other + TLanes.Count)), mask, *tag));
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Sum<TLanes, TVec>(in BookRuns runs, int lane, float* words)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        TVec cross = TLanes.Zero, square = TLanes.Zero;
        for (int i = 0; i < RowValues; i++)
        {
            TVec level = TLanes.Byte(TLanes.Load(words + i / 4 * Lanes), i % 4);
            TVec weighted = TLanes.Multiply(TLanes.Load(runs.Weights + i * runs.Stride + lane), level);
            cross = TLanes.Add(cross, TLanes.Multiply(weighted, TLanes.Load(runs.Values + i * runs.Stride + lane)));
            square = TLanes.Add(square, TLanes.Multiply(weighted, level));
        }

        TLanes.Store(runs.Crosses + lane, cross);
        TLanes.Store(runs.Squares + lane, square);
    }

    // To each second half the first tag that none has with which it shares a first half; returns how many there are.
    private int GiveTags(List<(int Second, int Row)>[] paths, int halfCount)
    {
        var meet = new bool[halfCount, halfCount];
        foreach (List<(int Second, int Row)> path in paths)
        {
            foreach ((int a, _) in path)
            {
                foreach ((int b, _) in path)
                    meet[a, b] = true;
            }
        }

        int count = 0;
        for (int half = 0; half < halfCount; half++)
        {
            ulong taken = 0;
            for (int other = 0; other < half; other++)
                taken |= meet[half, other] ? 1UL << _tags[other] : 0;
            _tags[half] = BitOperations.TrailingZeroCount(~taken);
            count = Math.Max(count, _tags[half] + 1);
        }

        return count <= MostTags ? count : throw new InvalidOperationException($"The second halves of the book need {count} tags, more than {MostTags}.");
    }

    // A few KiB that live as long as the process and do not move.
    private static T* Allocate<T>(int count)
        where T : unmanaged => (T*)NativeMemory.AlignedAlloc((nuint)(count * sizeof(T)), 64);
}

// Runs of values, one for each lane: value i of a run stands Stride numbers behind its value i − 1. Rows, and the sums of weight * value * level and of
// weight * level² over each run, go to the three places at the end.
internal readonly unsafe struct BookRuns
{
    public float* Values { get; init; }

    public float* Weights { get; init; }

    public int Stride { get; init; }

    public float* Inverses { get; init; }

    public ushort* Rows { get; init; }

    public float* Crosses { get; init; }

    public float* Squares { get; init; }
}
