namespace Qian.Inference.Model;

// Rows FirstRow … of a pass belong to sequences of this adapter.
internal readonly record struct AdapterRun(LowRankAdapter Adapter, int FirstRow, int RowCount);

// Which rows of a pass an adapter has a say in: neighbouring rows of one adapter make one run, rows without any are in none.
internal sealed class AdapterRuns
{
    private readonly AdapterRun[] _runs;
    private int _count;
    private int _rowCount;

    public AdapterRuns(int maxRows) => _runs = new AdapterRun[maxRows];

    public ReadOnlySpan<AdapterRun> All => _runs.AsSpan(0, _count);

    public void Clear()
    {
        Array.Clear(_runs, 0, _count);
        _count = 0;
        _rowCount = 0;
    }

    public void Fill(ForwardBatch batch)
    {
        Clear();
        foreach (ref readonly Segment segment in batch.Segments)
            Add(segment.Sequence.Adapter, segment.RowCount);
    }

    // The next rows.
    public void Add(LowRankAdapter? adapter, int rowCount)
    {
        int firstRow = _rowCount;
        _rowCount += rowCount;
        if (adapter is null)
            return;
        if (_count > 0 && _runs[_count - 1] is var last && last.Adapter == adapter && last.FirstRow + last.RowCount == firstRow)
            _runs[_count - 1] = last with { RowCount = last.RowCount + rowCount };
        else
            _runs[_count++] = new AdapterRun(adapter, firstRow, rowCount);
    }

    public LowRankAdapter? Of(int row)
    {
        foreach (ref readonly AdapterRun run in All)
        {
            if (row >= run.FirstRow && row < run.FirstRow + run.RowCount)
                return run.Adapter;
        }

        return null;
    }
}
