using Qian.Inference.Model;
using Qian.Kernels;

namespace Qian.Inference.Runtime;

// The one thread that computes. Each turn it puts one row of every decoding request and as much prefill as fits into one
// pass, samples where a request's last row was computed, and hands tokens to the channels at its edge. It knows integers
// and requests; bytes of state are the model's. A request that fails or is cancelled leaves the others alone.
internal sealed class Scheduler : IDisposable
{
    // Rows of logits at a time: the head is read once for all of them, and they take a megabyte each.
    private const int LogitRows = 8;

    private readonly Network _network;
    private readonly ForwardBatch _batch;
    private readonly NativeBuffer _logits;   // [LogitRows, vocabulary]
    private readonly int _vocabularySize;
    private readonly int _maxRows;
    private readonly Thread _thread;
    private readonly Lock _lock = new();
    private readonly Queue<Generation> _arrived = new();
    private readonly SemaphoreSlim _work = new(0);
    private readonly List<Generation> _active = [];
    private readonly List<Generation> _computed = [];      // requests of this pass
    private readonly Generation[] _sampled = new Generation[LogitRows];
    private readonly SequenceState[] _sampledStates = new SequenceState[LogitRows];
    private readonly int[] _scoredRows = new int[LogitRows];
    private bool _prefillStarves;
    private volatile bool _stopped;

    private const string Empty = "There is nothing to continue: append at least one token first.";
    private const string OutOfMemory = "The memory for keys and values is spent. Close another session, use a shorter context, or a smaller KV type (q8_0).";

    public Scheduler(Network network, int vocabularySize)
    {
        _network = network;
        _maxRows = network.MaxRows;
        _vocabularySize = vocabularySize;
        _batch = new ForwardBatch(_maxRows);
        _logits = NativeBuffer.AllocateFloats((long)LogitRows * vocabularySize);
        _thread = new Thread(Loop, 4 << 20) { IsBackground = true, Name = "qian compute" };
        _thread.Start();
    }

    public void Submit(Generation generation)
    {
        lock (_lock)
        {
            // Under the lock, so that nobody is left waiting in a queue that Dispose has emptied.
            ObjectDisposedException.ThrowIf(_stopped, this);
            _arrived.Enqueue(generation);
            _work.Release();
        }
    }

    public void Dispose()
    {
        lock (_lock)
        {
            if (_stopped)
                return;
            _stopped = true;
            _work.Release();
        }

        _thread.Join();
        foreach (Generation generation in _active)
            generation.Complete(new ObjectDisposedException(nameof(Engine)));
        while (_arrived.TryDequeue(out Generation? generation))
            generation.Complete(new ObjectDisposedException(nameof(Engine)));
        _work.Dispose();
        _logits.Dispose();
    }

    private void Loop()
    {
        while (!_stopped)
        {
            if (_active.Count == 0)
                _work.Wait();
            Admit();
            DropCancelled();
            if (_active.Count > 0 && !_stopped)
                Pass();
        }
    }

    private void Admit()
    {
        lock (_lock)
        {
            while (_arrived.TryDequeue(out Generation? generation))
                _active.Add(generation);
        }
    }

    private void DropCancelled()
    {
        for (int i = _active.Count - 1; i >= 0; i--)
        {
            if (_active[i].IsCancelled)
                Finish(_active[i], new OperationCanceledException());
        }
    }

    private void Pass()
    {
        _batch.Clear();
        _computed.Clear();
        // Somebody is reading the streams that decode, so they go first, unless they left no room for any prefill last time.
        bool prefillsFirst = _prefillStarves;
        _prefillStarves = false;
        AddRows(isPrefill: prefillsFirst);
        AddRows(isPrefill: !prefillsFirst);
        if (_computed.Count == 0)
            return;
        try
        {
            if (_batch.RowCount > 0)
                _network.Forward(_batch);
            ScorePrompts();
            Sample();
        }
        catch (Exception error)
        {
            // The states of this pass are undefined now; the requests in it fail, whoever else is waiting goes on.
            foreach (Generation generation in _computed)
                Finish(generation, error);
        }
    }

    // One row of every decoding request, or prefill with the rows that are left. Prefill is cut only at multiples of the delta
    // rule's chunk from where its run began, so that cuts never change results.
    private void AddRows(bool isPrefill)
    {
        bool hasRows = false;
        for (int i = 0; i < _active.Count; i++)
        {
            Generation generation = _active[i];
            ReadOnlySpan<int> pending = generation.PendingTokens;
            if (pending.Length > 1 != isPrefill)
                continue;
            int room = _maxRows - _batch.RowCount;
            int count = pending.Length <= room ? pending.Length : room / Network.DeltaChunk * Network.DeltaChunk;
            if (count == 0 && pending.Length > 0)
            {
                _prefillStarves |= isPrefill && !hasRows;
                continue;
            }

            if (Refusal(generation, count) is { } refusal)
            {
                Finish(generation, refusal);
                i--;
                continue;
            }

            // Nothing to compute: a session that was prefilled goes on from its last hidden row.
            generation.RowCount = count;
            if (count > 0)
                generation.FirstRow = _batch.Add(generation.State, pending[..count]);
            _computed.Add(generation);
            hasRows = true;
        }
    }

    // Why this request cannot take `count` more tokens; null when their room is reserved. Whatever goes wrong here is that
    // request's failure: an exception that left this thread would end the process.
    private static Exception? Refusal(Generation generation, int count)
    {
        if (generation.IsEmpty)
            return new BadRequestException(Empty);
        try
        {
            return generation.State.TryReserve(generation.State.TokenCount + count) ? null : new BadRequestException(OutOfMemory);
        }
        catch (Exception error)
        {
            return error;
        }
    }

    // Before anything is sampled: the rows' hidden values are those of the pass just made.
    private void ScorePrompts()
    {
        foreach (Generation generation in _computed)
        {
            if (generation.Scorer is null)
                continue;
            for (int first = 0; first < generation.RowCount; first += LogitRows)
            {
                int count = Math.Min(LogitRows, generation.RowCount - first);
                for (int i = 0; i < count; i++)
                    _scoredRows[i] = generation.FirstRow + first + i;
                _network.Logits(_scoredRows.AsSpan(0, count), _logits.AllFloats);
                for (int i = 0; i < count; i++)
                    generation.Score(first + i, _logits.Span<float>((long)i * _vocabularySize * sizeof(float), _vocabularySize));
            }
        }
    }

    private void Sample()
    {
        int waiting = 0;
        for (int i = 0; i < _computed.Count; i++)
        {
            Generation generation = _computed[i];
            if (generation.PendingTokens.Length > 0)
                continue;
            if (!generation.Samples)
            {
                Finish(generation, null);
                continue;
            }

            _sampledStates[waiting] = generation.State;
            _sampled[waiting++] = generation;
            if (waiting == LogitRows)
                waiting = SampleRows(waiting);
        }

        SampleRows(waiting);
    }

    private int SampleRows(int count)
    {
        if (count == 0)
            return 0;
        _network.NextLogits(_sampledStates.AsSpan(0, count), _logits.AllFloats);
        for (int i = 0; i < count; i++)
        {
            Generation generation = _sampled[i];
            try
            {
                if (generation.Step(_logits.Span<float>((long)i * _vocabularySize * sizeof(float), _vocabularySize)))
                    Finish(generation, null);
            }
            catch (Exception error)
            {
                Finish(generation, error);
            }
        }

        Array.Clear(_sampled);
        Array.Clear(_sampledStates);
        return 0;
    }

    private void Finish(Generation generation, Exception? error)
    {
        _active.Remove(generation);
        generation.Complete(error);
    }
}
