using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using System.Text;
using System.Text.Json;
using Microsoft.AspNetCore.Http;
using Qian.Server.Http;
using Qian.Server.Replies;

namespace Qian.Server.Observation;

// What is known of one request, filled in by whoever comes to know it, and told at its end: to the log, the audit, the
// telemetry and the client. It holds no word of the conversation unless contents are asked for.
internal sealed class RequestRecord(string method)
{
    private readonly long _startedAt = Stopwatch.GetTimestamp();
    private long _admittedAt;
    private long _firstTokenAt;
    private long _lastTokenAt;

    public string Id { get; } = "req_" + Guid.NewGuid().ToString("N");

    public DateTimeOffset Time { get; } = DateTimeOffset.UtcNow;

    public string Method => method;

    // The pattern of a known place: strangers' paths may hold anything.
    public string Route { get; set; } = "other";

    // The name of the key.
    public string Caller { get; set; } = "";

    public string Remote { get; set; } = "";

    public int Status { get; set; }

    public bool IsCancelled { get; set; }

    // What it was about, where that is no reply: an adapter's name.
    public string? Subject { get; set; }

    // "chat" or "text_completion", once a reply was begun.
    public string? Operation { get; set; }

    public string? Model { get; set; }

    // Null without a listener.
    public Activity? Span { get; set; }

    public ReplyUsage Usage { get; set; }

    // How the choices ended: stop, length, tool_calls, context, repetition.
    public ConcurrentQueue<string> Finishes { get; } = new();

    public string? ErrorCode { get; set; }

    // Null unless contents are asked for.
    public RequestContents? Contents { get; init; }

    public TimeSpan Total { get; private set; }

    public TimeSpan Queued => Between(_startedAt, _admittedAt);

    // From a place to the first token: reading the prompt.
    public TimeSpan Prefill => Between(_admittedAt, _firstTokenAt);

    public TimeSpan Decode => Between(_firstTokenAt, _lastTokenAt);

    public TimeSpan ToFirstToken => Between(_startedAt, _firstTokenAt);

    public static RequestRecord Of(HttpContext context) => context.Features.Get<RequestRecord>()!;

    public void Admitted() => _admittedAt = Stopwatch.GetTimestamp();

    // Of whichever choice; several write side by side.
    public void Token(long now)
    {
        Interlocked.CompareExchange(ref _firstTokenAt, now, 0);
        Volatile.Write(ref _lastTokenAt, now);
    }

    public void Ended() => Total = Stopwatch.GetElapsedTime(_startedAt);

    public void Failed(RequestFault fault) => ErrorCode = fault.Code ?? fault.Status.ToString(CultureInfo.InvariantCulture);

    // As the header of that name has it.
    public string ServerTiming() => string.Create(
        CultureInfo.InvariantCulture,
        $"queue;dur={Queued.TotalMilliseconds:0.###}, prefill;dur={Prefill.TotalMilliseconds:0.###}, decode;dur={Decode.TotalMilliseconds:0.###}, prompt;desc=\"{Usage.PromptCount}\", cached;desc=\"{Usage.CachedCount}\", output;desc=\"{Usage.OutputCount}\", drafted;desc=\"{Usage.DraftedCount}\", accepted;desc=\"{Usage.AcceptedCount}\"");

    // One object on one line.
    public void Write(Utf8JsonWriter json, bool withRemote, bool withContents)
    {
        json.WriteStartObject();
        json.WriteString("time", Time.ToString("yyyy-MM-dd'T'HH:mm:ss.fff'Z'", CultureInfo.InvariantCulture));
        json.WriteString("request", Id);
        json.WriteString("key", Caller);
        if (withRemote)
            json.WriteString("remote", Remote);
        json.WriteString("method", Method);
        json.WriteString("path", Route);
        json.WriteNumber("status", Status);
        if (IsCancelled)
            json.WriteBoolean("cancelled", true);
        if (ErrorCode is not null)
            json.WriteString("error", ErrorCode);
        if (Subject is not null)
            json.WriteString("subject", Subject);
        json.WriteNumber("total_ms", Milliseconds(Total));
        if (Operation is not null)
            WriteReply(json);
        if (withContents)
            Contents?.Write(json);
        json.WriteEndObject();
    }

    public string Line()
    {
        var line = new StringBuilder();
        line.Append(CultureInfo.InvariantCulture, $"{Time:HH:mm:ss} {Method} {Route} {Status}{(IsCancelled ? " cancelled" : "")}{(ErrorCode is null ? "" : " " + ErrorCode)} {Total.TotalMilliseconds:0} ms");
        if (Caller.Length > 0)
            line.Append(CultureInfo.InvariantCulture, $", key {Caller}");
        if (Operation is not null)
        {
            line.Append(CultureInfo.InvariantCulture, $", {Model}: {Usage.PromptCount} tokens in ({Usage.CachedCount} cached), {Usage.OutputCount} out, ");
            line.Append(CultureInfo.InvariantCulture, $"queue {Queued.TotalMilliseconds:0}, prefill {Prefill.TotalMilliseconds:0}, decode {Decode.TotalMilliseconds:0} ms");
        }

        return line.ToString();
    }

    private void WriteReply(Utf8JsonWriter json)
    {
        json.WriteString("operation", Operation);
        json.WriteString("model", Model);
        json.WriteNumber("queue_ms", Milliseconds(Queued));
        json.WriteNumber("prefill_ms", Milliseconds(Prefill));
        json.WriteNumber("decode_ms", Milliseconds(Decode));
        json.WriteNumber("prompt_tokens", Usage.PromptCount);
        json.WriteNumber("cached_tokens", Usage.CachedCount);
        json.WriteNumber("output_tokens", Usage.OutputCount);
        json.WriteNumber("reasoning_tokens", Usage.ReasoningCount);
        json.WriteNumber("drafted_tokens", Usage.DraftedCount);
        json.WriteNumber("accepted_tokens", Usage.AcceptedCount);
        json.WriteStartArray("finish_reasons");
        foreach (string finish in Finishes)
            json.WriteStringValue(finish);
        json.WriteEndArray();
    }

    private static double Milliseconds(TimeSpan time) => Math.Round(time.TotalMilliseconds, 3);

    // Nothing where either end was not come to.
    private static TimeSpan Between(long from, long to) => from == 0 || to == 0 ? TimeSpan.Zero : Stopwatch.GetElapsedTime(from, to);
}

// The words of a request: its prompts as the model saw them, and what it said to each.
internal sealed class RequestContents
{
    private readonly List<string> _prompts = [];
    private readonly SortedDictionary<int, StringBuilder> _outputs = [];

    public void Prompt(string text) => _prompts.Add(text);

    // Choices write side by side.
    public void Output(int choiceIndex, string text)
    {
        lock (_outputs)
        {
            if (!_outputs.TryGetValue(choiceIndex, out StringBuilder? output))
                _outputs[choiceIndex] = output = new StringBuilder();
            output.Append(text);
        }
    }

    public void Write(Utf8JsonWriter json)
    {
        WriteList(json, "prompts", _prompts);
        lock (_outputs)
            WriteList(json, "outputs", _outputs.Values.Select(output => output.ToString()));
    }

    private static void WriteList(Utf8JsonWriter json, string name, IEnumerable<string> texts)
    {
        json.WriteStartArray(name);
        foreach (string text in texts)
            json.WriteStringValue(text);
        json.WriteEndArray();
    }
}
