using System.Text.Json;
using Qian.Inference.Text;
using Qian.Server.Http;
using Qian.Server.Replies;

namespace Qian.Server.OpenAi.Responses;

// The "response" object: what was asked, what came of it, what it took. Whole replies are this object; streams show it when
// they begin and when they end.
internal sealed record ResponseObject(ReplyHead Head, ResponsesRequest Request, Tokenizer Tokenizer)
{
    // in_progress, completed, incomplete or failed. Usage is not known before the end.
    public void Write(Utf8JsonWriter json, string status, IReadOnlyList<ResponseItem> items, ReplyUsage? usage, RequestFault? fault = null, ReplyEnd? end = null)
    {
        json.WriteStartObject();
        json.WriteString("id", Head.Id);
        json.WriteString("object", "response");
        json.WriteNumber("created_at", Head.Created);
        json.WriteString("status", status);
        json.WriteBoolean("background", false);
        WriteError(json, fault);
        WriteIncomplete(json, end is { IsCut: true } ? end : null);
        WriteGiven(json, "instructions");
        WriteGiven(json, "max_output_tokens");
        WriteGiven(json, "max_tool_calls");
        json.WriteString("model", Head.Model);
        json.WriteStartArray("output");
        foreach (ResponseItem item in items)
            item.Write(json, Tokenizer);
        json.WriteEndArray();
        json.WriteBoolean("parallel_tool_calls", !Request.Chat.OneCallOnly);
        json.WriteString("previous_response_id", Request.PreviousId);
        json.WriteStartObject("reasoning");
        json.WriteString("effort", JsonFields.Root(Request.Body).Object("reasoning")?.Text("effort"));
        json.WriteNull("summary");
        json.WriteEndObject();
        json.WriteBoolean("store", Request.IsStored);
        WriteNumber(json, "temperature", Request.Chat.Sampling.Temperature);
        WriteText(json);
        WriteGiven(json, "tool_choice", "\"auto\""u8);
        WriteGiven(json, "tools", "[]"u8);
        json.WriteNumber("top_logprobs", Request.Chat.Sampling.LogProbs ?? 0);
        WriteNumber(json, "top_p", Request.Chat.Sampling.TopP);
        json.WriteString("truncation", "disabled");
        WriteUsage(json, usage);
        WriteGiven(json, "user");
        WriteGiven(json, "metadata", "{}"u8);
        json.WriteEndObject();
    }

    private static void WriteError(Utf8JsonWriter json, RequestFault? fault)
    {
        if (fault is null)
        {
            json.WriteNull("error");
            return;
        }

        json.WriteStartObject("error");
        json.WriteString("code", fault.Status == 429 ? "rate_limit_exceeded" : "server_error");
        json.WriteString("message", fault.Message);
        json.WriteEndObject();
    }

    private static void WriteIncomplete(Utf8JsonWriter json, ReplyEnd? cut)
    {
        if (cut is null)
        {
            json.WriteNull("incomplete_details");
            return;
        }

        json.WriteStartObject("incomplete_details");
        json.WriteString("reason", "max_output_tokens");
        cut.WriteDetail(json);
        json.WriteEndObject();
    }

    private static void WriteUsage(Utf8JsonWriter json, ReplyUsage? known)
    {
        if (known is not { } usage)
        {
            json.WriteNull("usage");
            return;
        }

        json.WriteStartObject("usage");
        json.WriteNumber("input_tokens", usage.PromptCount);
        json.WriteStartObject("input_tokens_details");
        json.WriteNumber("cached_tokens", usage.CachedCount);
        json.WriteEndObject();
        json.WriteNumber("output_tokens", usage.OutputCount);
        json.WriteStartObject("output_tokens_details");
        json.WriteNumber("reasoning_tokens", usage.ReasoningCount);
        json.WriteEndObject();
        json.WriteNumber("total_tokens", usage.TotalCount);
        usage.WriteExtensions(json);
        json.WriteEndObject();
    }

    // What the text was to look like, as it was given.
    private void WriteText(Utf8JsonWriter json)
    {
        JsonFields? given = JsonFields.Root(Request.Body).Object("text");
        json.WriteStartObject("text");
        json.WritePropertyName("format");
        if (given?.Object("format") is { } format)
            format.Json.WriteTo(json);
        else
            json.WriteRawValue("{\"type\":\"text\"}"u8);
        if (given?.Any("verbosity") is { ValueKind: JsonValueKind.String } verbosity)
        {
            json.WritePropertyName("verbosity");
            verbosity.WriteTo(json);
        }

        json.WriteEndObject();
    }

    private static void WriteNumber(Utf8JsonWriter json, string name, float? value)
    {
        if (value is { } number)
            json.WriteNumber(name, number);
        else
            json.WriteNull(name);
    }

    // A field of the body as it was given.
    private void WriteGiven(Utf8JsonWriter json, string name, ReadOnlySpan<byte> otherwise = default)
    {
        json.WritePropertyName(name);
        if (Request.Body.TryGetProperty(name, out JsonElement value) && value.ValueKind != JsonValueKind.Null)
            value.WriteTo(json);
        else if (otherwise.IsEmpty)
            json.WriteNullValue();
        else
            json.WriteRawValue(otherwise);
    }
}
