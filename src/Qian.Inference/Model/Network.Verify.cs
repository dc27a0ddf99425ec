using Qian.Kernels;

namespace Qian.Inference.Model;

// Passes over tokens that may turn out not to belong to the text (drafts). A trial run leaves its sequence as it was: keys and
// values are written beyond the tokens that count, where the next pass overwrites them; recurrent states and convolution
// windows are only read, and each DeltaNet layer's inputs are kept. Commit then replays the accepted rows, which ends in the
// very bits of a sequence that decoded those tokens one by one. Nothing is copied per draft but a state that passes through
// the cache.
internal sealed partial class Network
{
    // Most rows of one sequence in a trial.
    public const int MaxTrialRun = 16;

    // Rows of logits at a time: the head is read once for all of them, and they take a megabyte each.
    public const int LogitRows = 16;

    // Rows of all sequences that one pass may try; 0 when the network was made without room for it.
    public int MaxTrialRows => _trial?.RowCount ?? 0;

    // The first `rowCount` rows of a trial run of the last pass belong to the text: their sequence moves on as if it had
    // decoded them. The rest never happened.
    public void Commit(in Segment segment, int rowCount)
    {
        if (!segment.IsTrial || rowCount < 0 || rowCount > segment.RowCount)
            throw new ArgumentOutOfRangeException(nameof(rowCount), rowCount, $"a trial of {(segment.IsTrial ? segment.RowCount : 0)} rows");
        if (rowCount == 0)
            return;
        for (int i = 0; i < _weights.Layers.Length; i++)
        {
            if (_weights.Layers[i].DeltaNet is { } delta)
                Replay(delta, _cacheIndex[i], segment, rowCount);
        }

        segment.Sequence.TokenCount = segment.FirstToken + rowCount;
        segment.Sequence.LastHidden.CopyFrom(HiddenRow(segment.FirstRow + rowCount - 1));
    }

    // [hidden] of one row of the last pass, after the final norm.
    public FloatView HiddenRow(int row) => _scratch.Hidden.Slice((long)row * _config.HiddenSize, _config.HiddenSize);

    // [rowCount, hidden] of consecutive rows of the last pass.
    public FloatView HiddenRows(int firstRow, int rowCount) => _scratch.Hidden.Slice((long)firstRow * _config.HiddenSize, (long)rowCount * _config.HiddenSize);

    // logits[rows.Length, vocabulary] of the token after each row.
    public void NextLogits(ReadOnlySpan<LogitRow> rows, FloatView logits)
    {
        _headRuns.Clear();
        for (int i = 0; i < rows.Length; i++)
        {
            _scratch.Normed.Slice((long)i * _config.HiddenSize).CopyFrom(rows[i].PassRow is { } row ? HiddenRow(row) : rows[i].Sequence.LastHidden);
            _headRuns.Add(rows[i].Sequence.Adapter, 1);
        }

        ProjectHead(rows.Length, logits);
    }

    private void ConvRows(DeltaNetWeights w, in Segment segment, int stateIndex)
    {
        int channels = _config.ConvChannels, kernel = _config.ConvKernel;
        FloatView raw = RowsOf(_scratch.RawQkv, segment, channels), qkv = RowsOf(_scratch.Qkv, segment, channels);
        if (!segment.IsTrial)
        {
            FloatView window = segment.Sequence.Window(stateIndex);
            int before = segment.Capture is null ? 0 : segment.CaptureRows;
            if (before > 0)
            {
                ConvSilu.Apply(raw, w.Conv, window, qkv, before, channels, kernel, _team);
                segment.Capture!.Window(stateIndex).CopyFrom(window);
            }

            long done = (long)before * channels;
            ConvSilu.Apply(raw.Slice(done), w.Conv, window, qkv.Slice(done), segment.RowCount - before, channels, kernel, _team);
            return;
        }

        int valueHeads = _config.LinearValueHeads;
        ConvSilu.ApplyKeepingWindow(raw, w.Conv, segment.Sequence.Window(stateIndex), qkv, segment.RowCount, channels, kernel, _team);
        TrialInputs trial = _trial ?? throw new InvalidOperationException("this network was made without room for drafts");
        trial.Raw(stateIndex, segment.TrialRow, segment.RowCount).CopyFrom(raw);
        trial.Decay(stateIndex, segment.TrialRow, segment.RowCount).CopyFrom(RowsOf(_scratch.Decay, segment, valueHeads));
        trial.Beta(stateIndex, segment.TrialRow, segment.RowCount).CopyFrom(RowsOf(_scratch.Beta, segment, valueHeads));
    }

    private void NormQueriesAndKeys(FloatView qkv, int rows)
    {
        int channels = _config.ConvChannels, keyHeads = _config.LinearKeyHeads, keyDim = _config.LinearKeyDim;
        L2Norm.Apply(qkv, channels, 0, rows, keyHeads, keyDim, L2Epsilon, 1f / MathF.Sqrt(keyDim), _team);
        L2Norm.Apply(qkv, channels, keyHeads * keyDim, rows, keyHeads, keyDim, L2Epsilon, 1f, _team);
    }

    private void TryDeltaRows(in Segment segment, int stateIndex)
    {
        ForwardScratch s = _scratch;
        int valueHeads = _config.LinearValueHeads, valueWidth = valueHeads * _config.LinearValueDim;
        DeltaRule.StepKeepingState(
            s.DeltaShape, RowsOf(s.Qkv, segment, _config.ConvChannels), RowsOf(s.Decay, segment, valueHeads), RowsOf(s.Beta, segment, valueHeads),
            segment.Sequence.Recurrent(stateIndex), RowsOf(s.DeltaRows, segment, valueWidth), segment.RowCount, _team, s.Delta);
    }

    private void Replay(DeltaNetWeights w, int stateIndex, in Segment segment, int rowCount)
    {
        ForwardScratch s = _scratch;
        ConvSilu.Apply(_trial!.Raw(stateIndex, segment.TrialRow, rowCount), w.Conv, segment.Sequence.Window(stateIndex), s.Qkv, rowCount, _config.ConvChannels, _config.ConvKernel, _team);
        NormQueriesAndKeys(s.Qkv, rowCount);
        DeltaRule.Step(
            s.DeltaShape, s.Qkv, _trial.Decay(stateIndex, segment.TrialRow, rowCount), _trial.Beta(stateIndex, segment.TrialRow, rowCount),
            segment.Sequence.Recurrent(stateIndex), s.DeltaRows, rowCount, _team);
    }
}

// Where the logits of a token come from: a row of the last pass, or the sequence's last hidden row when it had none.
internal readonly record struct LogitRow(SequenceState Sequence, int? PassRow);
