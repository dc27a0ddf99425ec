using System.Diagnostics;
using Qian.Inference.Model;

namespace Qian.Inference.Runtime;

// The one thread that computes. Each turn it puts one row of every decoding request and as much prefill as fits into one
// pass, samples where a request's last row was computed, and hands tokens to the channels at its edge. It knows integers
// and requests; bytes of state are the model's. A request that fails or is cancelled leaves the others alone.
internal sealed class Scheduler : IDisposable
{
    private readonly Network _network;
    private readonly ForwardBatch _batch;
    private readonly Speculator? _speculator;
    private readonly PassSampler _sampler;
    private readonly int[] _trialTokens = new int[Network.MaxTrialRun];
    private readonly int _maxRows;
    private readonly Thread _thread;
    private readonly Lock _lock = new();
    private readonly Queue<Generation> _arrived = new();
    private readonly SemaphoreSlim _work = new(0);
    private readonly List<Generation> _active = [];
    private readonly List<Generation> _computed = [];      // requests of this pass
    private bool _prefillStarves;
    private int _decodingCount;   // requests of this pass that decode
    private volatile bool _stopped;

    private const string Empty = "There is nothing to continue: append at least one token first.";
    private const string OutOfMemory = "The memory for keys and values is spent. Close another session, use a shorter context, or a smaller KV type (q8_0).";

    // Takes over the speculator; without one nothing is drafted.
    public Scheduler(Network network, int vocabularySize, Speculator? speculator = null)
    {
        _network = network;
        _maxRows = network.MaxRows;
        _speculator = speculator;
        _batch = new ForwardBatch(_maxRows);
        _sampler = new PassSampler(network, speculator, vocabularySize, Finish);
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
        _sampler.Dispose();
        _speculator?.Dispose();
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
        _speculator?.Propose(_active);
        _batch.Clear();
        _computed.Clear();
        // Somebody is reading the streams that decode, so they go first, unless they left no room for any prefill last time.
        bool prefillsFirst = _prefillStarves;
        _prefillStarves = false;
        _decodingCount = 0;
        AddRows(isPrefill: prefillsFirst);
        AddRows(isPrefill: !prefillsFirst);
        if (_computed.Count == 0)
            return;
        try
        {
            _speculator?.BeforePass(_computed);
            long start = Stopwatch.GetTimestamp();
            if (_batch.RowCount > 0)
                _network.Forward(_batch);
            _sampler.Score(_batch, _computed);
            _speculator?.AfterPass(_batch, _computed);
            _sampler.Sample(_batch, _computed);
            if (_decodingCount == _computed.Count)
                _speculator?.Observe(_decodingCount, _batch.RowCount, Stopwatch.GetElapsedTime(start).TotalSeconds);
        }
        catch (Exception error)
        {
            // The states of this pass are undefined now; the requests in it fail, whoever else is waiting goes on.
            foreach (Generation generation in _computed)
                Finish(generation, error);
        }
    }

    // One row of every decoding request and its drafts, or prefill with the rows that are left. Prefill is cut only at multiples of the delta
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

            int draftCount = generation.IsDecoding ? DraftRoom(generation, room) : 0;
            if (draftCount > 0)
            {
                count += draftCount;
                _batch.AddTrial(generation.State, TrialTokens(pending[0], generation.Drafts!));
            }
            else if (count > 0)
            {
                // Nothing to compute otherwise: a session that was prefilled goes on from its last hidden row.
                _batch.Add(generation.State, pending[..count]);
            }

            generation.BeginPass(count > 0 ? _batch.SegmentCount - 1 : -1, count, draftCount > 0);
            _decodingCount += generation.DecodesInPass ? 1 : 0;
            _computed.Add(generation);
            hasRows = true;
        }
    }

    // Drafts of this request that the pass takes: none where they do not fit, since their row is the request's due.
    private int DraftRoom(Generation generation, int room)
    {
        if (generation.Drafts is not { Count: > 0 } drafts)
            return 0;
        int rows = 1 + drafts.Count;
        if (rows > room || _batch.TrialRowCount + rows > _network.MaxTrialRows || !generation.State.TryReserve(generation.State.TokenCount + rows))
        {
            drafts.Clear();
            return 0;
        }

        drafts.Submit();
        return drafts.Count;
    }

    private ReadOnlySpan<int> TrialTokens(int pending, DraftSlot drafts)
    {
        _trialTokens[0] = pending;
        drafts.Tokens.AsSpan(0, drafts.Count).CopyTo(_trialTokens.AsSpan(1));
        return _trialTokens.AsSpan(0, 1 + drafts.Count);
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

    private void Finish(Generation generation, Exception? error)
    {
        _active.Remove(generation);
        generation.Complete(error);
    }
}
