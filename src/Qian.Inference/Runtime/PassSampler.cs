using Qian.Inference.Model;
using Qian.Kernels;

namespace Qian.Inference.Runtime;

// What follows a pass: logits for the rows that want a token or a score, so many at a time as one reading of the head serves,
// and the picks. A request with drafts has a row per draft and one more: it goes on from row to row as long as each pick is the draft
// that the next row stands for, and then tells the network how many of them count. Rows after the first wrong draft are
// left out where they have not been computed yet.
internal sealed class PassSampler : IDisposable
{
    private readonly Network _network;
    private readonly Speculator? _speculator;
    private readonly NativeBuffer _logits;   // [LogitRows, vocabulary]
    private readonly int _vocabularySize;
    private readonly Action<Generation, Exception?> _finish;
    private readonly List<Generation> _waiting = [];
    private readonly LogitRow[] _rows = new LogitRow[Network.LogitRows];
    private readonly Generation[] _owners = new Generation[Network.LogitRows];
    private readonly int[] _scoredRows = new int[Network.LogitRows];

    // `finish` is called once for each request that ended, when its state is in order.
    public PassSampler(Network network, Speculator? speculator, int vocabularySize, Action<Generation, Exception?> finish)
    {
        _network = network;
        _speculator = speculator;
        _vocabularySize = vocabularySize;
        _finish = finish;
        _logits = NativeBuffer.AllocateFloats((long)Network.LogitRows * vocabularySize);
    }

    // All requests of the pass whose text is computed to its end.
    public void Sample(ForwardBatch batch, List<Generation> computed)
    {
        _waiting.Clear();
        for (int i = 0; i < computed.Count; i++)
        {
            Generation generation = computed[i];
            if (generation.RowsToPick == 0)
                continue;
            if (generation.Samples)
                _waiting.Add(generation);
            else
                _finish(generation, null);
        }

        while (Gather(batch) is > 0 and int count)
        {
            _network.NextLogits(_rows.AsSpan(0, count), _logits.AllFloats);
            Pick(batch, count);
        }

        Array.Clear(_rows);
        Array.Clear(_owners);
    }

    // The requests that want to know how probable each token of their prompt is.
    public void Score(ForwardBatch batch, List<Generation> computed)
    {
        foreach (Generation generation in computed)
        {
            if (generation.Scorer is null || generation.SegmentIndex < 0 || generation.DecodesInPass)
                continue;
            Segment segment = batch.Segments[generation.SegmentIndex];
            for (int first = 0; first < segment.RowCount; first += _scoredRows.Length)
            {
                int count = Math.Min(_scoredRows.Length, segment.RowCount - first);
                for (int i = 0; i < count; i++)
                    _scoredRows[i] = segment.FirstRow + first + i;
                _network.Logits(_scoredRows.AsSpan(0, count), _logits.AllFloats);
                for (int i = 0; i < count; i++)
                    generation.Score(segment.FirstToken + first + i, Row(i));
            }
        }
    }

    public void Dispose() => _logits.Dispose();

    private Span<float> Row(int index) => _logits.Span<float>((long)index * _vocabularySize * sizeof(float), _vocabularySize);

    // The next rows of every request that still goes on.
    private int Gather(ForwardBatch batch)
    {
        int count = 0;
        foreach (Generation generation in _waiting)
        {
            for (int i = generation.PickedRows; i < generation.RowsToPick && count < _rows.Length; i++)
            {
                _rows[count] = new LogitRow(generation.State, generation.IsTrial ? batch.Segments[generation.SegmentIndex].FirstRow + i : null);
                _owners[count++] = generation;
            }
        }

        return count;
    }

    private void Pick(ForwardBatch batch, int count)
    {
        for (int i = 0; i < count; i++)
        {
            Generation generation = _owners[i];
            if (generation.PickedRows == generation.RowsToPick)
                continue;
            Exception? error = null;
            try
            {
                generation.Step(Row(i));
            }
            catch (Exception failure)
            {
                error = failure;
                generation.EndRun();
            }

            if (generation.PickedRows < generation.RowsToPick)
                continue;
            Settle(batch, generation);
            if (error is not null || generation.IsFinished)
                _finish(generation, error);
        }
    }

    // As many rows count as tokens were picked: the last token picked is the one that the next pass begins with.
    private void Settle(ForwardBatch batch, Generation generation)
    {
        if (generation.SegmentIndex < 0 || !generation.DecodesInPass)
            return;
        Segment segment = batch.Segments[generation.SegmentIndex];
        if (generation.IsTrial)
            _network.Commit(segment, generation.PickedRows);
        _speculator?.Keep(segment, generation.IsTrial ? generation.PickedRows : segment.RowCount);
    }
}
