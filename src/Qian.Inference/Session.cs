using System.Runtime.CompilerServices;
using Qian.Inference.Runtime;

namespace Qian.Inference;

/// <summary>
/// One timeline of tokens with its model state. Append text or tokens, then generate; what was computed stays computed, unless
/// running requests need an idle session's memory: then it is computed again, to the same bits, when the session goes on.
/// One operation at a time: a session is not thread-safe, different sessions of one engine may be used side by side.
/// </summary>
public sealed class Session : IDisposable
{
    // What _busy may be; Taken: for a moment, by the compute thread.
    private const int Idle = 0, Used = 1, Taken = 2;

    private readonly Engine _engine;
    private readonly Timeline _timeline;
    private int _busy;
    private int _isUseKnown;
    private volatile bool _disposed;
    private volatile Generation? _running;
    private volatile Tuple<PrefixMatch, int>? _lastUse;

    internal Session(Engine engine, Timeline timeline, Adapter? adapter)
    {
        _engine = engine;
        _timeline = timeline;
        Adapter = adapter;
        engine.Remember(this);
    }

    // Milliseconds on the system's clock.
    internal long LastUsed { get; private set; } = Environment.TickCount64;

    /// <summary>What its tokens are computed with beside the model's weights, forks included; null for the model as it is.</summary>
    public Adapter? Adapter { get; }

    /// <summary>All tokens: appended and generated.</summary>
    public IReadOnlyList<int> Tokens => _timeline.Tokens;

    /// <summary>Number of tokens, computed or not.</summary>
    public int TokenCount => _timeline.TotalCount;

    /// <summary>Tokens whose state has been computed; the rest is computed when generation starts.</summary>
    public int ComputedCount => _timeline.ComputedCount;

    /// <summary>
    /// What of the tokens was known when the last computing of appended ones began: from this session before, or from the engine's
    /// prefix store (<see cref="EngineOptions.PrefixCacheBytes"/>). Known once the first token came.
    /// </summary>
    public PrefixUse PrefixUse => _lastUse is { } use ? _engine.Describe(use.Item1, use.Item2) : PrefixUse.Nothing;

    // Its count alone.
    internal int CachedCount => _lastUse?.Item2 ?? 0;

    /// <summary>Appends token ids.</summary>
    /// <exception cref="BadRequestException">An id is not in the vocabulary, or the context would overflow.</exception>
    public void Append(params ReadOnlySpan<int> tokenIds)
    {
        foreach (int id in tokenIds)
        {
            if ((uint)id >= (uint)_engine.Config.VocabularySize)
                throw new BadRequestException($"token id {id} is not in the vocabulary of {_engine.Config.VocabularySize}.");
        }

        if (TokenCount + tokenIds.Length > _engine.ContextLength)
        {
            throw new BadRequestException(
                $"the context holds {_engine.ContextLength} tokens: {TokenCount} are taken and {tokenIds.Length} more were given. Shorten the text, or load the model with a longer context.");
        }

        Exclusive(true);
        _timeline.Append(tokenIds);
        Exclusive(false);
    }

    /// <summary>Appends text, as it is: no template, and text that spells a control token stays text.</summary>
    /// <exception cref="BadRequestException">The context would overflow.</exception>
    public void Append(string text) => Append(_engine.Tokenizer.Encode(text));

    /// <summary>Computes everything appended so far, so that the first token of a later generation comes at once.</summary>
    public async Task PrefillAsync(CancellationToken cancellationToken = default)
    {
        if (ComputedCount == TokenCount)
            return;
        await foreach (GeneratedToken _ in Run(new Generation(_timeline, cancellationToken) { WhenBegun = WhenBegun() }, CancellationToken.None).ConfigureAwait(false))
        {
            // A prefill yields no tokens; the stream ends when it is done.
        }
    }

    // Computes everything appended so far, and how probable each of those tokens was after the ones before it. Alternatives as
    // many as asked for. Tokens computed earlier are not scored.
    internal async Task<IReadOnlyList<GeneratedToken>> ScoreAsync(int alternativeCount, CancellationToken cancellationToken)
    {
        PromptScorer scorer = _engine.NewScorer(alternativeCount);
        await foreach (GeneratedToken _ in Run(new Generation(_timeline, cancellationToken) { Scorer = scorer, WhenBegun = WhenBegun() }, CancellationToken.None).ConfigureAwait(false))
        {
            // As in PrefillAsync.
        }

        return scorer.Scores;
    }

    /// <summary>Generates until the model ends its turn or a limit of <paramref name="options"/> is met.</summary>
    /// <param name="options">How to sample; null takes the checkpoint's own defaults.</param>
    /// <param name="cancellationToken">Stops within one step; what was generated so far stays in the session.</param>
    /// <exception cref="BadRequestException">An option is out of range, nothing was appended, or the session's adapter was unloaded.</exception>
    public IAsyncEnumerable<GeneratedToken> GenerateAsync(SamplingOptions? options = null, CancellationToken cancellationToken = default) =>
        Run(_engine.NewGeneration(_timeline, options, cancellationToken, whenBegun: WhenBegun()), CancellationToken.None);

    // As a turn of a conversation: with the preset of its mode, and the thinking counted from the start when the prompt opened it.
    internal IAsyncEnumerable<GeneratedToken> GenerateAsync(SamplingOptions? options, SamplingMode mode, bool insideThinking, CancellationToken cancellationToken) =>
        Run(_engine.NewGeneration(_timeline, options, cancellationToken, mode, insideThinking, WhenBegun()), CancellationToken.None);

    /// <summary>An independent continuation of the same text: keys and values are shared, the recurrent state is copied.</summary>
    /// <exception cref="BadRequestException">The session's adapter was unloaded.</exception>
    public Session Fork()
    {
        Adapter?.RequireLoaded();
        Exclusive(true);
        try
        {
            return new Session(_engine, _timeline.Fork(), Adapter);
        }
        finally
        {
            Exclusive(false);
        }
    }

    // Keeps the first `count` tokens and their state; false, and nothing is changed, when more than these are computed already.
    internal bool TryTruncate(int count)
    {
        Exclusive(true);
        bool fits = count >= ComputedCount;
        if (fits)
            _timeline.Truncate(count);
        Exclusive(false);
        return fits;
    }

    /// <summary>Forgets everything.</summary>
    public void Clear()
    {
        Exclusive(true);
        _timeline.Clear();
        Exclusive(false);
    }

    /// <summary>Gives the state's memory back. A generation that is still running is cancelled first.</summary>
    public void Dispose()
    {
        _disposed = true;
        _running?.Cancel();
        FreeIfIdle();
    }

    // Null where nothing was appended since the last time: then it is still the same prompt.
    private Action<PrefixMatch, int>? WhenBegun() => ComputedCount == TokenCount && TokenCount > 0 ? null : (match, cached) =>
    {
        // Set aside and begun again: that is no use of the prompt.
        if (Interlocked.Exchange(ref _isUseKnown, 1) == 0)
            _lastUse = Tuple.Create(match, cached);
    };

    private async IAsyncEnumerable<GeneratedToken> Run(Generation generation, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        Adapter?.RequireLoaded();
        Exclusive(true);
        _running = generation;
        _isUseKnown = 0;
        if (_disposed)
            generation.Cancel();
        bool submitted = false;
        using CancellationTokenRegistration registration = cancellationToken.UnsafeRegister(static g => ((Generation)g!).Cancel(), generation);
        try
        {
            if (generation.Scorer is null && !generation.IsCancelled)
                await _engine.WarmAsync(_timeline, CancellationToken.None).ConfigureAwait(false);
            _engine.Submit(generation);
            submitted = true;
            await foreach (GeneratedToken token in generation.Output.Reader.ReadAllAsync(CancellationToken.None).ConfigureAwait(false))
                yield return token;
        }
        finally
        {
            // A consumer that leaves early (break) must not leave the scheduler writing into this session.
            if (submitted)
                await generation.StopAsync().ConfigureAwait(false);
            _running = null;
            Exclusive(false);
        }
    }

    // Drops the state for those that need its memory; the tokens stay, and are computed again when the session goes on. False when
    // it is in use or has none.
    internal bool TryGiveUpState()
    {
        if (Interlocked.CompareExchange(ref _busy, Taken, Idle) != Idle)
            return false;
        bool had = !_disposed && _timeline.State.BlockCount > 0;
        if (had)
            _timeline.State.Reset();
        Interlocked.Exchange(ref _busy, Idle);
        if (_disposed)
            FreeIfIdle();
        return had;
    }

    private void Exclusive(bool enter)
    {
        if (enter)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            var spin = new SpinWait();
            for (int use; (use = Interlocked.CompareExchange(ref _busy, Used, Idle)) != Idle; spin.SpinOnce())
            {
                if (use == Used)
                    throw new InvalidOperationException("this session is generating; a session does one thing at a time (Fork it to continue twice)");
            }

            return;
        }

        LastUsed = Environment.TickCount64;
        Interlocked.Exchange(ref _busy, Idle);
        if (_disposed)
            FreeIfIdle();
    }

    // The compute thread writes into the state while a generation runs, so whoever comes last frees it: Dispose, or the end
    // of that generation. The session stays busy for ever then.
    private void FreeIfIdle()
    {
        if (Interlocked.Exchange(ref _busy, Used) != Idle)
            return;
        _timeline.Dispose();
        _engine.Forget(this);
    }
}
