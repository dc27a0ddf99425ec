using System.Text.Json;
using Qian.Server.Http;
using Qian.Server.Replies;

namespace Qian.Server.OpenAi;

// How streams of both kinds of completion end: with a chunk of no choices that holds the usage, where it was asked for, or
// with what went wrong; then [DONE].
internal static class CompletionStream
{
    // `kind`: what the chunks call themselves.
    public static ValueTask EndAsync(EventStream events, ReplyHead head, string kind, ReplyUsage? usage)
    {
        if (usage is { } counted)
        {
            Utf8JsonWriter json = events.Event();
            json.WriteStartObject();
            head.Write(json, kind);
            json.WriteStartArray("choices");
            json.WriteEndArray();
            ChatCompletionWriter.WriteUsage(json, counted);
            json.WriteEndObject();
            events.End();
        }

        return events.SendDoneAsync();
    }

    public static ValueTask FailAsync(EventStream events, RequestFault fault)
    {
        Dialects.WriteFault(events.Event(), Dialect.OpenAi, fault);
        events.End();
        return events.SendDoneAsync();
    }
}
