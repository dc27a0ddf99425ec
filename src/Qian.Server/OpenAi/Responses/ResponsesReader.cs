using System.Text.Json;
using Qian.Inference;
using Qian.Inference.Chat;
using Qian.Server.Http;
using Qian.Server.Replies;

namespace Qian.Server.OpenAi.Responses;

// A body of /v1/responses to a request. What would change the reply and cannot be served is refused by name; what only
// concerns the vendor's own service (tiers, cache keys, users) is passed over.
internal static class ResponsesReader
{
    private const string LogProbsInclusion = "message.output_text.logprobs";

    // Parts of the official API that need services beside the model.
    private static readonly string[] s_unserved = ["conversation", "prompt"];

    public static ResponsesRequest Read(JsonFields body, ServerOptions options, ResponseStore store, string owner)
    {
        body.Text("model");
        RefuseUnserved(body);
        ToolChoice choice = ToolChoice.Read(body);
        ToolDefinition[]? tools = Tools(body, options.MaxToolCount);
        string? previousId = body.Text("previous_response_id");
        StoredResponse? previous = previousId is null ? null : store.Find(owner, previousId) ?? throw NoSuchPrevious(previousId);
        List<Message> history = [.. previous?.History ?? []];
        ResponseInput.Read(body, history, options.MaxMessageCount, id => store.FindItem(owner, id));
        if (history.Count == 0)
            throw body.Missing("input");
        if (history.Count > options.MaxMessageCount)
            throw body.Invalid("input", $"the conversation may have {options.MaxMessageCount} messages at most, with those of earlier responses.");
        bool withLogProbs = Includes(body);
        int? alternatives = body.Integer("top_logprobs", 0, SamplingFields.MostAlternatives);
        OutputConstraint? constraint = ConstraintFields.ReadResponses(body, out string formatPath);
        Message[] instructions = body.Text("instructions") is { Length: > 0 } text ? [new Message(MessageRole.System, text)] : [];
        return new ResponsesRequest
        {
            Chat = new ChatRequest
            {
                Messages = [.. instructions, .. history],
                // Tools that must not be called are looked at all the same.
                Tools = choice.MayCall ? tools : null,
                MustCall = choice.MustCall,
                RequiredTool = choice.Tool,
                AllowedTools = choice.Allowed,
                FormatPath = formatPath,
                Template = ChatCompletionReader.Thinking(body),
                Sampling = SamplingFields.Read(body) with
                {
                    MaxTokens = body.Integer("max_output_tokens", 1, int.MaxValue),
                    LogProbs = withLogProbs ? alternatives ?? 0 : null,
                    ThinkingBudget = body.Integer("thinking_budget", 0, int.MaxValue),
                    Constraint = constraint,
                },
                OneCallOnly = body.Flag("parallel_tool_calls") == false,
                Streams = body.Flag("stream") ?? false,
            },
            History = history,
            Body = body.Json,
            PreviousId = previousId,
            IsStored = body.Flag("store") ?? true,
            WithLogProbs = withLogProbs,
        };
    }

    // {"type": "function", "name", "description", "parameters", "strict"}: flat, unlike those of chat completions.
    private static ToolDefinition[]? Tools(JsonFields body, int maxCount)
    {
        if (body.List("tools", maxCount) is not { Length: > 0 } items)
            return null;
        var tools = new ToolDefinition[items.Length];
        for (int i = 0; i < items.Length; i++)
        {
            JsonFields tool = JsonFields.Of(items[i], $"tools[{i}]");
            if (tool.RequiredText("type") is var type && type != "function")
                throw tool.Invalid("type", $"only 'function' tools can be called here, not '{(type.Length <= 40 ? type : type[..40])}'.");
            tool.RequiredText("name");
            tool.Object("parameters");
            try
            {
                tools[i] = new ToolDefinition(items[i]);
            }
            catch (BadRequestException refusal)
            {
                throw RequestFault.Bad($"tools[{i}]", $"Invalid 'tools[{i}]': {refusal.Message}", "invalid_value");
            }
        }

        return tools;
    }

    private static void RefuseUnserved(JsonFields body)
    {
        foreach (string name in s_unserved)
        {
            if (body.Has(name))
                throw RequestFault.Bad(name, $"Unsupported parameter: '{name}' is not kept by this server.", "unsupported_parameter");
        }

        if (body.Flag("background") == true)
            throw RequestFault.Bad("background", "Unsupported parameter: this server answers while the client waits.", "unsupported_parameter");
        if (body.Text("truncation") is not (null or "auto" or "disabled"))
            throw body.Invalid("truncation", "expected 'auto' or 'disabled'.");
        body.Object("metadata");
    }

    private static bool Includes(JsonFields body)
    {
        bool found = false;
        JsonElement[] items = body.List("include", 64) ?? [];
        for (int i = 0; i < items.Length; i++)
            found |= JsonFields.AsText(items[i], $"include[{i}]") == LogProbsInclusion;
        return found;
    }

    private static RequestFault NoSuchPrevious(string id) => RequestFault.Bad(
        "previous_response_id",
        $"Previous response with id '{(id.Length <= 80 ? id : id[..80])}' not found. This server keeps responses in memory, the latest only, and for the key that made them.",
        "previous_response_not_found");
}
