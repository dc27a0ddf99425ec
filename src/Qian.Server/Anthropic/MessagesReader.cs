using System.Text.Json;
using System.Text.Json.Nodes;
using Qian.Inference;
using Qian.Inference.Chat;
using Qian.Server.Http;
using Qian.Server.Replies;

namespace Qian.Server.Anthropic;

// A body of /v1/messages to a ChatRequest. Blocks become messages: a tool_result is a message of its own, thinking goes where
// the template wants it. As with the official API, a request without "thinking" is answered without any.
internal static class MessagesReader
{
    private const int MostBlocks = 4096;

    public static ChatRequest Read(JsonFields body, ServerOptions options)
    {
        int maxTokens = body.Integer("max_tokens", 1, int.MaxValue) ?? throw Required("max_tokens");
        (bool thinks, int? budget) = Thinking(body, maxTokens);
        (bool mayCall, bool oneCallOnly, bool mustCall, string? requiredTool) = ToolChoice(body);
        return ReadPrompt(body, options, thinks, mayCall) with
        {
            Sampling = new SamplingOptions
            {
                MaxTokens = maxTokens,
                Temperature = body.Number("temperature", 0, 2),
                TopP = body.Number("top_p", 0, 1),
                TopK = body.Integer("top_k", 0, int.MaxValue),
                StopStrings = Stops(body),
                ThinkingBudget = budget,
                Constraint = Format(body, out string formatPath),
            },
            FormatPath = formatPath,
            OneCallOnly = oneCallOnly,
            MustCall = mustCall,
            RequiredTool = requiredTool,
            Streams = body.Flag("stream") ?? false,
        };
    }

    // For count_tokens, which needs no max_tokens.
    public static ChatRequest ReadForCount(JsonFields body, ServerOptions options)
    {
        (bool thinks, _) = Thinking(body, int.MaxValue);
        return ReadPrompt(body, options, thinks, ToolChoice(body).MayCall);
    }

    private static ChatRequest ReadPrompt(JsonFields body, ServerOptions options, bool thinks, bool mayCall)
    {
        body.Text("model");
        JsonFields? kwargs = body.Object("chat_template_kwargs");
        IReadOnlyList<ToolDefinition>? tools = Tools(body, options.MaxToolCount);
        return new ChatRequest
        {
            Messages = Messages(body, options.MaxMessageCount),
            Tools = mayCall ? tools : null,
            Template = new ChatTemplateOptions
            {
                EnableThinking = kwargs?.Flag("enable_thinking") ?? thinks,
                PreserveThinking = kwargs?.Flag("preserve_thinking"),
                ExtraVariables = kwargs?.Json ?? default,
            },
        };
    }

    private static List<Message> Messages(JsonFields body, int maxCount)
    {
        var messages = new List<Message>();
        JsonElement system = body.Any("system");
        if (system.ValueKind == JsonValueKind.String)
            messages.Add(new Message(MessageRole.System, system.GetString()!));
        else if (system.ValueKind != JsonValueKind.Undefined)
            messages.Add(new Message(MessageRole.System, [.. Blocks(system, "system").Select(block => TextPart(block, ["text"]))]));

        JsonElement[] items = body.List("messages", maxCount) ?? throw Required("messages");
        if (items.Length == 0)
            throw RequestFault.Bad("messages", "at least one message is required");
        for (int i = 0; i < items.Length; i++)
        {
            JsonFields item = JsonFields.Of(items[i], $"messages.{i}");
            switch (item.Text("role") ?? throw Required(item.PathOf("role")))
            {
                case "user":
                    AddUser(messages, item);
                    break;
                case "assistant":
                    messages.Add(Assistant(item));
                    break;
                case "system":
                    messages.Add(new Message(MessageRole.System, [.. Content(item).Select(block => TextPart(block, ["text"]))]));
                    break;
                default:
                    throw RequestFault.Bad(item.PathOf("role"), "Input should be 'user' or 'assistant'");
            }
        }

        if (messages[^1].Role == MessageRole.Assistant)
            throw RequestFault.Bad("messages", "the beginning of the assistant's reply cannot be given; the last message must be the user's");
        return messages;
    }

    // Results and text in the order in which they stand; neighbouring text is one message.
    private static void AddUser(List<Message> messages, JsonFields item)
    {
        var parts = new List<ContentPart>();
        foreach (JsonFields block in Content(item))
        {
            if (TypeOf(block) != "tool_result")
            {
                parts.Add(TextPart(block, ["text", "document"]));
                continue;
            }

            Flush();
            string id = block.Text("tool_use_id") ?? throw Required(block.PathOf("tool_use_id"));
            string text = string.Concat(block.Has("content") ? Content(block).Select(inner => TextPart(inner, ["text", "document"]).Text) : []);
            if (block.Flag("is_error") == true)
                text = "Error: " + text;
            messages.Add(new Message(MessageRole.Tool, text) { ToolCallId = id });
        }

        Flush();

        void Flush()
        {
            if (parts.Count > 0)
                messages.Add(new Message(MessageRole.User, [.. parts]));
            parts.Clear();
        }
    }

    private static Message Assistant(JsonFields item)
    {
        var parts = new List<ContentPart>();
        var calls = new List<ToolCall>();
        string? reasoning = null;
        foreach (JsonFields block in Content(item))
        {
            switch (TypeOf(block))
            {
                case "thinking":
                    reasoning += block.Text("thinking") ?? throw Required(block.PathOf("thinking"));
                    break;
                case "redacted_thinking":
                    break;
                case "tool_use":
                    string id = block.Text("id") ?? throw Required(block.PathOf("id"));
                    string name = block.Text("name") ?? throw Required(block.PathOf("name"));
                    calls.Add(new ToolCall(id, name, block.Object("input")?.Json ?? throw Required(block.PathOf("input"))));
                    break;
                default:
                    parts.Add(TextPart(block, ["text"]));
                    break;
            }
        }

        return new Message(MessageRole.Assistant, parts) { ReasoningContent = reasoning, ToolCalls = calls };
    }

    // A string stands for one block of text.
    private static IEnumerable<JsonFields> Content(JsonFields item)
    {
        JsonElement content = item.Any("content");
        return content.ValueKind switch
        {
            JsonValueKind.Undefined => throw Required(item.PathOf("content")),
            JsonValueKind.String => [JsonFields.Of(JsonSerializer.SerializeToElement(new JsonObject { ["type"] = "text", ["text"] = content.GetString() }), item.PathOf("content"))],
            _ => Blocks(content, item.PathOf("content")),
        };
    }

    private static IEnumerable<JsonFields> Blocks(JsonElement json, string path) => JsonFields.AsList(json, path, MostBlocks).Select((block, i) => JsonFields.Of(block, $"{path}.{i}"));

    private static string TypeOf(JsonFields block) => block.Text("type") ?? throw Required(block.PathOf("type"));

    private static ContentPart TextPart(JsonFields block, ReadOnlySpan<string> allowed)
    {
        string type = TypeOf(block);
        if (!allowed.Contains(type))
        {
            string found = type is "image" ? "images are not read by this server" : $"expected {string.Join(" or ", allowed.ToArray().Select(name => $"'{name}'"))} here";
            throw RequestFault.Bad(block.PathOf("type"), found);
        }

        if (type == "text")
            return ContentPart.FromText(block.Text("text") ?? throw Required(block.PathOf("text")));
        JsonFields source = block.Object("source") ?? throw Required(block.PathOf("source"));
        if (source.Text("type") != "text")
            throw RequestFault.Bad(source.PathOf("type"), "only documents of type 'text' are read by this server");
        return ContentPart.FromText(source.Text("data") ?? throw Required(source.PathOf("data")));
    }

    private static (bool Thinks, int? Budget) Thinking(JsonFields body, int maxTokens)
    {
        if (body.Object("thinking") is not { } thinking)
            return (false, null);
        switch (thinking.Text("type") ?? throw Required("thinking.type"))
        {
            case "disabled":
                return (false, null);
            case "adaptive":
                return (true, null);
            case "enabled":
                // The official minimum of 1,024 protects nobody here.
                int budget = thinking.Integer("budget_tokens", 1, int.MaxValue) ?? throw Required("thinking.budget_tokens");
                return budget < maxTokens ? (true, budget) : throw RequestFault.Bad("max_tokens", "`max_tokens` must be greater than `thinking.budget_tokens`");
            default:
                throw RequestFault.Bad("thinking.type", "Input should be 'enabled', 'disabled' or 'adaptive'");
        }
    }

    private static (bool MayCall, bool OneCallOnly, bool MustCall, string? Tool) ToolChoice(JsonFields body)
    {
        if (body.Object("tool_choice") is not { } choice)
            return (true, false, false, null);
        bool oneOnly = choice.Flag("disable_parallel_tool_use") ?? false;
        return (choice.Text("type") ?? throw Required("tool_choice.type")) switch
        {
            "auto" => (true, oneOnly, false, null),
            "none" => (false, false, false, null),
            "any" => (true, oneOnly, true, null),
            "tool" => (true, oneOnly, true, choice.Text("name") ?? throw Required("tool_choice.name")),
            _ => throw RequestFault.Bad("tool_choice.type", "Input should be 'auto', 'any', 'tool' or 'none'"),
        };
    }

    // The form of the answer: output_config.format, or output_format as it was first called.
    private static OutputConstraint? Format(JsonFields body, out string path)
    {
        JsonFields? config = body.Object("output_config")?.Object("format"), early = body.Object("output_format");
        path = config is null ? "output_format" : "output_config.format";
        if (config is not null && early is not null)
            throw RequestFault.Bad("output_format", "`output_config.format` says already what the reply must look like; give only one");
        if ((config ?? early) is not { } format)
            return null;
        if ((format.Text("type") ?? throw Required(format.PathOf("type"))) != "json_schema")
            throw RequestFault.Bad(format.PathOf("type"), "Input should be 'json_schema'");
        JsonFields schema = format.Object("schema") ?? throw Required(format.PathOf("schema"));
        try
        {
            return OutputConstraint.JsonSchema(schema.Json);
        }
        catch (BadRequestException refusal)
        {
            throw RequestFault.Bad(format.PathOf("schema"), refusal.Message);
        }
    }

    private static ToolDefinition[]? Tools(JsonFields body, int maxCount)
    {
        if (body.List("tools", maxCount) is not { Length: > 0 } items)
            return null;
        var tools = new ToolDefinition[items.Length];
        for (int i = 0; i < items.Length; i++)
        {
            JsonFields tool = JsonFields.Of(items[i], $"tools.{i}");
            if (tool.Text("type") is { } type and not "custom")
                throw RequestFault.Bad(tool.PathOf("type"), $"only tools of type 'custom' can be called here, not '{(type.Length <= 40 ? type : type[..40])}'");
            string name = tool.Text("name") is { Length: > 0 } given ? given : throw Required(tool.PathOf("name"));
            JsonFields schema = tool.Object("input_schema") ?? throw Required(tool.PathOf("input_schema"));
            var function = new JsonObject { ["name"] = name };
            if (tool.Text("description") is { } description)
                function["description"] = description;
            function["parameters"] = JsonNode.Parse(schema.Json.GetRawText());
            tools[i] = new ToolDefinition(JsonSerializer.SerializeToElement(new JsonObject { ["type"] = "function", ["function"] = function }));
        }

        return tools;
    }

    private static string[]? Stops(JsonFields body)
    {
        if (body.List("stop_sequences", SamplingOptions.MaxStopStrings) is not { Length: > 0 } items)
            return null;
        string[] stops = [.. items.Select((item, i) => JsonFields.AsText(item, $"stop_sequences.{i}"))];
        if (Array.FindIndex(stops, stop => stop.Length is 0 or > SamplingOptions.MaxStopStringLength) is >= 0 and var wrong)
            throw RequestFault.Bad($"stop_sequences.{wrong}", $"expected 1 to {SamplingOptions.MaxStopStringLength} characters");
        return stops;
    }

    private static RequestFault Required(string path) => RequestFault.Bad(path, "Field required");
}
