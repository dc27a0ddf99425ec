using System.Collections.Concurrent;
using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Text;
using System.Threading.Channels;
using Qian.Inference;
using Qian.Inference.Chat;
using Qian.Inference.Chat.Output;
using Qian.Inference.Runtime;
using Qian.Inference.Text;
using Qian.Server.Http;
using Qian.Server.Observation;

namespace Qian.Server.Replies;

// One request being answered: waits for its places, reads its prompts, generates its choices side by side and hands out what
// they bring as one stream of pieces. It ends with the request: disposing cancels what still runs and waits until the
// scheduler has let go, so that no place and no memory outlives a client. It knows no dialect.
internal sealed class ReplyRun : IAsyncDisposable
{
    private readonly Engine _engine;
    private readonly SessionSource _sessions;
    private readonly ServerMetrics _metrics;
    private readonly RequestRecord _record;
    private readonly CancellationTokenSource _cancellation;
    private readonly Channel<ReplyPiece> _pieces = Channel.CreateUnbounded<ReplyPiece>(new UnboundedChannelOptions { SingleReader = true });
    private readonly long _startedAt = Stopwatch.GetTimestamp();
    private readonly Task _running;
    private Task<bool>? _waiting;
    private Exception? _failure;
    private Session? _reading;   // the session whose prompt is being read, for progress
    private readonly ConcurrentBag<SessionLease> _leases = [];
    private int _outputCount;
    private int _reasoningCount;
    private long _draftedCount;
    private long _acceptedCount;

    // Throws the fault of a full queue.
    public ReplyRun(Engine engine, Admission admission, SessionSource sessions, ServerMetrics metrics, RequestRecord record, ReplyOrder order, CancellationToken cancellation)
    {
        _record = record;
        _engine = engine;
        _sessions = sessions;
        _metrics = metrics;
        Order = order;
        Prepare();
        _cancellation = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        Task<Admission.Ticket> ticket = admission.EnterAsync(order.TotalChoiceCount, order.Priority, order.Caller, _cancellation.Token);
        _running = Task.Run(() => RunAsync(ticket), CancellationToken.None);
    }

    public ReplyOrder Order { get; }

    public ReplyUsage Usage => new(Order.Prompts.Sum(prompt => prompt.Length), _leases.Sum(lease => lease.CachedCount), Volatile.Read(ref _outputCount), Volatile.Read(ref _reasoningCount))
    {
        DraftedCount = Interlocked.Read(ref _draftedCount),
        AcceptedCount = Interlocked.Read(ref _acceptedCount),
        Prefix = _leases.Count == 1 && _leases.TryPeek(out SessionLease? lease) ? lease.Use : null,
    };

    // How far the prompt has been read; null while the request waits for its place.
    public (int Read, int Total)? Progress => Volatile.Read(ref _reading) is { } session ? (session.ComputedCount, session.TokenCount) : null;

    // True when a piece can be read or all were; false when nothing came in time. Throws what went wrong.
    public async ValueTask<bool> WaitAsync(TimeSpan patience)
    {
        if (_waiting is null)
        {
            ValueTask<bool> next = _pieces.Reader.WaitToReadAsync(CancellationToken.None);
            if (next.IsCompletedSuccessfully)
                return true;
            _waiting = next.AsTask();
        }

        try
        {
            await _waiting.WaitAsync(patience).ConfigureAwait(false);
        }
        catch (TimeoutException) when (!_waiting.IsCompleted)
        {
            return false;
        }

        _waiting = null;
        return true;
    }

    public bool TryRead(out ReplyPiece piece) => _pieces.Reader.TryRead(out piece);

    // No more pieces will come. Ask after TryRead said no; a failure is what WaitAsync then throws.
    public bool IsOver => _pieces.Reader.Completion.IsCompletedSuccessfully;

    public async ValueTask DisposeAsync()
    {
        await _cancellation.CancelAsync().ConfigureAwait(false);
        await _running.ConfigureAwait(false);
        _cancellation.Dispose();
    }

    // What only the sampler can refuse is refused before a place is taken.
    private void Prepare()
    {
        Order.Sampling.Validate();
        try
        {
            _engine.NewConstraint(Order.Sampling, Order.Thinks);
        }
        catch (BadRequestException refusal)
        {
            throw RequestFault.Bad(Order.ConstraintPath, $"Invalid '{Order.ConstraintPath}': {refusal.Message}", "invalid_value");
        }

        foreach (int id in Order.Sampling.LogitBias?.Keys ?? [])
        {
            if (id >= _engine.Config.VocabularySize)
                throw RequestFault.Bad("logit_bias", $"Invalid 'logit_bias': token {id} is not in the vocabulary of {_engine.Config.VocabularySize}.", "invalid_value");
        }
    }

    // Never throws: what goes wrong ends the stream of pieces.
    private async Task RunAsync(Task<Admission.Ticket> entering)
    {
        try
        {
            using Admission.Ticket ticket = await entering.ConfigureAwait(false);
            _record.Admitted();
            _metrics.Queued(Stopwatch.GetElapsedTime(_startedAt));
            using var places = new SemaphoreSlim(ticket.PlaceCount);
            var prompts = new Task[Order.Prompts.Count];
            for (int i = 0; i < prompts.Length; i++)
                prompts[i] = AnswerAsync(i, places);
            await Task.WhenAll(prompts).ConfigureAwait(false);
        }
        catch (Exception failure)
        {
            _failure ??= failure;
        }

        _metrics.Ended(Usage);
        _record.Usage = Usage;
        _pieces.Writer.TryComplete(_failure);
    }

    // What fails first is what the client hears of, and ends the choices beside it.
    private async Task AnswerAsync(int promptIndex, SemaphoreSlim places)
    {
        try
        {
            await AnswerPromptAsync(promptIndex, places).ConfigureAwait(false);
        }
        catch (Exception failure)
        {
            Interlocked.CompareExchange(ref _failure, failure, null);
            await _cancellation.CancelAsync().ConfigureAwait(false);
            throw;
        }
    }

    // All choices of one prompt: it is read once, the choices are forks of it.
    private async Task AnswerPromptAsync(int promptIndex, SemaphoreSlim places)
    {
        CancellationToken cancellation = _cancellation.Token;
        int first = promptIndex * Order.ChoiceCount;
        await places.WaitAsync(cancellation).ConfigureAwait(false);
        bool hasPlace = true;
        SessionLease lease = _sessions.Open(Order.Prompts[promptIndex], Order.Adapter, Order.Scope);
        try
        {
            _leases.Add(lease);
            _record.Contents?.Prompt(_engine.Tokenizer.Decode(Order.Prompts[promptIndex]));
            Volatile.Write(ref _reading, lease.Session);
            if (Order.PromptLogProbs is { } topCount)
                await ScoreAsync(lease.Session, first, topCount, cancellation).ConfigureAwait(false);
            if (Order.ScoresOnly)
            {
                for (int i = 0; i < Order.ChoiceCount; i++)
                    Write(new ReplyPiece(first + i, []) { End = new ReplyEnd(FinishReason.Length, HasCalls: false) });
                return;
            }

            if (Order.ChoiceCount == 1)
            {
                await GenerateAsync(lease.Session, first, cancellation).ConfigureAwait(false);
                return;
            }

            await lease.Session.PrefillAsync(cancellation).ConfigureAwait(false);
            places.Release();
            hasPlace = false;
            var choices = new Task[Order.ChoiceCount];
            for (int i = 0; i < choices.Length; i++)
                choices[i] = ForkAsync(lease.Session, first + i, places, cancellation);
            await Task.WhenAll(choices).ConfigureAwait(false);
        }
        finally
        {
            _sessions.Close(lease);
            if (hasPlace)
                places.Release();
        }
    }

    private async Task ScoreAsync(Session session, int firstChoice, int topCount, CancellationToken cancellation)
    {
        IReadOnlyList<GeneratedToken> scored = await session.ScoreAsync(topCount, cancellation).ConfigureAwait(false);
        TokenScore[] scores = [new TokenScore(session.Tokens[0], null, []), .. scored.Select(token => new TokenScore(token.Id, token.LogProbability, token.Alternatives ?? []))];
        for (int i = 0; i < Order.ChoiceCount; i++)
            Write(new ReplyPiece(firstChoice + i, []) { PromptScores = scores });
    }

    private async Task ForkAsync(Session trunk, int choiceIndex, SemaphoreSlim places, CancellationToken cancellation)
    {
        await places.WaitAsync(cancellation).ConfigureAwait(false);
        try
        {
            Session session;
            lock (trunk)
                session = trunk.Fork();
            using (session)
                await GenerateAsync(session, choiceIndex, cancellation).ConfigureAwait(false);
        }
        finally
        {
            places.Release();
        }
    }

    private async Task GenerateAsync(Session session, int choiceIndex, CancellationToken cancellation)
    {
        int promptCount = session.TokenCount;
        // Of several choices each has a seed of its own, the first the request's.
        SamplingOptions sampling = Order.Sampling.Seed is { } seed ? Order.Sampling with { Seed = unchecked(seed + (ulong)choiceIndex) } : Order.Sampling;
        AssistantOutputParser? parser = Order.IsChat ? new AssistantOutputParser(Order.Tools, Order.Thinks) : null;
        IAsyncEnumerable<GeneratedToken> tokens = Order.Mode is { } mode
            ? session.GenerateAsync(sampling, mode, Order.Thinks, cancellation)
            : session.GenerateAsync(sampling, cancellation);
        FinishReason finish = FinishReason.Stop;
        bool isLeftEarly = false;
        int seenCount = 0;
        long lastAt = 0, drafted = 0, accepted = 0;
        await foreach (GeneratedToken token in Guarded(tokens, cancellation).ConfigureAwait(false))
        {
            long now = Stopwatch.GetTimestamp();
            _metrics.Token(lastAt == 0 ? Stopwatch.GetElapsedTime(_startedAt, now) : Stopwatch.GetElapsedTime(lastAt, now), isFirst: lastAt == 0);
            lastAt = now;
            _record.Token(now);
            _record.Contents?.Output(choiceIndex, token.Text);
            Interlocked.Increment(ref _outputCount);
            Interlocked.Add(ref _draftedCount, token.DraftedCount - drafted);
            Interlocked.Add(ref _acceptedCount, token.AcceptedCount - accepted);
            (drafted, accepted) = (token.DraftedCount, token.AcceptedCount);
            bool thought = parser?.IsReasoning ?? false;
            OutputEvent[] events = parser is null ? PlainText(token.Text) : [.. parser.Feed(token.Text)];
            bool thinks = parser?.IsReasoning ?? false;
            if (thinks)
                Interlocked.Increment(ref _reasoningCount);
            Write(new ReplyPiece(choiceIndex, events) { Token = token, IsAnswer = !thought && !thinks && !EndsTurn(token) });
            finish = token.Finish ?? finish;
            seenCount++;
            // The model may go on to a second call; who wants one only gets the reply as it stands.
            isLeftEarly = Order.OneCallOnly && Array.Exists(events, step => step.Kind == OutputEventKind.ToolCallCompleted);
            if (isLeftEarly)
                break;
        }

        bool isThinking = parser?.IsReasoning ?? false;
        OutputEvent[] rest = parser is null ? [] : [.. parser.Finish(isCut: finish != FinishReason.Stop)];
        if (parser is not null)
            Remember(session, promptCount, seenCount, parser, isThinking, isLeftEarly ? FinishReason.Length : finish);
        ReplyEnd end = EndOf(session, promptCount, finish, parser);
        _metrics.Finished(end.Reason);
        _record.Finishes.Enqueue(finish == FinishReason.Length ? "length" : end.Reason);
        Write(new ReplyPiece(choiceIndex, rest) { End = end });
    }

    // Clients send the reply back as they understood it; the engine knows it again and continues what it wrote itself.
    private void Remember(Session session, int promptCount, int seenCount, AssistantOutputParser parser, bool isThinking, FinishReason finish)
    {
        AssistantOutput output = parser.Output;
        if (output.IsWhole)
            _engine.Remember(session.Tokens, promptCount, seenCount, output.ToMessage(_ => ""), Order.Thinks, isThinking, finish, Order.Scope);
    }

    // What fails once a generation runs is never the request's fault: its options and tokens were checked before.
    private async IAsyncEnumerable<GeneratedToken> Guarded(IAsyncEnumerable<GeneratedToken> tokens, [EnumeratorCancellation] CancellationToken cancellation)
    {
        await using IAsyncEnumerator<GeneratedToken> reader = tokens.GetAsyncEnumerator(cancellation);
        while (true)
        {
            try
            {
                if (!await reader.MoveNextAsync().ConfigureAwait(false))
                    break;
            }
            catch (BadRequestException)
            {
                throw RequestFault.OutOfMemory();
            }

            yield return reader.Current;
        }
    }

    private ReplyEnd EndOf(Session session, int promptCount, FinishReason finish, AssistantOutputParser? parser)
    {
        IReadOnlyList<ParsedToolCall> calls = parser?.Output.ToolCalls ?? [];
        return new ReplyEnd(finish, calls.Count > 0)
        {
            StopString = finish == FinishReason.Stop ? StopStringOf(session, promptCount) : null,
            CutArguments = calls.Count > 0 && !calls[^1].IsComplete ? calls[^1].Arguments : default,
        };
    }

    // Which of several stop strings was met is not in the tokens' text, which ends before it; reading the reply again tells.
    private string? StopStringOf(Session session, int promptCount)
    {
        if (Order.Sampling.StopStrings is not { Count: > 0 } stops || _engine.EndIds.Contains(session.Tokens[^1]))
            return null;
        var matcher = new StopMatcher(stops);
        var detokenizer = new StreamingDetokenizer(_engine.Tokenizer, skipsControlTokens: true);
        var shown = new StringBuilder();
        for (int i = promptCount; i < session.TokenCount && matcher.Match is null; i++)
            matcher.Feed(detokenizer.Append(session.Tokens[i]), shown);
        return matcher.Match;
    }

    private bool EndsTurn(in GeneratedToken token) =>
        token.Finish == FinishReason.Stop && (_engine.EndIds.Contains(token.Id) || (Order.Sampling.StopTokenIds?.Contains(token.Id) ?? false));

    private static OutputEvent[] PlainText(string text) => text.Length == 0 ? [] : [new OutputEvent(OutputEventKind.Content, text)];

    private void Write(ReplyPiece piece) => _pieces.Writer.TryWrite(piece);
}
