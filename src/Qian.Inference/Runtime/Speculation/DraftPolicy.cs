namespace Qian.Inference.Runtime;

// How far ahead to guess, per pass: the number of drafts with which a pass yields most tokens per second, from how often
// drafts turned out right (AcceptanceRates) and what passes of so many rows took. Rows of all sequences compete for the
// same pass: they are taken by falling chance, and the best prefix of that order wins. Where drafting does not pay it stops,
// and is tried again now and then. Times decide only how fast tokens come, never which.
internal sealed class DraftPolicy
{
    public const int MaxSequences = 16;

    // What drafting must promise before it is done: estimates are noisy.
    private const double LeastGain = 1.03;
    // Until measured: what one more row adds to a pass, and what a draft step takes of one.
    private const double RowShare = 0.08;
    private const double DraftShare = 0.1;
    private const int FirstRetry = 32;
    private const int LastRetry = 1024;

    private readonly int _maxRows;
    private readonly double[] _passSeconds;   // [sequences, rows], 0 where not measured
    private readonly double[] _draftSeconds = new double[MaxSequences + 1];
    private readonly int[] _order;
    private readonly int[] _depths = new int[MaxSequences];
    private int _idlePasses;
    private int _retryAfter = FirstRetry;
    private int _usualDepth = 1;

    public DraftPolicy(int maxRows)
    {
        _maxRows = maxRows;
        _passSeconds = new double[(MaxSequences + 1) * (maxRows + 1)];
        _order = new int[maxRows];
    }

    public AcceptanceRates Rates { get; } = new();

    // A pass that only decoded: `rowCount` rows of `sequenceCount` sequences.
    public void ObservePass(int sequenceCount, int rowCount, double seconds)
    {
        if (sequenceCount is > 0 and <= MaxSequences && rowCount <= _maxRows)
            Average(ref _passSeconds[sequenceCount * (_maxRows + 1) + rowCount], seconds);
    }

    public void ObserveDraft(int sequenceCount, int stepCount, double seconds) => Average(ref _draftSeconds[sequenceCount], seconds / stepCount);

    // Sets Source and Count of every slot; `sequenceCount` sequences decode in the pass, those without a slot too.
    public void Choose(ReadOnlySpan<DraftSlot> slots, int sequenceCount)
    {
        int rows = sequenceCount;
        double expected = sequenceCount;
        bool canDraft = false;
        foreach (DraftSlot slot in slots)
        {
            slot.Source = BetterSource(slot, sequenceCount);
            slot.Count = 0;
            if (slot.FixedDepth is { } depth)
            {
                slot.Count = Math.Min(Math.Min(depth, slot.Available(slot.Source)), _maxRows - rows);
                rows += slot.Count;
                double chance = 1;
                for (int i = 0; i < slot.Count; i++)
                    expected += chance *= slot.Rate(slot.Source, i);
            }
            else
            {
                canDraft |= slot.Available(slot.Source) > 0;
            }
        }

        if (!canDraft)
            return;
        int best = BestPrefix(slots, sequenceCount, rows, expected);
        if (best > 0)
        {
            _idlePasses = 0;
            _retryAfter = FirstRetry;
            for (int i = 0; i < best; i++)
                slots[_order[i]].Count++;
            _usualDepth = slots[_order[0]].Count;
        }
        else if (++_idlePasses >= _retryAfter)
        {
            _idlePasses = 0;
            _retryAfter = Math.Min(2 * _retryAfter, LastRetry);
            Retry(slots, rows);
        }
    }

    // Seconds of a pass: measured, or from the nearest that was.
    public double PassSeconds(int sequenceCount, int rowCount)
    {
        ReadOnlySpan<double> measured = _passSeconds.AsSpan(Math.Min(sequenceCount, MaxSequences) * (_maxRows + 1), _maxRows + 1);
        if (measured[rowCount] > 0)
            return measured[rowCount];
        int below = rowCount, above = rowCount;
        while (below > 0 && measured[below] == 0)
            below--;
        while (above < _maxRows && measured[above] == 0)
            above++;
        if (measured[below] > 0 && measured[above] > 0)
            return measured[below] + (measured[above] - measured[below]) * (rowCount - below) / (above - below);
        if (measured[below] > 0)
            return measured[below] * (1 + RowShare * (rowCount - below));
        if (measured[above] > 0)
            return measured[above] / (1 + RowShare * (above - rowCount));
        return 1 + RowShare * (rowCount - 1);
    }

    private double DraftSeconds(int sequenceCount) =>
        _draftSeconds[sequenceCount] > 0 ? _draftSeconds[sequenceCount] : DraftShare * PassSeconds(sequenceCount, sequenceCount);

    // The source with which this sequence alone would bring the most.
    private DraftSource BetterSource(DraftSlot slot, int sequenceCount)
    {
        double lookup = BestRate(slot, DraftSource.Lookup, sequenceCount), mtp = BestRate(slot, DraftSource.Mtp, sequenceCount);
        return lookup > 0 && lookup >= mtp ? DraftSource.Lookup : DraftSource.Mtp;
    }

    private double BestRate(DraftSlot slot, DraftSource source, int sequenceCount)
    {
        double best = 0, chance = 1, expected = sequenceCount;
        int available = Math.Min(slot.Available(source), _maxRows - sequenceCount);
        for (int depth = 0; depth < available; depth++)
        {
            expected += chance *= slot.Rate(source, depth);
            double seconds = PassSeconds(sequenceCount, sequenceCount + depth + 1) + (source == DraftSource.Mtp ? (depth + 1) * DraftSeconds(1) : 0);
            best = Math.Max(best, expected / seconds);
        }

        return best;
    }

    // Orders rows by their chance into _order (slot indices) and returns how many of them are best.
    private int BestPrefix(ReadOnlySpan<DraftSlot> slots, int sequenceCount, int rows, double expected)
    {
        Span<double> chances = stackalloc double[MaxSequences];
        int chainDepth = 0, drafting = 0;
        for (int i = 0; i < slots.Length; i++)
        {
            _depths[i] = 0;
            chances[i] = NextChance(slots[i], 0, 1);
            if (slots[i].Count > 0 && slots[i].Source == DraftSource.Mtp)
            {
                chainDepth = Math.Max(chainDepth, slots[i].Count);
                drafting++;
            }
        }

        double bestRate = LeastGain * expected / (PassSeconds(sequenceCount, rows) + ChainSeconds(chainDepth, drafting));
        int best = 0;
        for (int taken = 0; rows < _maxRows; taken++)
        {
            int next = 0;
            for (int i = 1; i < slots.Length; i++)
                next = chances[i] > chances[next] ? i : next;
            if (chances[next] <= 0)
                break;
            expected += chances[next];
            rows++;
            if (slots[next].Source == DraftSource.Mtp)
            {
                drafting += _depths[next] == 0 ? 1 : 0;
                chainDepth = Math.Max(chainDepth, _depths[next] + 1);
            }

            _order[taken] = next;
            chances[next] = NextChance(slots[next], ++_depths[next], chances[next]);
            double rate = expected / (PassSeconds(sequenceCount, rows) + ChainSeconds(chainDepth, drafting));
            if (rate > bestRate)
            {
                bestRate = rate;
                best = taken + 1;
            }
        }

        return best;
    }

    private double ChainSeconds(int depth, int sequenceCount) => depth == 0 ? 0 : depth * DraftSeconds(sequenceCount);

    // Chance that draft `depth` and all before it are right; 0 when there is none to choose.
    private static double NextChance(DraftSlot slot, int depth, double before) =>
        slot.FixedDepth is not null || depth >= slot.Available(slot.Source) ? 0 : before * slot.Rate(slot.Source, depth);

    private void Retry(ReadOnlySpan<DraftSlot> slots, int rows)
    {
        foreach (DraftSlot slot in slots)
        {
            if (slot.FixedDepth is not null || slot.Available(slot.Source) == 0)
                continue;
            slot.Count = Math.Min(Math.Min(_usualDepth, slot.Available(slot.Source)), _maxRows - rows);
            return;
        }
    }

    // Quick to believe less, slow to believe more: what disturbs a pass (code compiled for the first time, other programs) only
    // ever makes it longer.
    private static void Average(ref double average, double seconds)
    {
        if (average == 0 || seconds < 0.7 * average)
            average = seconds;
        else
            average += (seconds < average ? 0.4 : 0.1) * (seconds - average);
    }
}
