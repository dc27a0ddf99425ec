using System.Text.Json;
using Qian.Inference;
using Qian.Inference.Chat;
using Qian.Server.Http;
using Qian.Server.Replies;

namespace Qian.Server.OpenAi;

// A body of /v1/chat/completions to a ChatRequest. Fields that we do not know are passed over, as OpenAI's servers pass over
// some; those that would change the reply and cannot be served are refused by name.
internal static class ChatCompletionReader
{
    public static ChatRequest Read(JsonFields body, ServerOptions options)
    {
        body.Text("model");
        bool withLogProbs = body.Flag("logprobs") ?? false;
        int? alternatives = body.Integer("top_logprobs", 0, SamplingFields.MostAlternatives);
        if (alternatives is > 0 && !withLogProbs)
            throw body.Invalid("top_logprobs", "it needs 'logprobs' to be true.");
        RefuseUnserved(body);
        ToolChoice choice = ToolChoice.Read(body);
        OutputConstraint? constraint = ConstraintFields.Read(body, out string formatPath);
        return new ChatRequest
        {
            Messages = Messages(body, options.MaxMessageCount),
            Tools = Tools(body, options.MaxToolCount),
            Template = Thinking(body),
            Sampling = SamplingFields.Read(body) with
            {
                MaxTokens = body.Integer("max_completion_tokens", 1, int.MaxValue) ?? body.Integer("max_tokens", 1, int.MaxValue),
                LogProbs = withLogProbs ? alternatives ?? 0 : null,
                ThinkingBudget = body.Integer("thinking_budget", 0, int.MaxValue),
                Constraint = constraint,
            },
            FormatPath = formatPath,
            MustCall = choice.MustCall,
            RequiredTool = choice.Tool,
            AllowedTools = choice.Allowed,
            ChoiceCount = body.Integer("n", 1, SamplingFields.MostChoices) ?? 1,
            OneCallOnly = body.Flag("parallel_tool_calls") == false,
            Streams = body.Flag("stream") ?? false,
            StreamsUsage = body.Object("stream_options")?.Flag("include_usage") ?? false,
        };
    }

    public static IReadOnlyList<Message> Messages(JsonFields body, int maxCount)
    {
        JsonElement[] items = body.List("messages", maxCount) ?? throw body.Missing("messages");
        if (items.Length == 0)
            throw body.Invalid("messages", "there must be at least one message.");
        var messages = new Message[items.Length];
        for (int i = 0; i < items.Length; i++)
            messages[i] = ReadMessage(items[i], $"messages[{i}]");
        return messages;
    }

    // Null when there are none, or none may be called.
    public static IReadOnlyList<ToolDefinition>? Tools(JsonFields body, int maxCount)
    {
        JsonElement[]? items = body.List("tools", maxCount);
        bool mayCall = ToolChoice.Read(body).MayCall;
        if (items is null || items.Length == 0)
            return null;
        var tools = new ToolDefinition[items.Length];
        for (int i = 0; i < items.Length; i++)
        {
            string path = $"tools[{i}]";
            if (JsonFields.Of(items[i], path).Text("type") is { } type and not "function")
                throw RequestFault.Bad($"{path}.type", $"Invalid '{path}.type': only 'function' tools can be called, not '{(type.Length <= 40 ? type : type[..40])}'.", "invalid_value");
            tools[i] = At(path, () => new ToolDefinition(items[i]));
        }

        return mayCall ? tools : null;
    }

    // enable_thinking and preserve_thinking in chat_template_kwargs or beside it, reasoning_effort; the more specific wins.
    public static ChatTemplateOptions Thinking(JsonFields body)
    {
        JsonFields? kwargs = body.Object("chat_template_kwargs");
        string? effort = body.Text("reasoning_effort") ?? body.Object("reasoning")?.Text("effort");
        if (effort is not (null or "none" or "minimal" or "low" or "medium" or "high" or "xhigh" or "max"))
            throw body.Invalid("reasoning_effort", "expected none, minimal, low, medium or high.");
        bool? thinks = kwargs?.Flag("enable_thinking") ?? body.Flag("enable_thinking") ?? (effort is not null ? effort is not ("none" or "minimal") : body.Integer("thinking_budget", 0, int.MaxValue) == 0 ? false : null);
        return new ChatTemplateOptions
        {
            EnableThinking = thinks,
            PreserveThinking = kwargs?.Flag("preserve_thinking") ?? body.Flag("preserve_thinking"),
            ExtraVariables = kwargs?.Json ?? default,
        };
    }

    private static void RefuseUnserved(JsonFields body)
    {
        if (body.Has("functions") || body.Has("function_call"))
            throw RequestFault.Bad(body.Has("functions") ? "functions" : "function_call", "Functions are given as 'tools' and 'tool_choice' here.", "unsupported_parameter");
        foreach (JsonElement modality in body.List("modalities", 16) ?? [])
        {
            if (JsonFields.AsText(modality, "modalities") != "text")
                throw body.Invalid("modalities", "this server gives text only.");
        }
    }

    private static Message ReadMessage(JsonElement json, string path)
    {
        JsonFields fields = JsonFields.Of(json, path);
        string role = fields.RequiredText("role");
        if (role is not (MessageRole.System or MessageRole.Developer or MessageRole.User or MessageRole.Assistant or MessageRole.Tool))
            throw fields.Invalid("role", "expected 'system', 'developer', 'user', 'assistant' or 'tool'.");
        JsonElement content = fields.Any("content");
        if (content.ValueKind == JsonValueKind.Undefined && role != MessageRole.Assistant)
            throw fields.Missing("content");
        if (content.ValueKind is not (JsonValueKind.Undefined or JsonValueKind.String or JsonValueKind.Array))
            throw JsonFields.WrongType(fields.PathOf("content"), "a string or an array of parts", content);
        if (fields.Any("tool_calls") is { ValueKind: not (JsonValueKind.Undefined or JsonValueKind.Array) } calls)
            throw JsonFields.WrongType(fields.PathOf("tool_calls"), "an array", calls);
        foreach (string name in (ReadOnlySpan<string>)["name", "tool_call_id", "reasoning_content"])
            fields.Text(name);
        Message message = At(content.ValueKind == JsonValueKind.Array ? fields.PathOf("content") : path, () => MessageJson.ReadMessage(json));
        for (int i = 0; i < message.Content.Count; i++)
        {
            if (message.Content[i].Kind != ContentKind.Text)
                throw RequestFault.Bad($"{path}.content[{i}]", $"Invalid '{path}.content[{i}]': this server reads text only, no images and no videos.", "invalid_value");
        }

        return message;
    }

    // Refusals of the inner readers, with the place that they cannot know.
    private static T At<T>(string path, Func<T> read)
    {
        try
        {
            return read();
        }
        catch (BadRequestException refusal)
        {
            throw RequestFault.Bad(path, $"Invalid '{path}': {refusal.Message}", "invalid_value");
        }
    }
}
