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
    // The bounds of buckets are those that the conventions advise, for exporters that ask.
    private static readonly Histogram<double> s_duration = NewHistogram<double>(
        "gen_ai.server.request.duration", "s", "Time of a reply from the request's arrival to its last token", [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]);
    private static readonly Histogram<double> s_firstToken = NewHistogram<double>(
        "gen_ai.server.time_to_first_token", "s", "Time from the request's arrival to the first token", [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10]);
    private static readonly Histogram<double> s_perToken = NewHistogram<double>(
        "gen_ai.server.time_per_output_token", "s", "Mean time per token after the first", [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5]);
    private static readonly Histogram<long> s_tokens = NewHistogram<long>(
        "gen_ai.client.token.usage", "{token}", "Tokens of a reply, by type", [1, 4, 16, 64, 256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 16_777_216, 67_108_864]);

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

    private static Histogram<T> NewHistogram<T>(string name, string unit, string description, T[] bounds)
        where T : struct =>
        s_meter.CreateHistogram(name, unit, description, advice: new InstrumentAdvice<T> { HistogramBucketBoundaries = bounds });

    private static void Tag<T>(Activity span, string name, T? value)
        where T : struct
    {
        if (value is not null)
            span.SetTag(name, value);
    }
}
