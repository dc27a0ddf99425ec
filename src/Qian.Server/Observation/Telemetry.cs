using System.Diagnostics;
using System.Diagnostics.Metrics;
using Microsoft.AspNetCore.Http;
using Qian.Server.Replies;

namespace Qian.Server.Observation;

// A span per reply and the figures of each, by the names that OpenTelemetry's conventions for generative AI give them. Any
// listener in the process hears them under the name "Qian.Server"; without one they cost nothing. No contents are told.
internal static class Telemetry
{
    public const string SourceName = "Qian.Server";

    private const string Provider = "qian";

    private static readonly ActivitySource s_source = new(SourceName);
    private static readonly Meter s_meter = new(SourceName);
    private static readonly Histogram<double> s_duration = s_meter.CreateHistogram<double>("gen_ai.server.request.duration", "s", "Time of a reply from the request's arrival to its last token");
    private static readonly Histogram<double> s_firstToken = s_meter.CreateHistogram<double>("gen_ai.server.time_to_first_token", "s", "Time from the request's arrival to the first token");
    private static readonly Histogram<double> s_perToken = s_meter.CreateHistogram<double>("gen_ai.server.time_per_output_token", "s", "Mean time per token after the first");
    private static readonly Histogram<long> s_tokens = s_meter.CreateHistogram<long>("gen_ai.client.token.usage", "{token}", "Tokens of a reply, by type");

    // The model runs in this process, so the span is internal to it.
    public static void Start(HttpContext context, RequestRecord record, ReplyOrder order)
    {
        if (!s_source.HasListeners())
            return;
        ActivityContext parent = default;
        if (Activity.Current is null)
            ActivityContext.TryParse(context.Request.Headers.TraceParent, context.Request.Headers.TraceState, isRemote: true, out parent);
        Activity? span = record.Span = s_source.StartActivity($"{record.Operation} {record.Model}", ActivityKind.Internal, parent);
        if (span is null)
            return;
        span.SetTag("gen_ai.operation.name", record.Operation);
        span.SetTag("gen_ai.provider.name", Provider);
        span.SetTag("gen_ai.request.model", record.Model);
        Tag(span, "gen_ai.request.choice.count", order.ChoiceCount == 1 ? (int?)null : order.ChoiceCount);
        Tag(span, "gen_ai.request.max_tokens", order.Sampling.MaxTokens);
        Tag(span, "gen_ai.request.temperature", order.Sampling.Temperature);
        Tag(span, "gen_ai.request.top_p", order.Sampling.TopP);
        Tag(span, "gen_ai.request.top_k", order.Sampling.TopK);
        Tag(span, "gen_ai.request.seed", order.Sampling.Seed);
    }

    public static void End(RequestRecord record)
    {
        ReplyUsage usage = record.Usage;
        var tags = new TagList { { "gen_ai.operation.name", record.Operation }, { "gen_ai.provider.name", Provider }, { "gen_ai.request.model", record.Model }, { "gen_ai.response.model", record.Model } };
        string? error = record.IsCancelled ? "cancelled" : record.ErrorCode;
        if (error is not null)
            tags.Add("error.type", error);
        s_duration.Record(record.Total.TotalSeconds, tags);
        if (error is null)
        {
            s_firstToken.Record(record.ToFirstToken.TotalSeconds, tags);
            if (usage.OutputCount > 1)
                s_perToken.Record(record.Decode.TotalSeconds / (usage.OutputCount - 1), tags);
        }

        s_tokens.Record(usage.PromptCount, [.. tags, new("gen_ai.token.type", "input")]);
        s_tokens.Record(usage.OutputCount, [.. tags, new("gen_ai.token.type", "output")]);
        if (record.Span is not { } span)
            return;
        span.SetTag("gen_ai.response.model", record.Model);
        span.SetTag("gen_ai.response.finish_reasons", record.Finishes.ToArray());
        span.SetTag("gen_ai.usage.input_tokens", usage.PromptCount);
        span.SetTag("gen_ai.usage.output_tokens", usage.OutputCount);
        span.SetTag("gen_ai.usage.cache_read.input_tokens", usage.CachedCount);
        span.SetTag("qian.usage.drafted_tokens", usage.DraftedCount);
        span.SetTag("qian.usage.accepted_tokens", usage.AcceptedCount);
        span.SetTag("qian.queue.duration", record.Queued.TotalSeconds);
        span.SetTag("qian.prefill.duration", record.Prefill.TotalSeconds);
        span.SetTag("qian.decode.duration", record.Decode.TotalSeconds);
        if (error is not null)
        {
            span.SetTag("error.type", error);
            span.SetStatus(ActivityStatusCode.Error);
        }

        span.Dispose();
    }

    private static void Tag<T>(Activity span, string name, T? value)
        where T : struct
    {
        if (value is not null)
            span.SetTag(name, value);
    }
}
