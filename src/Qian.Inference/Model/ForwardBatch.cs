using Qian.Kernels;

namespace Qian.Inference.Model;

// The rows of one pass: for each sequence a run of consecutive tokens (one in decode, many in prefill), side by side.
// A row is a token id or an embedding row; its position is three numbers (t, h, w). Arrays are allocated once.
internal sealed class ForwardBatch
{
    private readonly int _maxRows;
    private readonly int[] _positionT;
    private readonly int[] _positionH;
    private readonly int[] _positionW;
    private readonly int[] _packedPositions;
    private readonly Segment[] _segments;

    public ForwardBatch(int maxRows)
    {
        _maxRows = maxRows;
        TokenIds = new int[maxRows];
        _positionT = new int[maxRows];
        _positionH = new int[maxRows];
        _positionW = new int[maxRows];
        _packedPositions = new int[3 * maxRows];
        _segments = new Segment[maxRows];
    }

    public int RowCount { get; private set; }

    public int[] TokenIds { get; }

    // [rowCount, hidden] when the rows are embeddings (or hidden rows of an earlier layer range) instead of token ids.
    public FloatView EmbeddingRows { get; private set; }

    public bool HasEmbeddingRows { get; private set; }

    public ReadOnlySpan<Segment> Segments => _segments.AsSpan(0, SegmentCount);

    public int SegmentCount { get; private set; }

    // Rows of trial runs so far.
    public int TrialRowCount { get; private set; }

    // [3, rowCount]: all t, all h, all w.
    public ReadOnlySpan<int> Positions
    {
        get
        {
            _positionT.AsSpan(0, RowCount).CopyTo(_packedPositions);
            _positionH.AsSpan(0, RowCount).CopyTo(_packedPositions.AsSpan(RowCount));
            _positionW.AsSpan(0, RowCount).CopyTo(_packedPositions.AsSpan(2 * RowCount));
            return _packedPositions.AsSpan(0, 3 * RowCount);
        }
    }

    public void Clear()
    {
        Array.Clear(_segments, 0, SegmentCount);
        RowCount = 0;
        SegmentCount = 0;
        TrialRowCount = 0;
        HasEmbeddingRows = false;
    }

    // Text tokens continuing `sequence`, whose recurrent part is copied to `capture` as it is after `captureRows` of them.
    public void Add(SequenceState sequence, ReadOnlySpan<int> tokenIds, SequenceState capture, int captureRows)
    {
        if (captureRows <= 0 || captureRows >= tokenIds.Length)
            throw new ArgumentOutOfRangeException(nameof(captureRows), captureRows, $"inside of a run of {tokenIds.Length} rows");
        Add(sequence, tokenIds);
        ref Segment segment = ref _segments[SegmentCount - 1];
        segment = segment with { Capture = capture, CaptureRows = captureRows };
    }

    // Text tokens continuing `sequence`; returns the first row. Position of each = token index + the sequence's delta.
    public int Add(SequenceState sequence, ReadOnlySpan<int> tokenIds)
    {
        int firstRow = AddSegment(sequence, sequence.TokenCount, tokenIds.Length);
        tokenIds.CopyTo(TokenIds.AsSpan(firstRow));
        for (int i = 0; i < tokenIds.Length; i++)
        {
            int position = sequence.TokenCount + sequence.PositionDelta + i;
            _positionT[firstRow + i] = _positionH[firstRow + i] = _positionW[firstRow + i] = position;
        }

        return firstRow;
    }

    // Tokens that continue `sequence` if they turn out to be right: the first one is certain, the others are drafts. The
    // sequence stays as it is until Network.Commit.
    public void AddTrial(SequenceState sequence, ReadOnlySpan<int> tokenIds)
    {
        if (tokenIds.Length > Network.MaxTrialRun)
            throw new ArgumentOutOfRangeException(nameof(tokenIds), $"{tokenIds.Length} rows of a trial, at most {Network.MaxTrialRun} can be");
        Add(sequence, tokenIds);
        ref Segment segment = ref _segments[SegmentCount - 1];
        segment = segment with { TrialRow = TrialRowCount };
        TrialRowCount += tokenIds.Length;
    }

    // Embedding rows of one sequence, with explicit positions [3, rowCount]; such a batch holds nothing else.
    public void AddEmbeddings(SequenceState sequence, FloatView rows, ReadOnlySpan<int> positions)
    {
        if (RowCount != 0)
            throw new InvalidOperationException("embedding rows need a batch of their own");
        int rowCount = positions.Length / 3;
        AddSegment(sequence, sequence.TokenCount, rowCount);
        positions[..rowCount].CopyTo(_positionT);
        positions.Slice(rowCount, rowCount).CopyTo(_positionH);
        positions.Slice(2 * rowCount, rowCount).CopyTo(_positionW);
        EmbeddingRows = rows;
        HasEmbeddingRows = true;
    }

    // Rows of the MTP layer: entry i of `sequence`'s MTP cache is made from the hidden row of token i and the id of token i + 1.
    public void AddMtp(SequenceState sequence, int firstIndex, ReadOnlySpan<int> nextTokenIds)
    {
        int firstRow = AddSegment(sequence, firstIndex, nextTokenIds.Length);
        nextTokenIds.CopyTo(TokenIds.AsSpan(firstRow));
        for (int i = 0; i < nextTokenIds.Length; i++)
        {
            int position = firstIndex + sequence.PositionDelta + i;
            _positionT[firstRow + i] = _positionH[firstRow + i] = _positionW[firstRow + i] = position;
        }
    }

    private int AddSegment(SequenceState sequence, int firstToken, int rowCount)
    {
        if (rowCount <= 0 || RowCount + rowCount > _maxRows)
            throw new ArgumentOutOfRangeException(nameof(rowCount), $"{rowCount} rows do not fit a batch of {_maxRows} with {RowCount} taken");
        if (sequence.CapacityTokens < firstToken + rowCount)
            throw new InvalidOperationException("the sequence has no KV blocks reserved for these tokens");
        int firstRow = RowCount;
        _segments[SegmentCount++] = new Segment(sequence, firstRow, rowCount, firstToken);
        RowCount += rowCount;
        return firstRow;
    }
}

// Rows FirstRow … of the batch are tokens FirstToken … of Sequence. TrialRow: where a trial's inputs are kept, -1 for rows that count.
// Capture: takes a copy of the recurrent part after CaptureRows rows.
internal readonly record struct Segment(SequenceState Sequence, int FirstRow, int RowCount, int FirstToken, int TrialRow = -1, SequenceState? Capture = null, int CaptureRows = 0)
{
    public bool IsTrial => TrialRow >= 0;
}
