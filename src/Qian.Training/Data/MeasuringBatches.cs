namespace Qian.Training;

// The held-out samples in batches: each once, in their own order and the same batches every time, so that losses compare.
// A batch closes when the next piece does not fit; the last one may be short.
internal sealed class MeasuringBatches
{
    private readonly PieceTable _pieces;
    private readonly List<int> _starts = [];

    // rowLimit: no more rows than this in all (0: all of them).
    public MeasuringBatches(IReadOnlyList<Sample> samples, PackingOptions options, long rowLimit = 0)
    {
        _pieces = new PieceTable(samples, options.MaxSampleRows == 0 ? options.MaxRows : options.MaxSampleRows, options.LongSamples);
        int inBatch = options.MaxRows;
        for (int piece = 0; piece < _pieces.Count && (rowLimit == 0 || RowCount < rowLimit); piece++)
        {
            int rows = _pieces.RowsOf(piece);
            if (inBatch + rows > options.MaxRows)
            {
                _starts.Add(piece);
                inBatch = 0;
            }

            inBatch += rows;
            RowCount += rows;
            TargetCount += _pieces.TargetsOf(piece);
            EndPiece = piece + 1;
        }
    }

    public int Count => _starts.Count;

    public long RowCount { get; }

    public long TargetCount { get; }

    private int EndPiece { get; }

    public void Fill(int index, TrainingBatch batch)
    {
        batch.Clear();
        int end = index + 1 < _starts.Count ? _starts[index + 1] : EndPiece;
        for (int piece = _starts[index]; piece < end; piece++)
            _pieces.AddTo(batch, piece);
    }
}
