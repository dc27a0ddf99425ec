using System.Text.Encodings.Web;
using System.Text.Json;

namespace Qian.Inference.Chat;

// Messages as JSON in the form of OpenAI's chat completions, which MessageJson reads back to the same messages.
internal static class MessageWriter
{
    private static readonly JsonWriterOptions s_options = new() { Indented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    public static string Write(IReadOnlyList<Message> messages)
    {
        using var stream = new MemoryStream();
        using (var json = new Utf8JsonWriter(stream, s_options))
        {
            json.WriteStartArray();
            foreach (Message message in messages)
                Write(json, message);
            json.WriteEndArray();
        }

        return System.Text.Encoding.UTF8.GetString(stream.ToArray());
    }

    private static void Write(Utf8JsonWriter json, Message message)
    {
        json.WriteStartObject();
        json.WriteString("role", message.Role);
        if (message.ReasoningContent is { } reasoning)
            json.WriteString("reasoning_content", reasoning);
        if (message.Content.All(part => part.Kind == ContentKind.Text))
            json.WriteString("content", message.Text);
        else
            WriteParts(json, message.Content);
        if (message.ToolCalls.Count > 0)
            WriteCalls(json, message.ToolCalls);
        if (message.ToolCallId is { } id)
            json.WriteString("tool_call_id", id);
        if (message.Name is { } name)
            json.WriteString("name", name);
        json.WriteEndObject();
    }

    private static void WriteParts(Utf8JsonWriter json, IReadOnlyList<ContentPart> parts)
    {
        json.WriteStartArray("content");
        foreach (ContentPart part in parts)
        {
            string kind = part.Kind switch { ContentKind.Image => "image_url", ContentKind.Video => "video_url", _ => "text" };
            json.WriteStartObject();
            json.WriteString("type", kind);
            if (part.Kind == ContentKind.Text)
            {
                json.WriteString("text", part.Text);
            }
            else
            {
                json.WriteStartObject(kind);
                json.WriteString("url", part.Location);
                json.WriteEndObject();
            }

            json.WriteEndObject();
        }

        json.WriteEndArray();
    }

    private static void WriteCalls(Utf8JsonWriter json, IReadOnlyList<ToolCall> calls)
    {
        json.WriteStartArray("tool_calls");
        foreach (ToolCall call in calls)
        {
            json.WriteStartObject();
            json.WriteString("id", call.Id);
            json.WriteString("type", "function");
            json.WriteStartObject("function");
            json.WriteString("name", call.Name);
            if (call.Arguments.ValueKind != JsonValueKind.Undefined)
            {
                json.WritePropertyName("arguments");
                call.Arguments.WriteTo(json);
            }

            json.WriteEndObject();
            json.WriteEndObject();
        }

        json.WriteEndArray();
    }
}
