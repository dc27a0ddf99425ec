using System.Text.Json;
using Qian.Inference.Chat.Jinja;

namespace Qian.Inference.Chat;

// Messages and tools as the template sees them: dicts with OpenAI's keys. All text in them is marked as input.
internal static class MessageValues
{
    public static JinjaValue FromMessages(IReadOnlyList<Message> messages, Func<JsonElement, JinjaValue> read)
    {
        var values = new JinjaValue[messages.Count];
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = FromMessage(messages[i], read);
        }

        return JinjaValue.FromList(values);
    }

    public static JinjaValue FromTools(IReadOnlyList<ToolDefinition> tools, Func<JsonElement, JinjaValue> read)
    {
        var values = new JinjaValue[tools.Count];
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = read(tools[i].Json);
        }

        return JinjaValue.FromList(values);
    }

    private static JinjaValue FromMessage(Message message, Func<JsonElement, JinjaValue> read)
    {
        var members = new JinjaMapping();
        Set(members, "role", JinjaValue.FromInput(message.Role));
        Set(members, "content", FromContent(message));
        if (message.ReasoningContent is { } reasoning)
        {
            Set(members, "reasoning_content", JinjaValue.FromInput(reasoning));
        }

        if (message.ToolCalls.Count > 0)
        {
            var calls = new JinjaValue[message.ToolCalls.Count];
            for (int i = 0; i < calls.Length; i++)
            {
                calls[i] = FromCall(message.ToolCalls[i], read);
            }

            Set(members, "tool_calls", JinjaValue.FromList(calls));
        }

        if (message.ToolCallId is { } id)
        {
            Set(members, "tool_call_id", JinjaValue.FromInput(id));
        }

        if (message.Name is { } name)
        {
            Set(members, "name", JinjaValue.FromInput(name));
        }

        return JinjaValue.FromMapping(members);
    }

    // Text alone is given as a string, which every template takes; only images and videos need the list of parts.
    private static JinjaValue FromContent(Message message)
    {
        bool isText = true;
        foreach (ContentPart part in message.Content)
        {
            isText &= part.Kind == ContentKind.Text;
        }

        if (isText)
        {
            return JinjaValue.FromInput(message.Text);
        }

        var parts = new JinjaValue[message.Content.Count];
        for (int i = 0; i < parts.Length; i++)
        {
            ContentPart part = message.Content[i];
            string kind = part.Kind switch { ContentKind.Text => "text", ContentKind.Image => "image", _ => "video" };
            var members = new JinjaMapping();
            Set(members, "type", JinjaValue.FromInput(kind));
            Set(members, kind, JinjaValue.FromInput(part.Kind == ContentKind.Text ? part.Text : part.Location ?? string.Empty));
            parts[i] = JinjaValue.FromMapping(members);
        }

        return JinjaValue.FromList(parts);
    }

    private static JinjaValue FromCall(ToolCall call, Func<JsonElement, JinjaValue> read)
    {
        var function = new JinjaMapping();
        Set(function, "name", JinjaValue.FromInput(call.Name));
        if (call.Arguments.ValueKind != JsonValueKind.Undefined)
        {
            Set(function, "arguments", read(call.Arguments));
        }

        var members = new JinjaMapping();
        Set(members, "id", JinjaValue.FromInput(call.Id));
        Set(members, "type", JinjaValue.FromInput("function"));
        Set(members, "function", JinjaValue.FromMapping(function));
        return JinjaValue.FromMapping(members);
    }

    private static void Set(JinjaMapping members, string key, JinjaValue value) => members.Set(JinjaValue.FromInput(key), value);
}
