using System.Text.Json;
using Qian.Inference.Chat;
using Qian.Server.Http;

namespace Qian.Server.OpenAi.Responses;

// The "input" of /v1/responses: text, or a list of items. Reasoning, text and calls of one turn are items of their own there
// and one message here. Nothing that is read refers to the body's document, since responses are kept longer than it.
internal static class ResponseInput
{
    private const int MostParts = 4096;

    // Appends to messages. A reference to an item of an earlier response is looked up.
    public static void Read(JsonFields body, List<Message> messages, int maxCount, Func<string, ResponseItem?> find)
    {
        JsonElement input = body.Any("input");
        if (input.ValueKind == JsonValueKind.Undefined)
            return;
        if (input.ValueKind == JsonValueKind.String)
        {
            messages.Add(new Message(MessageRole.User, input.GetString()!));
            return;
        }

        if (input.ValueKind != JsonValueKind.Array)
            throw JsonFields.WrongType("input", "a string or an array of items", input);
        JsonElement[] items = JsonFields.AsList(input, "input", maxCount);
        var turn = new AssistantTurn(messages);
        for (int i = 0; i < items.Length; i++)
            ReadItem(JsonFields.Of(items[i], $"input[{i}]"), messages, turn, find);
        turn.End();
    }

    // What the model said, as the message that it was.
    public static void Append(List<Message> messages, IEnumerable<ResponseItem> items)
    {
        var turn = new AssistantTurn(messages);
        foreach (ResponseItem item in items)
            Append(turn, item);
        turn.End();
    }

    private static void ReadItem(JsonFields item, List<Message> messages, AssistantTurn turn, Func<string, ResponseItem?> find)
    {
        switch (item.Text("type") ?? "message")
        {
            case "message":
                ReadMessage(item, messages, turn);
                break;
            case "reasoning":
                turn.Think(Reasoning(item));
                break;
            case "function_call":
                item.Text("id");
                turn.Call(item.RequiredText("call_id"), item.RequiredText("name"), item.RequiredText("arguments"));
                break;
            case "function_call_output":
                turn.End();
                messages.Add(new Message(MessageRole.Tool, Output(item)) { ToolCallId = item.RequiredText("call_id") });
                break;
            case "item_reference":
                string id = item.RequiredText("id");
                Append(turn, find(id) ?? throw item.Invalid("id", "no item of this id is kept here."));
                break;
            case var type:
                throw item.Invalid("type", $"items of type '{(type.Length <= 40 ? type : type[..40])}' are not read by this server.");
        }
    }

    private static void Append(AssistantTurn turn, ResponseItem item)
    {
        string text = item.Text.ToString();
        switch (item.Kind)
        {
            case ResponseItemKind.Reasoning:
                turn.Think(text);
                break;
            case ResponseItemKind.Message:
                turn.Say([ContentPart.FromText(text)]);
                break;
            default:
                turn.Call(item.CallId, item.Name, text);
                break;
        }
    }

    private static void ReadMessage(JsonFields item, List<Message> messages, AssistantTurn turn)
    {
        string role = item.RequiredText("role");
        if (role is not (MessageRole.System or MessageRole.Developer or MessageRole.User or MessageRole.Assistant))
            throw item.Invalid("role", "expected 'user', 'assistant', 'system' or 'developer'.");
        ContentPart[] parts = Parts(item, "content");
        if (role == MessageRole.Assistant)
        {
            turn.Say(parts);
            return;
        }

        turn.End();
        messages.Add(new Message(role, parts));
    }

    // A string, or a list of parts.
    private static ContentPart[] Parts(JsonFields item, string name)
    {
        JsonElement content = item.Any(name);
        if (content.ValueKind == JsonValueKind.Undefined)
            throw item.Missing(name);
        if (content.ValueKind == JsonValueKind.String)
            return [ContentPart.FromText(content.GetString()!)];
        string path = item.PathOf(name);
        if (content.ValueKind != JsonValueKind.Array)
            throw JsonFields.WrongType(path, "a string or an array of parts", content);
        return [.. JsonFields.AsList(content, path, MostParts).Select((part, i) => Part(JsonFields.Of(part, $"{path}[{i}]")))];
    }

    private static ContentPart Part(JsonFields part) => part.RequiredText("type") switch
    {
        "input_text" or "output_text" or "text" or "summary_text" or "reasoning_text" => ContentPart.FromText(part.RequiredText("text")),
        "refusal" => ContentPart.FromText(part.RequiredText("refusal")),
        "input_image" => throw part.Invalid("type", "this server reads text only, no images."),
        "input_file" or "input_audio" => throw part.Invalid("type", "this server reads text only, no files."),
        _ => throw part.Invalid("type", "expected 'input_text' or 'output_text'."),
    };

    // The reasoning itself where a client has it, else its summary.
    private static string Reasoning(JsonFields item)
    {
        string text = item.Has("content") ? Join(Parts(item, "content")) : "";
        return text.Length > 0 || !item.Has("summary") ? text : Join(Parts(item, "summary"));
    }

    private static string Output(JsonFields item) => Join(Parts(item, "output"));

    private static string Join(ContentPart[] parts) => string.Concat(parts.Select(part => part.Text));

    // Items of one turn of the model, until something else follows.
    private sealed class AssistantTurn(List<Message> messages)
    {
        private readonly List<ContentPart> _content = [];
        private readonly List<ToolCall> _calls = [];
        private string? _reasoning;

        public void Think(string text)
        {
            if (_content.Count > 0 || _calls.Count > 0)
                End();
            if (text.Length > 0)
                _reasoning += text;
        }

        // Text behind a call still belongs to the turn; text behind text is another turn.
        public void Say(ContentPart[] parts)
        {
            if (_content.Count > 0 && _calls.Count == 0)
                End();
            _content.AddRange(parts);
        }

        public void Call(string id, string name, string arguments) => _calls.Add(new ToolCall(id, name, JsonSerializer.SerializeToElement(arguments)));

        public void End()
        {
            if (_reasoning is not null || _content.Count > 0 || _calls.Count > 0)
                messages.Add(new Message(MessageRole.Assistant, [.. _content]) { ReasoningContent = _reasoning, ToolCalls = [.. _calls] });
            _content.Clear();
            _calls.Clear();
            _reasoning = null;
        }
    }
}
