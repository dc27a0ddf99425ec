using System.Text;
using System.Text.Json;
using Qian.Inference;
using Qian.Inference.Text;

namespace Qian.Server.OpenAi.Responses;

internal enum ResponseItemKind
{
    Reasoning,
    Message,
    FunctionCall,
}

// One item of a response's output as it grows. Its text is the reasoning, the answer, or a call's arguments.
internal sealed class ResponseItem(ResponseItemKind kind)
{
    public ResponseItemKind Kind => kind;

    public string Id { get; } = PrefixOf(kind) + Guid.NewGuid().ToString("N");

    public string CallId { get; } = kind == ResponseItemKind.FunctionCall ? "call_" + Guid.NewGuid().ToString("N")[..24] : "";

    public string Name { get; init; } = "";

    public StringBuilder Text { get; } = new();

    // Tokens of an answer with their log-probabilities, when those were asked for.
    public List<GeneratedToken> Tokens { get; } = [];

    // in_progress, completed or incomplete.
    public string Status { get; set; } = "in_progress";

    public void Write(Utf8JsonWriter json, Tokenizer tokenizer)
    {
        json.WriteStartObject();
        json.WriteString("id", Id);
        switch (kind)
        {
            case ResponseItemKind.Reasoning:
                json.WriteString("type", "reasoning");
                json.WriteStartArray("summary");
                json.WriteEndArray();
                WriteContent(json, tokenizer);
                break;
            case ResponseItemKind.Message:
                json.WriteString("type", "message");
                json.WriteString("role", "assistant");
                WriteContent(json, tokenizer);
                break;
            default:
                json.WriteString("type", "function_call");
                json.WriteString("call_id", CallId);
                json.WriteString("name", Name);
                json.WriteString("arguments", Text.ToString());
                break;
        }

        json.WriteString("status", Status);
        json.WriteEndObject();
    }

    // The one part of a message or of reasoning.
    public void WritePart(Utf8JsonWriter json, Tokenizer tokenizer, string text)
    {
        json.WriteStartObject();
        if (kind == ResponseItemKind.Reasoning)
        {
            json.WriteString("type", "reasoning_text");
            json.WriteString("text", text);
        }
        else
        {
            json.WriteString("type", "output_text");
            json.WriteString("text", text);
            json.WriteStartArray("annotations");
            json.WriteEndArray();
            LogProbWriter.WriteList(json, "logprobs", tokenizer, text.Length == 0 ? [] : Tokens);
        }

        json.WriteEndObject();
    }

    private void WriteContent(Utf8JsonWriter json, Tokenizer tokenizer)
    {
        json.WriteStartArray("content");
        if (Text.Length > 0)
            WritePart(json, tokenizer, Text.ToString());
        json.WriteEndArray();
    }

    private static string PrefixOf(ResponseItemKind kind) => kind switch
    {
        ResponseItemKind.Reasoning => "rs_",
        ResponseItemKind.Message => "msg_",
        _ => "fc_",
    };
}
