using System.Diagnostics;
using Qian.Inference.Model;
using Qian.Kernels;

namespace Qian.Inference.Runtime;

// Drafts from the model's own MTP head. Entry i of its keys and values comes from the trunk's hidden row of token i and the id
// of token i + 1; a sequence keeps the hidden rows of tokens whose entry is still to be made (its tail). So the first step of a
// draft makes the entries of all tokens accepted since the last one, of which the latest yields draft 1; every further step
// feeds the head its own normed row. Entries made from drafts lie beyond MtpCount and are written anew from trunk rows.
internal sealed class MtpDrafter : IDisposable
{
    private readonly Network _network;
    private readonly ForwardBatch _batch;
    private readonly VocabularyMask _vocabulary;
    private readonly NativeBuffer _logits;     // [MaxSequences, vocabulary]
    private readonly float[] _maxima;
    private readonly Generation[] _drafting = new Generation[DraftPolicy.MaxSequences];
    private readonly int[] _lastRows = new int[DraftPolicy.MaxSequences];
    private readonly int[] _keptRows = new int[DraftPolicy.MaxSequences];
    private bool _isBroken;

    public MtpDrafter(Network network, VocabularyMask vocabulary)
    {
        _network = network;
        _vocabulary = vocabulary;
        _batch = new ForwardBatch(network.MaxRows);
        _logits = NativeBuffer.AllocateFloats((long)DraftPolicy.MaxSequences * vocabulary.VocabularySize);
        _maxima = new float[LogitScan.BlockCount(vocabulary.VocabularySize)];
    }

    // Whether the head can guess what follows the token that this sequence has pending.
    public bool CanDraft(SequenceState state) => !_isBroken && IsFollowed(state) && state.TokenCount > 0;

    // Fills the slots that chose this source; returns the number of steps and the seconds they took.
    public (int Steps, double Seconds) Draft(List<Generation> generations)
    {
        long start = Stopwatch.GetTimestamp();
        int count = FirstRows(generations), steps = 0;
        while (count > 0)
        {
            _network.MtpForward(_batch, _network.MtpHidden);
            if (steps == 0)
                Settled(count);
            if (!TryTake(count, steps++))
                break;
            count = NextRows(count, steps);
        }

        Array.Clear(_drafting);
        return (steps, Stopwatch.GetElapsedTime(start).TotalSeconds);
    }

    // Takes the tail in as far as the tokens after it are known: before a pass that would overwrite or overfill it.
    public void Settle(SequenceState state, ReadOnlySpan<int> tokens)
    {
        if (!IsFollowed(state))
            return;
        int rows = Math.Min(state.TokenCount, tokens.Length - 1) - state.MtpCount;
        if (rows <= 0)
            return;
        _batch.Clear();
        AddTail(state, tokens, rows);
        _network.MtpForward(_batch, _network.MtpHidden);
        Drop(state, rows);
    }

    // After a pass that read `segment` of the text: entries for all its tokens whose next one is known. The hidden row of the
    // last one waits in the tail otherwise.
    public void Follow(in Segment segment, ReadOnlySpan<int> tokens)
    {
        SequenceState state = segment.Sequence;
        if (state.MtpTailCapacity == 0 || state.MtpCount != segment.FirstToken)
            return;
        int rows = Math.Min(segment.RowCount, tokens.Length - 1 - segment.FirstToken);
        if (rows > 0)
        {
            _batch.Clear();
            _batch.AddMtp(state, segment.FirstToken, tokens.Slice(segment.FirstToken + 1, rows));
            _network.MtpForward(_batch, _network.HiddenRows(segment.FirstRow, rows));
            state.MtpCount += rows;
        }

        if (rows < segment.RowCount)
            state.MtpTail(0).CopyFrom(_network.HiddenRow(segment.FirstRow + segment.RowCount - 1));
    }

    // After a decoding pass: the hidden rows of its first `count` tokens, which are in the state now, join the tail.
    public void Keep(in Segment segment, int count)
    {
        SequenceState state = segment.Sequence;
        if (!IsFollowed(state))
            return;
        for (int i = 0; i < count; i++)
            state.MtpTail(segment.FirstToken + i - state.MtpCount).CopyFrom(_network.HiddenRow(segment.FirstRow + i));
    }

    public void Dispose() => _logits.Dispose();

    // A sequence that was filled behind the head's back has lost its hidden rows: it is never drafted for.
    private static bool IsFollowed(SequenceState state) => state.MtpTailCapacity > 0 && state.TokenCount - state.MtpCount is var tail && tail >= 0 && tail <= state.MtpTailCapacity;

    private int FirstRows(List<Generation> generations)
    {
        _batch.Clear();
        int count = 0;
        foreach (Generation generation in generations)
        {
            if (generation.Drafts is not { Source: DraftSource.Mtp, Count: > 0 } slot)
                continue;
            SequenceState state = generation.State;
            if (state.MtpCount == state.TokenCount)
            {
                // The entry of the last token is there already: made once more for what it predicts.
                state.MtpCount--;
                state.MtpTail(0).CopyFrom(state.LastHidden);
            }

            int rows = state.TokenCount - state.MtpCount;
            if (_batch.RowCount + rows > _network.MaxRows || !state.TryReserve(state.TokenCount + 1 + slot.Count))
            {
                slot.Count = 0;
                continue;
            }

            AddTail(state, generation.AllTokens, rows);
            _lastRows[count] = _batch.RowCount - 1;
            _drafting[count++] = generation;
        }

        return count;
    }

    // One row each of the sequences that are to be guessed further, from the row of the step before and the draft it gave.
    private int NextRows(int count, int depth)
    {
        _batch.Clear();
        int kept = 0;
        for (int i = 0; i < count; i++)
        {
            Generation generation = _drafting[i];
            if (generation.Drafts!.Count <= depth)
                continue;
            _batch.AddMtp(generation.State, generation.State.TokenCount + depth - 1, generation.Drafts.Tokens.AsSpan(depth - 1, 1));
            _keptRows[kept] = _lastRows[i];
            _drafting[kept++] = generation;
        }

        if (kept > 0)
            _network.KeepMtpRows(_keptRows.AsSpan(0, kept));
        for (int i = 0; i < kept; i++)
            _lastRows[i] = i;
        return kept;
    }

    private void Settled(int count)
    {
        for (int i = 0; i < count; i++)
            _drafting[i].State.MtpCount = _drafting[i].State.TokenCount;
    }

    // Draft `depth` of each: the head's best token. False when the head gives no number to choose by; it is not asked again.
    private bool TryTake(int count, int depth)
    {
        _network.MtpLogits(_lastRows.AsSpan(0, count), _logits.AllFloats);
        int vocabularySize = _vocabulary.VocabularySize;
        for (int i = 0; i < count; i++)
        {
            Span<float> logits = _logits.Span<float>((long)i * vocabularySize * sizeof(float), vocabularySize);
            _vocabulary.Apply(logits);
            try
            {
                float max = LogitScan.BlockMaxima(logits, _maxima);
                _drafting[i].Drafts!.Tokens[depth] = LogitScan.IndexOfMax(logits, _maxima, max);
            }
            catch (InvalidOperationException)
            {
                _isBroken = true;
                for (int j = 0; j < count; j++)
                    _drafting[j].Drafts!.Count = Math.Min(_drafting[j].Drafts!.Count, depth);
                return false;
            }
        }

        return true;
    }

    private void AddTail(SequenceState state, ReadOnlySpan<int> tokens, int rows)
    {
        int firstRow = _batch.RowCount;
        _batch.AddMtp(state, state.MtpCount, tokens.Slice(state.MtpCount + 1, rows));
        for (int i = 0; i < rows; i++)
            _network.MtpRow(firstRow + i).CopyFrom(state.MtpTail(i));
    }

    // The first `rows` of the tail are entries now.
    private static void Drop(SequenceState state, int rows)
    {
        int left = state.TokenCount - state.MtpCount - rows;
        for (int i = 0; i < left; i++)
            state.MtpTail(i).CopyFrom(state.MtpTail(rows + i));
        state.MtpCount += rows;
    }
}
