using Qian.Inference;
using Qian.Inference.Runtime;

namespace Qian.Training;

// How samples become batches. MaxSampleRows bounds one sample (0: MaxRows), MicroBatchCount is the number of batches in a step.
internal sealed record PackingOptions
{
    public required int MaxRows { get; init; }

    public int MaxSampleRows { get; init; }

    public int MicroBatchCount { get; init; } = 1;

    public ulong Seed { get; init; }

    public LongSamples LongSamples { get; init; } = LongSamples.Cut;
}

// Lays samples into batches, step after step without end. An endless stream of pieces (epoch after epoch, each shuffled by a
// counter-based generator) runs through a window; a batch takes the window's oldest piece, then whatever fits, oldest first, and
// the largest that fits once it is half full. What waits is taken later, so nothing is lost at the border of two epochs.
// All of this is integers that depend on seed and step alone: to resume at a step, they are replayed. Knows no tokens.
internal sealed class BatchPacker
{
    // Pieces to choose from: enough that a gap of any size finds its piece, few enough that epochs stay apart.
    private const int WindowLength = 256;

    private readonly PieceTable _pieces;
    private readonly PackingOptions _options;
    private readonly int[] _order;
    private readonly List<int> _window = new(WindowLength);
    private readonly List<int>[] _batches;
    private readonly int _windowLength;
    private int _orderIndex;
    private int _epochIndex;

    public BatchPacker(IReadOnlyList<Sample> samples, PackingOptions options)
    {
        if (options.MaxRows < 1 || options.MicroBatchCount < 1 || options.MaxSampleRows < 0 || options.MaxSampleRows > options.MaxRows)
        {
            throw new BadRequestException(
                $"Batches of {options.MaxRows} rows, samples of at most {options.MaxSampleRows}, {options.MicroBatchCount} batches a step: expected at least 1, and samples that fit into a batch.");
        }

        _options = options;
        _pieces = new PieceTable(samples, options.MaxSampleRows == 0 ? options.MaxRows : options.MaxSampleRows, options.LongSamples);
        if (_pieces.Count == 0)
            throw new BadRequestException($"{samples.Count} samples, and none has anything to learn from within the length limit.");
        _order = new int[_pieces.Count];
        _batches = new List<int>[options.MicroBatchCount];
        for (int i = 0; i < _batches.Length; i++)
            _batches[i] = [];
        _windowLength = Math.Min(WindowLength, _pieces.Count);
        Restart();
    }

    // Pieces of one epoch and their rows; rows that the length limit leaves out.
    public int PieceCount => _pieces.Count;

    public long RowsPerEpoch => _pieces.RowCount;

    public long DroppedRowCount => _pieces.DroppedRowCount;

    public int MicroBatchCount => _options.MicroBatchCount;

    // The step that NextStep plans next.
    public long NextStepIndex { get; private set; }

    // Rows and targets of the planned step, all its micro-batches together.
    public int StepRowCount { get; private set; }

    public int StepTargetCount { get; private set; }

    // Rows handed out since step 0, and how often that is the whole data.
    public long RowsDone { get; private set; }

    public double EpochsDone => (double)RowsDone / RowsPerEpoch;

    // How many of the steps that make up `epochs` passes over the data there are, about: the packing is not perfect.
    public long EstimateSteps(double epochs) =>
        (long)Math.Ceiling(epochs * RowsPerEpoch / ((double)_options.MaxRows * _options.MicroBatchCount));

    // After this, NextStep plans `step`, exactly as if all steps before it had been taken.
    public void Seek(long step)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(step);
        if (step < NextStepIndex)
            Restart();
        while (NextStepIndex < step)
            NextStep();
    }

    // Plans the next step; Fill then gives its micro-batches. The targets of all of them are known before the first is computed.
    public void NextStep()
    {
        StepRowCount = StepTargetCount = 0;
        foreach (List<int> batch in _batches)
            Pack(batch);
        RowsDone += StepRowCount;
        NextStepIndex++;
    }

    public void Fill(int microBatch, TrainingBatch batch)
    {
        batch.Clear();
        foreach (int piece in _batches[microBatch])
            _pieces.AddTo(batch, piece);
    }

    // Where the samples of a planned micro-batch come from, to name them in an error.
    public IReadOnlyList<string> Sources(int microBatch) => [.. _batches[microBatch].Select(_pieces.SourceOf)];

    private void Restart()
    {
        NextStepIndex = 0;
        RowsDone = 0;
        StepRowCount = StepTargetCount = 0;
        _window.Clear();
        _epochIndex = -1;
        _orderIndex = _order.Length;
        for (int i = 0; i < _windowLength; i++)
            _window.Add(NextPiece());
    }

    private void Pack(List<int> batch)
    {
        batch.Clear();
        int free = _options.MaxRows;
        int slot = 0;
        while (slot >= 0)
        {
            int piece = _window[slot];
            _window.RemoveAt(slot);
            _window.Add(NextPiece());
            batch.Add(piece);
            free -= _pieces.RowsOf(piece);
            StepRowCount += _pieces.RowsOf(piece);
            StepTargetCount += _pieces.TargetsOf(piece);
            slot = free > _options.MaxRows / 2 ? OldestThatFits(free) : LargestThatFits(free);
        }
    }

    private int OldestThatFits(int free)
    {
        for (int slot = 0; slot < _window.Count; slot++)
        {
            if (_pieces.RowsOf(_window[slot]) <= free)
                return slot;
        }

        return -1;
    }

    private int LargestThatFits(int free)
    {
        int best = -1;
        int bestRows = 0;
        for (int slot = 0; slot < _window.Count; slot++)
        {
            int rows = _pieces.RowsOf(_window[slot]);
            if (rows <= free && rows > bestRows)
                (best, bestRows) = (slot, rows);
        }

        return best;
    }

    private int NextPiece()
    {
        if (_orderIndex == _order.Length)
        {
            _epochIndex++;
            Shuffle();
            _orderIndex = 0;
        }

        return _order[_orderIndex++];
    }

    // Fisher-Yates from the identity, with the epoch's own stream of numbers.
    private void Shuffle()
    {
        ulong stream = CounterRandom.Bits(_options.Seed, _epochIndex);
        for (int i = 0; i < _order.Length; i++)
            _order[i] = i;
        for (int i = _order.Length - 1; i > 0; i--)
        {
            int other = (int)Math.BigMul(CounterRandom.Bits(stream, i), (ulong)(i + 1), out _);
            (_order[i], _order[other]) = (_order[other], _order[i]);
        }
    }
}
