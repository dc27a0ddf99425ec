using Qian.Inference;

namespace Qian.Training;

// What becomes of a sample with more rows than the sequence limit.
internal enum LongSamples
{
    // Cut into pieces of the limit; each begins anew, and the last may be short.
    Cut,

    // Its beginning is kept: a later part of a conversation makes no sense without what it answers.
    Truncate,

    // Left out.
    Drop,
}

// The samples as they are laid into batches: each within the sequence limit. Integers only, so that packing can be planned and
// replayed without touching a token. Pieces without targets are not listed.
internal sealed class PieceTable
{
    private readonly IReadOnlyList<Sample> _samples;
    private readonly List<Piece> _pieces = [];

    public PieceTable(IReadOnlyList<Sample> samples, int longestRows, LongSamples longSamples)
    {
        _samples = samples;
        for (int i = 0; i < samples.Count; i++)
        {
            int rowCount = samples[i].Tokens.Length;
            if (rowCount > longestRows && longSamples == LongSamples.Drop)
            {
                DroppedRowCount += rowCount;
                continue;
            }

            int end = longSamples == LongSamples.Cut ? rowCount : Math.Min(rowCount, longestRows);
            DroppedRowCount += rowCount - end;
            for (int start = 0; start < end; start += longestRows)
                Add(i, start, Math.Min(longestRows, end - start));
        }
    }

    public int Count => _pieces.Count;

    // Rows of all listed pieces.
    public long RowCount { get; private set; }

    // Rows of the samples that no piece holds.
    public long DroppedRowCount { get; private set; }

    public int RowsOf(int piece) => _pieces[piece].RowCount;

    public int TargetsOf(int piece) => _pieces[piece].TargetCount;

    public string SourceOf(int piece) => _samples[_pieces[piece].Sample].Source;

    public void AddTo(TrainingBatch batch, int piece)
    {
        Piece found = _pieces[piece];
        Sample sample = _samples[found.Sample];
        batch.Add(sample.Tokens.AsSpan(found.Start, found.RowCount), sample.Labels.AsSpan(found.Start, found.RowCount));
    }

    private void Add(int sample, int start, int rowCount)
    {
        int targetCount = rowCount - _samples[sample].Labels.AsSpan(start, rowCount).Count(TrainingBatch.Ignored);
        if (targetCount == 0)
        {
            DroppedRowCount += rowCount;
            return;
        }

        _pieces.Add(new Piece(sample, start, rowCount, targetCount));
        RowCount += rowCount;
    }

    private readonly record struct Piece(int Sample, int Start, int RowCount, int TargetCount);
}
