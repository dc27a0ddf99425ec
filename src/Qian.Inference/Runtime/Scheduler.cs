using System.Diagnostics;
using Qian.Inference.Model;

namespace Qian.Inference.Runtime;

// The one thread that computes. Each turn it puts one row of every decoding request and as much prefill as may go beside into one
// pass, samples where a request's last row was computed, and hands tokens to the channels at its edge. States worth keeping go
// to the prefix store on the way. When the blocks for keys and values run out, kept states go first, then idle sessions', then the
// youngest request is set aside: its state is dropped and computed again later, to the same bits. It knows integers and requests; bytes of state are
// the model's. A request that fails or is cancelled leaves the others alone.
internal sealed class Scheduler : IDisposable
{
    private readonly Network _network;
    private readonly ForwardBatch _batch;
    private readonly Speculator? _speculator;
    private readonly PassSampler _sampler;
    private readonly PrefixStore _store;
    private readonly KeepPlan _plan;
    private readonly Func<bool> _tryGiveUpIdle;
    private readonly PrefillPace _pace = new();
    private readonly int[] _trialTokens = new int[Network.MaxTrialRun];
    private readonly int _maxRows;
    private readonly Thread _thread;
    private readonly Lock _lock = new();
    private readonly Queue<Generation> _arrived = new();
    private readonly SemaphoreSlim _work = new(0);
    private readonly List<Generation> _active = [];        // by arrival
    private readonly List<Generation> _aside = [];         // by arrival: without state until there is room
    private readonly List<Generation> _computed = [];      // requests of this pass
    private Generation? _starved;      // found no room in the last pass
    private bool _prefillStarves;
    private int _decodingCount;   // requests of this pass that decode
    private int _promptRows;      // rows of this pass that do not
    private long _arrivals;
    private volatile bool _stopped;
    private long _setAsideCount;

    private const int MostPatience = 5000;   // milliseconds

    private const string Empty = "There is nothing to continue: append at least one token first.";
    private const string OutOfMemory = "The memory for keys and values is spent. Close another session, use a shorter context, or a smaller KV type (q8_0).";

    // Takes over the speculator; without one nothing is drafted. `tryGiveUpIdle`: frees what a session holds that nothing runs in.
    public Scheduler(Network network, int vocabularySize, PrefixStore store, KeepPlan plan, Func<bool> tryGiveUpIdle, Speculator? speculator = null)
    {
        _network = network;
        _store = store;
        _plan = plan;
        _tryGiveUpIdle = tryGiveUpIdle;
        _maxRows = network.MaxRows;
        _speculator = speculator;
        _batch = new ForwardBatch(_maxRows);
        _sampler = new PassSampler(network, speculator, vocabularySize, Finish);
        _thread = new Thread(Loop, 4 << 20) { IsBackground = true, Name = "qian compute" };
        _thread.Start();
    }

    // Times that a request gave up its state for others.
    public long SetAsideCount => Interlocked.Read(ref _setAsideCount);

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
        foreach (Generation generation in _active.Concat(_aside))
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
            if (_active.Count == 0 && _aside.Count == 0)
                _work.Wait();
            Admit();
            DropCancelled(_active);
            DropCancelled(_aside);
            Resume();
            if (_active.Count > 0 && !_stopped)
                Pass();
        }
    }

    // Who comes while others wait for room waits behind them.
    private void Admit()
    {
        lock (_lock)
        {
            while (_arrived.TryDequeue(out Generation? generation))
            {
                generation.Arrival = _arrivals++;
                (_aside.Count > 0 ? _aside : _active).Add(generation);
            }
        }
    }

    private void DropCancelled(List<Generation> generations)
    {
        for (int i = generations.Count - 1; i >= 0; i--)
        {
            if (generations[i].IsCancelled)
                Finish(generations[i], new OperationCanceledException());
        }
    }

    // The oldest of those aside goes on when there is room for its text and some more.
    private void Resume()
    {
        while (_aside.Count > 0 && (_active.Count == 0 || _store.RoomInBlocks >= _aside[0].Timeline.TotalCount / Network.BlockTokens + 2 + _active.Count))
        {
            Generation generation = _aside[0];
            _aside.RemoveAt(0);
            int index = _active.FindIndex(other => other.Arrival > generation.Arrival);
            _active.Insert(index < 0 ? _active.Count : index, generation);
        }
    }

    private void SetAside(Generation generation)
    {
        _active.Remove(generation);
        generation.State.Reset();
        generation.IsBegun = false;
        int index = _aside.FindIndex(other => other.Arrival > generation.Arrival);
        _aside.Insert(index < 0 ? _aside.Count : index, generation);
        Interlocked.Increment(ref _setAsideCount);
    }

    private void Pass()
    {
        foreach (Generation generation in _computed)
            generation.IsInPass = false;
        if (_starved is { } starved && Youngest(starved.Arrival) is { } youngest)
            SetAside(youngest);
        _starved = null;
        _speculator?.Propose(_active);
        _batch.Clear();
        _computed.Clear();
        // Somebody is reading the streams that decode, so they go first, unless they left no room for any prefill last time.
        bool prefillsFirst = _prefillStarves;
        _prefillStarves = false;
        _decodingCount = 0;
        _promptRows = 0;
        AddRows(isPrefill: prefillsFirst);
        if (prefillsFirst || _computed.Count == 0 || !_pace.WantsDecode)
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
            KeepStates();
            _sampler.Sample(_batch, _computed);
            Observe(Stopwatch.GetElapsedTime(start).TotalSeconds);
        }
        catch (Exception error)
        {
            // The states of this pass are undefined now; the requests in it fail, whoever else is waiting goes on.
            foreach (Generation generation in _computed)
            {
                generation.Capture?.Dispose();
                generation.Capture = null;
                Finish(generation, error);
            }
        }
    }

    private void Observe(double seconds)
    {
        if (_promptRows == 0 && _batch.RowCount > 0)
        {
            _pace.ObserveDecode(seconds);
            _speculator?.Observe(_decodingCount, _batch.RowCount, seconds);
        }
        else if (_decodingCount > 0 && _promptRows > 0)
        {
            _pace.ObserveMixed(_promptRows, seconds);
        }
    }

    // One row of every decoding request and its drafts, or prefill with the rows that are left, shared out evenly.
    private void AddRows(bool isPrefill)
    {
        bool hasRows = false;
        int waiting = 0;
        foreach (Generation generation in _active)
            waiting += generation.PendingTokens.Length > 1 ? 1 : 0;
        int room = isPrefill && _active.Count > waiting ? Math.Min(_pace.RowLimit, _maxRows) : _maxRows;
        for (int i = 0; i < _active.Count; i++)
        {
            Generation generation = _active[i];
            if (generation.PendingTokens.Length > 1 != isPrefill || generation.IsInPass)
                continue;
            int free = Math.Min(room - (isPrefill ? _promptRows : 0), _maxRows - _batch.RowCount);
            if (free <= 0 && generation.PendingTokens.Length > 0)
            {
                _prefillStarves |= isPrefill && !hasRows;
                continue;
            }

            if (!TryBegin(generation))
            {
                waiting--;
                continue;
            }

            ReadOnlySpan<int> pending = generation.PendingTokens;
            int count = Math.Min(pending.Length, isPrefill ? Math.Max(1, free / Math.Max(1, waiting--)) : free);
            count = CutAtPlaces(generation, count, out int captureRows);
            if (generation.IsEmpty)
            {
                Finish(generation, new BadRequestException(Empty));
                i--;
                continue;
            }

            if (!TryReserve(generation, count, out Exception? refusal))
            {
                if (refusal is not null)
                    Finish(generation, refusal);
                i -= _active.Contains(generation) ? 0 : 1;
                continue;
            }

            int draftCount = generation.IsDecoding ? DraftRoom(generation, free) : 0;
            if (draftCount > 0)
            {
                count += draftCount;
                _batch.AddTrial(generation.State, TrialTokens(pending[0], generation.Drafts!));
            }
            else if (captureRows > 0)
            {
                generation.Capture = generation.State.NewCapture();
                _batch.Add(generation.State, pending[..count], generation.Capture, captureRows);
            }
            else if (count > 0)
            {
                // Nothing to compute otherwise: a session that was prefilled goes on from its last hidden row.
                _batch.Add(generation.State, pending[..count]);
            }

            generation.BeginPass(count > 0 ? _batch.SegmentCount - 1 : -1, count, draftCount > 0);
            _decodingCount += generation.DecodesInPass ? 1 : 0;
            _promptRows += generation.DecodesInPass ? 0 : count;
            _computed.Add(generation);
            hasRows = true;
        }
    }

    // Asks the store what is known of the text. False: another request is reading the same text, whose states will serve this one too.
    private bool TryBegin(Generation generation)
    {
        if (generation.IsBegun)
            return true;
        if (generation.Scorer is null && _store.IsOn)
        {
            if (IsBeingRead(generation))
                return false;
            PrefixMatch match = _store.Restore(generation.Timeline.Root, generation.State, generation.AllTokens);
            generation.WhenBegun?.Invoke(match, generation.State.TokenCount);
            generation.Places = _plan.Places(generation.AllTokens, generation.State.TokenCount);
        }
        else
        {
            generation.WhenBegun?.Invoke(PrefixMatch.Off, generation.State.TokenCount);
            generation.Places = [];
        }

        generation.NextPlace = 0;
        generation.IsBegun = true;
        return true;
    }

    private bool IsBeingRead(Generation generation)
    {
        foreach (Generation other in _active)
        {
            if (!other.IsBegun || other.Arrival > generation.Arrival || other.Timeline.Root != generation.Timeline.Root || other.Places.Count == 0)
                continue;
            int shared = other.AllTokens.CommonPrefixLength(generation.AllTokens);
            for (int i = other.NextPlace; i < other.Places.Count && other.Places[i].TokenCount <= shared; i++)
            {
                if (other.Places[i].TokenCount > generation.State.TokenCount)
                    return true;
            }
        }

        return false;
    }

    // A pass keeps at most two states of a request: one in the middle of its run, one at its end.
    private static int CutAtPlaces(Generation generation, int count, out int captureRows)
    {
        captureRows = 0;
        int computed = generation.State.TokenCount;
        for (int i = generation.NextPlace; i < generation.Places.Count; i++)
        {
            int rows = generation.Places[i].TokenCount - computed;
            if (rows >= count)
                break;
            if (captureRows > 0)
                return rows;
            captureRows = rows;
        }

        return count;
    }

    // Makes room for `count` more tokens: kept states go first. False without a refusal when the request has to wait.
    private bool TryReserve(Generation generation, int count, out Exception? refusal)
    {
        refusal = null;
        int waited = 0;
        try
        {
            while (!generation.State.TryReserve(generation.State.TokenCount + count))
            {
                if (_store.TryEvict() || _tryGiveUpIdle())
                    continue;
                if (Youngest(generation.Arrival) is { } youngest)
                    SetAside(youngest);
                else if (_computed.Count > 0)
                    return Starve(generation);
                else if (_active[0] != generation)
                    SetAside(generation);
                else if (waited++ < MostPatience && !_stopped && !generation.IsCancelled)
                    // A state that is on its way to or from disk, a session that is being closed.
                    Thread.Sleep(1);
                else
                    refusal = new BadRequestException(OutOfMemory);
                if (refusal is not null || !_active.Contains(generation))
                    return false;
            }

            return true;
        }
        catch (Exception error)
        {
            // An exception that left this thread would end the process.
            refusal = error;
            return false;
        }
    }

    private bool Starve(Generation generation)
    {
        if (_starved is null || generation.Arrival < _starved.Arrival)
            _starved = generation;
        return false;
    }

    // The latest arrival after `arrival` that holds memory and has no rows in this pass.
    private Generation? Youngest(long arrival)
    {
        for (int i = _active.Count - 1; i >= 0 && _active[i].Arrival > arrival; i--)
        {
            if (_active[i].State.BlockCount > 0 && !_active[i].IsInPass)
                return _active[i];
        }

        return null;
    }

    // States of this pass at the places that were planned.
    private void KeepStates()
    {
        foreach (Generation generation in _computed)
        {
            SequenceState state = generation.State;
            while (generation.NextPlace < generation.Places.Count && generation.Places[generation.NextPlace] is var place && place.TokenCount <= state.TokenCount)
            {
                generation.NextPlace++;
                ReadOnlySpan<int> tokens = generation.AllTokens[..place.TokenCount];
                if (place.TokenCount == state.TokenCount)
                {
                    if (_store.Lacks(generation.Timeline.Root, tokens))
                        _store.Keep(generation.Timeline.Root, state.Fork(), tokens, place.IsMinor);
                }
                else if (generation.Capture is { } capture)
                {
                    capture.Adopt(state, place.TokenCount);
                    _store.Keep(generation.Timeline.Root, capture, tokens, place.IsMinor);
                    generation.Capture = null;
                }
            }
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

    private void Finish(Generation generation, Exception? error)
    {
        _active.Remove(generation);
        _aside.Remove(generation);
        if (error is null or OperationCanceledException)
            KeepLast(generation);
        generation.Complete(error);
    }

    // What comes next will most likely continue where the reply ended.
    private void KeepLast(Generation generation)
    {
        try
        {
            SequenceState state = generation.State;
            if (generation.IsBegun && generation.Samples && state.TokenCount > 0 && _store.Lacks(generation.Timeline.Root, generation.AllTokens[..state.TokenCount]))
                _store.Keep(generation.Timeline.Root, state.Fork(), generation.AllTokens[..state.TokenCount], isMinor: false);
        }
        catch (Exception)
        {
            // The reply is whole without.
        }
    }
}
