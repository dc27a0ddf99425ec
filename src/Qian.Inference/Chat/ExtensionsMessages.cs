using System.Text.Json;
using Microsoft.Extensions.AI;

namespace Qian.Inference.Chat;

// Between Microsoft.Extensions.AI's types and ours, both ways.
internal static class ExtensionsMessages
{
    // The library's own options, on one line: indentation would cost the model a token or two per line.
    private static readonly JsonSerializerOptions s_results = new(AIJsonUtilities.DefaultOptions) { WriteIndented = false };

    public static IReadOnlyList<Message> Read(IEnumerable<ChatMessage> messages, ChatOptions? options)
    {
        var read = new List<Message>();
        if (!string.IsNullOrEmpty(options?.Instructions))
            read.Add(new Message(MessageRole.System, options.Instructions));
        foreach (ChatMessage message in messages)
            Add(read, message);
        return read;
    }

    public static ChatSettings Settings(ChatOptions? options)
    {
        var settings = new ChatSettings { Tools = Tools(options), ParallelToolCalls = options?.AllowMultipleToolCalls ?? true };
        if (options?.ToolMode is RequiredChatToolMode required)
            settings = settings with { RequireToolCall = true, RequiredTool = required.RequiredFunctionName };
        if (options?.Reasoning?.Effort == ReasoningEffort.None)
            settings = settings with { Think = false };
        if (options?.AdditionalProperties is { } more && more.TryGetValue("enable_thinking", out object? think))
            settings = settings with { Think = Flag("enable_thinking", think) };
        if (options?.AdditionalProperties is { } others && others.TryGetValue("preserve_thinking", out object? preserve))
            settings = settings with { PreserveThinking = Flag("preserve_thinking", preserve) };
        return settings;
    }

    public static SamplingOptions Sampling(ChatOptions? options) => options is null ? new SamplingOptions() : new SamplingOptions
    {
        Temperature = options.Temperature,
        TopP = options.TopP,
        TopK = options.TopK,
        FrequencyPenalty = options.FrequencyPenalty,
        PresencePenalty = options.PresencePenalty,
        MaxTokens = options.MaxOutputTokens,
        Seed = unchecked((ulong?)options.Seed),
        StopStrings = options.StopSequences is { Count: > 0 } stops ? [.. stops] : null,
        Constraint = options.ResponseFormat is not ChatResponseFormatJson json ? null
            : json.Schema is { } schema ? OutputConstraint.JsonSchema(schema)
            : OutputConstraint.JsonObject,
    };

    public static List<AIContent> Contents(ChatDelta delta)
    {
        var contents = new List<AIContent>();
        if (delta.Reasoning.Length > 0)
            contents.Add(new TextReasoningContent(delta.Reasoning));
        if (delta.Text.Length > 0)
            contents.Add(new TextContent(delta.Text));
        foreach (ToolCall call in delta.ToolCalls)
            contents.Add(new FunctionCallContent(call.Id, call.Name, Arguments(call.Arguments)));
        if (delta.Usage is { } usage)
        {
            contents.Add(new UsageContent(new UsageDetails
            {
                AdditionalCounts = new AdditionalPropertiesDictionary<long> { ["drafted_tokens"] = usage.DraftedTokens, ["accepted_tokens"] = usage.AcceptedTokens },
                InputTokenCount = usage.PromptTokens,
                OutputTokenCount = usage.OutputTokens,
                TotalTokenCount = usage.PromptTokens + usage.OutputTokens,
                CachedInputTokenCount = usage.CachedTokens,
                ReasoningTokenCount = usage.ReasoningTokens,
            }));
        }

        return contents;
    }

    public static ChatFinishReason Finish(FinishReason finish, bool calledTools) => finish switch
    {
        FinishReason.Stop => calledTools ? ChatFinishReason.ToolCalls : ChatFinishReason.Stop,
        _ => ChatFinishReason.Length,
    };

    // A message of ours for each of theirs, but one for each tool result: results are messages of their own here.
    private static void Add(List<Message> read, ChatMessage message)
    {
        var parts = new List<ContentPart>();
        var calls = new List<ToolCall>();
        string? reasoning = null;
        bool hasResult = false;
        foreach (AIContent content in message.Contents)
        {
            switch (content)
            {
                case TextReasoningContent thought:
                    reasoning += thought.Text;
                    break;
                case TextContent text:
                    parts.Add(ContentPart.FromText(text.Text));
                    break;
                case FunctionCallContent call:
                    calls.Add(new ToolCall(call.CallId, call.Name, JsonSerializer.SerializeToElement(call.Arguments ?? new Dictionary<string, object?>(), AIJsonUtilities.DefaultOptions)));
                    break;
                case FunctionResultContent result:
                    string text2 = result.Result is string plain ? plain : JsonSerializer.Serialize(result.Result, s_results);
                    read.Add(new Message(MessageRole.Tool, text2) { ToolCallId = result.CallId });
                    hasResult = true;
                    break;
                case DataContent data when data.HasTopLevelMediaType("image"):
                    parts.Add(ContentPart.FromImage(data.Uri));
                    break;
                case UriContent uri when uri.HasTopLevelMediaType("image"):
                    parts.Add(ContentPart.FromImage(uri.Uri.ToString()));
                    break;
                case UsageContent:
                    break;
                default:
                    throw new BadRequestException($"A message holds {content.GetType().Name}; text, reasoning, tool calls, tool results and images are understood.");
            }
        }

        // Only results stood in it. Any other message counts even when it is empty: a reply may be, and the turn remains.
        if (hasResult && parts.Count == 0 && calls.Count == 0 && reasoning is null)
            return;
        read.Add(new Message(message.Role.Value, parts) { ReasoningContent = reasoning, ToolCalls = calls, Name = message.AuthorName });
    }

    private static List<ToolDefinition>? Tools(ChatOptions? options)
    {
        if (options?.Tools is not { Count: > 0 } tools || options.ToolMode is NoneChatToolMode)
            return null;
        var definitions = new List<ToolDefinition>();
        foreach (AITool tool in tools)
        {
            if (tool is not AIFunctionDeclaration function)
                throw new BadRequestException($"Tool '{tool.Name}' is {tool.GetType().Name}; only functions can be called.");
            definitions.Add(new ToolDefinition(JsonSerializer.SerializeToElement(new
            {
                type = "function",
                function = new { name = function.Name, description = function.Description, parameters = function.JsonSchema },
            })));
        }

        return definitions;
    }

    private static Dictionary<string, object?> Arguments(JsonElement arguments)
    {
        var values = new Dictionary<string, object?>();
        foreach (JsonProperty argument in arguments.EnumerateObject())
            values[argument.Name] = argument.Value;
        return values;
    }

    private static bool Flag(string name, object? value) => value switch
    {
        bool flag => flag,
        JsonElement { ValueKind: JsonValueKind.True } => true,
        JsonElement { ValueKind: JsonValueKind.False } => false,
        _ => throw new BadRequestException($"{name}: expected true or false, found {value ?? "null"}."),
    };
}
