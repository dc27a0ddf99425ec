using System.Text.Json;
using Qian.Inference;
using Qian.Inference.Chat;
using Qian.Inference.Formats;

namespace Qian.Training;

// Reads one line of a JSONL file. The form is told by its fields:
//   {"messages": [...], "tools": [...]}                   OpenAI; with reasoning_content, tool_calls, "weight": 0 or 1 on assistant messages
//   {"conversations": [{"from": ..., "value": ...}]}      ShareGPT; with "system" and "tools" (JSON, or JSON in a string)
//   {"instruction": ..., "input": ..., "output": ...}     Alpaca; with "system" and "history": [[question, answer], ...]
//   {"text": ...}                                         a plain document
// "enable_thinking", "preserve_thinking" and "chat_template_kwargs" are honoured on all but the last. Throws BadRequestException with
// what was expected and what was found; the caller adds file and line. Knows no template and no tokens.
internal static class ConversationJson
{
    private static readonly JsonDocumentOptions s_options = new() { MaxDepth = 64, AllowDuplicateProperties = false };

    // Exactly one of the two results is not null.
    public static (Conversation? Conversation, string? Text) Read(ReadOnlyMemory<byte> line)
    {
        try
        {
            using var document = JsonDocument.Parse(line, s_options);
            // Tools, arguments and variables outlive the document.
            return ReadRoot(document.RootElement.Clone());
        }
        catch (JsonException e)
        {
            throw new BadRequestException($"expected one JSON object in the line, found bad JSON: {e.Message}", e);
        }
        catch (InvalidOperationException e)
        {
            throw new BadRequestException("expected text, found half a surrogate pair in a string", e);
        }
    }

    private static (Conversation? Conversation, string? Text) ReadRoot(JsonElement root)
    {
        if (root.ValueKind != JsonValueKind.Object)
            throw new BadRequestException($"expected a JSON object, found {Describe(root)}");
        if (root.TryGetProperty("messages", out JsonElement messages))
            return (WithSettings(root, ReadOpenAi(root, messages)), null);
        if (root.TryGetProperty("conversations", out JsonElement turns))
            return (WithSettings(root, ReadShareGpt(root, turns)), null);
        if (root.TryGetProperty("instruction", out _))
            return (WithSettings(root, ReadAlpaca(root)), null);
        if (root.TryGetProperty("text", out _))
            return (null, Text(root, "text"));
        throw new BadRequestException(
            "expected a field \"messages\" (OpenAI), \"conversations\" (ShareGPT), \"instruction\" (Alpaca) or \"text\", found "
            + (root.GetPropertyCount() == 0 ? "no field" : string.Join(", ", root.EnumerateObject().Take(8).Select(field => FileText.Quote(field.Name)))));
    }

    private static Conversation ReadOpenAi(JsonElement root, JsonElement json)
    {
        IReadOnlyList<Message> messages = MessageJson.Read(json);
        var isTaught = new List<bool>();
        for (int i = 0; i < messages.Count; i++)
        {
            if (messages[i].Role == MessageRole.Assistant)
                isTaught.Add(ReadWeight(json[i]));
        }

        return new Conversation(messages, ReadTools(root), isTaught);
    }

    // As OpenAI's fine-tuning files have it: 0 shows a turn without teaching it.
    private static bool ReadWeight(JsonElement message)
    {
        if (!message.TryGetProperty("weight", out JsonElement weight) || weight.ValueKind == JsonValueKind.Null)
            return true;
        if (weight.ValueKind == JsonValueKind.Number && weight.TryGetDouble(out double value) && value is 0 or 1)
            return weight.GetDouble() == 1;
        throw new BadRequestException($"\"weight\" of a message: expected 0 or 1, found {Describe(weight)}");
    }

    private static Conversation ReadShareGpt(JsonElement root, JsonElement turns)
    {
        if (turns.ValueKind != JsonValueKind.Array)
            throw new BadRequestException($"\"conversations\": expected a list, found {Describe(turns)}");
        var messages = new List<Message>();
        if (OptionalText(root, "system") is { Length: > 0 } system)
            messages.Add(new Message(MessageRole.System, system));
        foreach (JsonElement turn in turns.EnumerateArray())
        {
            if (turn.ValueKind != JsonValueKind.Object)
                throw new BadRequestException($"\"conversations\": expected objects, found {Describe(turn)}");
            string from = Text(turn, "from");
            string value = Text(turn, "value");
            if (from == "function_call")
                messages.Add(new Message(MessageRole.Assistant, []) { ToolCalls = ReadCalls(value) });
            else
                messages.Add(new Message(RoleOf(from), value));
        }

        return Taught(messages, ReadTools(root));
    }

    private static string RoleOf(string from) => from switch
    {
        "system" => MessageRole.System,
        "human" or "user" => MessageRole.User,
        "gpt" or "assistant" or "chatgpt" or "bing" or "bard" or "model" => MessageRole.Assistant,
        "tool" or "observation" or "function_response" => MessageRole.Tool,
        _ => throw new BadRequestException($"\"from\": expected system, human, gpt, function_call or observation, found {FileText.Quote(from)}"),
    };

    // One call or a list of them: {"name": ..., "arguments": {...}}.
    private static IReadOnlyList<ToolCall> ReadCalls(string text)
    {
        JsonElement json = Parse(text, "the value of a function_call");
        var calls = new List<ToolCall>();
        foreach (JsonElement call in json.ValueKind == JsonValueKind.Array ? [.. json.EnumerateArray()] : new[] { json })
        {
            if (call.ValueKind != JsonValueKind.Object)
                throw new BadRequestException($"a function_call: expected an object with \"name\" and \"arguments\", found {Describe(call)}");
            calls.Add(new ToolCall(string.Empty, Text(call, "name"), call.TryGetProperty("arguments", out JsonElement arguments) ? arguments : default));
        }

        return calls;
    }

    private static Conversation ReadAlpaca(JsonElement root)
    {
        var messages = new List<Message>();
        if (OptionalText(root, "system") is { Length: > 0 } system)
            messages.Add(new Message(MessageRole.System, system));
        if (root.TryGetProperty("history", out JsonElement history) && history.ValueKind == JsonValueKind.Array)
        {
            foreach (JsonElement pair in history.EnumerateArray())
            {
                if (pair.ValueKind != JsonValueKind.Array || pair.GetArrayLength() != 2 || pair[0].ValueKind != JsonValueKind.String || pair[1].ValueKind != JsonValueKind.String)
                    throw new BadRequestException($"\"history\": expected pairs of question and answer, found {Describe(pair)}");
                messages.Add(new Message(MessageRole.User, pair[0].GetString()!));
                messages.Add(new Message(MessageRole.Assistant, pair[1].GetString()!));
            }
        }

        string instruction = Text(root, "instruction");
        string? input = OptionalText(root, "input");
        messages.Add(new Message(MessageRole.User, string.IsNullOrEmpty(input) ? instruction : instruction + "\n\n" + input));
        messages.Add(new Message(MessageRole.Assistant, Text(root, "output")));
        return Taught(messages, null);
    }

    private static Conversation Taught(List<Message> messages, IReadOnlyList<ToolDefinition>? tools) =>
        new(messages, tools, [.. messages.Where(message => message.Role == MessageRole.Assistant).Select(_ => true)]);

    private static Conversation WithSettings(JsonElement root, Conversation conversation)
    {
        root.TryGetProperty("chat_template_kwargs", out JsonElement variables);
        if (variables.ValueKind is not (JsonValueKind.Undefined or JsonValueKind.Null or JsonValueKind.Object))
            throw new BadRequestException($"\"chat_template_kwargs\": expected an object, found {Describe(variables)}");
        variables = variables.ValueKind == JsonValueKind.Object ? variables : default;
        return conversation with
        {
            EnableThinking = Flag(root, "enable_thinking") ?? Flag(variables, "enable_thinking"),
            PreserveThinking = Flag(root, "preserve_thinking") ?? Flag(variables, "preserve_thinking"),
            TemplateVariables = variables,
        };
    }

    private static IReadOnlyList<ToolDefinition>? ReadTools(JsonElement root)
    {
        if (!root.TryGetProperty("tools", out JsonElement tools))
            return null;
        if (tools.ValueKind != JsonValueKind.String)
            return MessageJson.ReadTools(tools);
        string text = tools.GetString()!;
        return string.IsNullOrWhiteSpace(text) ? null : MessageJson.ReadTools(Parse(text, "\"tools\""));
    }

    private static JsonElement Parse(string text, string what)
    {
        try
        {
            using var document = JsonDocument.Parse(text, s_options);
            return document.RootElement.Clone();
        }
        catch (JsonException e)
        {
            throw new BadRequestException($"{what}: expected JSON, found {FileText.Quote(text)}", e);
        }
    }

    private static bool? Flag(JsonElement json, string name)
    {
        if (json.ValueKind != JsonValueKind.Object || !json.TryGetProperty(name, out JsonElement value))
            return null;
        return value.ValueKind switch
        {
            JsonValueKind.True => true,
            JsonValueKind.False => false,
            JsonValueKind.Null => null,
            _ => throw new BadRequestException($"\"{name}\": expected true or false, found {Describe(value)}"),
        };
    }

    private static string Text(JsonElement json, string name) =>
        OptionalText(json, name) ?? throw new BadRequestException($"\"{name}\": expected a string, found nothing");

    private static string? OptionalText(JsonElement json, string name)
    {
        if (!json.TryGetProperty(name, out JsonElement value) || value.ValueKind == JsonValueKind.Null)
            return null;
        return value.ValueKind == JsonValueKind.String
            ? value.GetString()
            : throw new BadRequestException($"\"{name}\": expected a string, found {Describe(value)}");
    }

    private static string Describe(JsonElement json) => json.ValueKind switch
    {
        JsonValueKind.Object => "an object",
        JsonValueKind.Array => "a list",
        JsonValueKind.String => "a string",
        JsonValueKind.Number => "a number",
        JsonValueKind.Null => "null",
        _ => "true or false",
    };
}
