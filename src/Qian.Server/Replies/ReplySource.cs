using System.Text.Json;
using Microsoft.AspNetCore.Http;
using Qian.Inference;
using Qian.Server.Http;
using Qian.Server.Observation;

namespace Qian.Server.Replies;

// What the endpoints of all dialects share: an order becomes a reply, streamed or whole.
internal sealed class ReplySource
{
    private const string TimingHeader = "Server-Timing";

    private readonly Engine _engine;
    private readonly ServerOptions _options;
    private readonly ServerMetrics _metrics;
    private readonly SessionSource _sessions;
    private volatile bool _isStopping;

    public ReplySource(Engine engine, ServerOptions options, ServerMetrics metrics, TextWriter log)
    {
        _engine = engine;
        _options = options;
        _metrics = metrics;
        _sessions = new SessionSource(engine, metrics, log);
        Admission = new Admission(options.ParallelCount, options.QueueLimit);
    }

    public Admission Admission { get; }

    // No new replies are begun; those that run go on.
    public bool IsStopping
    {
        get => _isStopping;
        set => _isStopping = value;
    }

    // Collects the whole reply, then writes it.
    public async Task SendWholeAsync(HttpContext context, ReplyOrder order, Action<Utf8JsonWriter, IReadOnlyList<ReplyDraft>, ReplyUsage> write)
    {
        ReplyDraft[] drafts = [.. Enumerable.Range(0, order.TotalChoiceCount).Select(_ => new ReplyDraft())];
        ReplyUsage usage = await CollectAsync(context, order, piece => drafts[piece.ChoiceIndex].Add(piece)).ConfigureAwait(false);
        await JsonReply.SendAsync(context, json => write(json, drafts, usage)).ConfigureAwait(false);
    }

    // Hands out all pieces, and sends nothing.
    public async Task<ReplyUsage> CollectAsync(HttpContext context, ReplyOrder order, Action<ReplyPiece> take)
    {
        await using ReplyRun run = Start(order, context);
        while (true)
        {
            await run.WaitAsync(Timeout.InfiniteTimeSpan).ConfigureAwait(false);
            while (run.TryRead(out ReplyPiece piece))
                take(piece);
            if (!run.IsOver)
                continue;
            context.Response.Headers[TimingHeader] = RequestRecord.Of(context).ServerTiming();
            return run.Usage;
        }
    }

    // Streams. Nothing is sent before the first piece or the first long silence, so that what fails early has its own status.
    public async Task StreamAsync(HttpContext context, ReplyOrder order, Func<EventStream, ReplyRun, IReplyWriter> createWriter)
    {
        await using ReplyRun run = Start(order, context);
        bool ready = await run.WaitAsync(_options.KeepAlive).ConfigureAwait(false);
        using var events = new EventStream(context);
        await events.StartAsync().ConfigureAwait(false);
        IReplyWriter writer = createWriter(events, run);
        try
        {
            writer.Begin();
            while (true)
            {
                if (!ready)
                {
                    writer.Wait();
                    await events.CommentAsync(Describe(run)).ConfigureAwait(false);
                }

                while (run.TryRead(out ReplyPiece piece))
                {
                    writer.Write(piece);
                    await events.FlushAsync().ConfigureAwait(false);
                }

                if (run.IsOver)
                    break;
                ready = await run.WaitAsync(_options.KeepAlive).ConfigureAwait(false);
            }

            // What it took is known at the end only, and HTTP/1.1 has no trailers here: a comment, before the last events.
            await events.CommentAsync($"timing {RequestRecord.Of(context).ServerTiming()}").ConfigureAwait(false);
            await writer.EndAsync(run.Usage).ConfigureAwait(false);
        }
        catch (Exception error) when (error is not OperationCanceledException)
        {
            // The status is long sent: the error is the stream's last event.
            RequestFault fault = Faults.Of(error, context);
            RequestRecord.Of(context).Failed(fault);
            await writer.FailAsync(fault).ConfigureAwait(false);
        }
    }

    private ReplyRun Start(ReplyOrder order, HttpContext context)
    {
        RequestRecord record = RequestRecord.Of(context);
        record.Operation = order.IsChat ? "chat" : "text_completion";
        record.Model = order.Adapter?.Name ?? _options.ModelName;
        if (_isStopping)
            throw RequestFault.Stopping();
        if (_options.MaxOutputTokens is { } most)
            order = order with { Sampling = order.Sampling with { MaxTokens = Math.Min(order.Sampling.MaxTokens ?? most, most) } };
        Telemetry.Start(context, record, order);
        return new ReplyRun(_engine, Admission, _sessions, _metrics, record, order, context.RequestAborted);
    }

    private static string Describe(ReplyRun run) => run.Progress is not (int read, int total) ? "queued"
        : read < total ? FormattableString.Invariant($"prefill {read}/{total}")
        : "decoding";
}
