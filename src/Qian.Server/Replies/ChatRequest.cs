using Qian.Inference;
using Qian.Inference.Chat;
using Qian.Inference.Runtime;
using Qian.Server.Http;

namespace Qian.Server.Replies;

// A conversation to be continued, in whatever dialect it came: from here on, dialects differ in spelling only.
internal sealed record ChatRequest
{
    public required IReadOnlyList<Message> Messages { get; init; }

    // Null where no call may be made.
    public IReadOnlyList<ToolDefinition>? Tools { get; init; }

    public ChatTemplateOptions Template { get; init; } = ChatTemplateOptions.Default;

    public SamplingOptions Sampling { get; init; } = new();

    // The reply must call a tool; this one, where it is named.
    public bool MustCall { get; init; }

    public string? RequiredTool { get; init; }

    // Names of the tools that may be called, where not all that the prompt shows may.
    public IReadOnlyList<string>? AllowedTools { get; init; }

    // The field that says what the reply must look like, as the dialect calls it.
    public string FormatPath { get; init; } = "response_format";

    public int ChoiceCount { get; init; } = 1;

    // The reply ends with its first tool call.
    public bool OneCallOnly { get; init; }

    public bool Streams { get; init; }

    public bool StreamsUsage { get; init; }

    // The prompt's text in segments. What the template refuses is a fault of the messages.
    public IReadOnlyList<PromptSegment> Render(Engine engine)
    {
        ChatTemplate template = engine.Template;
        try
        {
            return template.RenderSegments(MessageNormalizer.Normalize(Messages, template.Summary), Tools, Template);
        }
        catch (BadRequestException refusal)
        {
            throw RequestFault.Bad("messages", refusal.Message);
        }
    }

    // The prompt's tokens; replies that came from this engine keep theirs.
    private EncodedPrompt Encode(Engine engine, string scope)
    {
        try
        {
            return engine.EncodeChat(Messages, Tools, Template, scope);
        }
        catch (BadRequestException refusal)
        {
            throw RequestFault.Bad("messages", refusal.Message);
        }
    }

    public ReplyOrder Order(Engine engine, ServingTerms terms)
    {
        EncodedPrompt prompt = Encode(engine, terms.Scope);
        if (prompt.Tokens.Length >= engine.ContextLength)
            throw RequestFault.ContextExceeded("messages", prompt.Tokens.Length, engine.ContextLength);
        bool thinks = prompt.Thinks;
        return terms.Lay(new ReplyOrder
        {
            Prompts = [prompt.Tokens],
            IsChat = true,
            Thinks = thinks,
            Mode = thinks ? SamplingMode.Thinking : SamplingMode.NonThinking,
            Tools = Tools,
            // A budget of thinking means nothing to a reply that does not think.
            Sampling = Sampling with { ThinkingBudget = thinks ? Sampling.ThinkingBudget : null, Constraint = Constraint() },
            ChoiceCount = ChoiceCount,
            OneCallOnly = OneCallOnly,
            ConstraintPath = Sampling.Constraint is null ? "tools" : FormatPath,
        });
    }

    private OutputConstraint? Constraint()
    {
        try
        {
            return ToolUse.Constrain(Callable(), MustCall, RequiredTool, !OneCallOnly, Sampling.Constraint);
        }
        catch (BadRequestException refusal)
        {
            throw RequestFault.Bad("tool_choice", $"Invalid 'tool_choice': {refusal.Message}", "invalid_value");
        }
    }

    private IReadOnlyList<ToolDefinition>? Callable()
    {
        if (AllowedTools is not { } allowed)
            return Tools;
        foreach (string name in allowed)
        {
            if (Tools?.Any(tool => tool.Name == name) != true)
                throw new BadRequestException($"the tool '{(name.Length <= 64 ? name : name[..64])}' is allowed, but is not among the tools.");
        }

        return [.. Tools!.Where(tool => allowed.Contains(tool.Name))];
    }
}

// What is to be generated: token ids in, how to go on, how to read what comes out.
internal sealed record ReplyOrder
{
    public required IReadOnlyList<int[]> Prompts { get; init; }

    // Replies to each prompt; reply c of prompt p is choice p * ChoiceCount + c.
    public int ChoiceCount { get; init; } = 1;

    public SamplingOptions Sampling { get; init; } = new();

    // The request's field that a constraint comes from.
    public string ConstraintPath { get; init; } = "response_format";

    // The preset of the checkpoint's name to take; none for text that is no conversation.
    public SamplingMode? Mode { get; init; }

    // Whether the output has reasoning and tool calls to be told apart; all of it is text otherwise.
    public bool IsChat { get; init; }

    // The prompt ends inside the thinking.
    public bool Thinks { get; init; }

    public IReadOnlyList<ToolDefinition>? Tools { get; init; }

    public bool OneCallOnly { get; init; }

    // Where its text and what comes of it may be known again.
    public string Scope { get; init; } = "";

    // Who asks, and how urgent it is: lower comes first.
    public string Caller { get; init; } = "";

    public int Priority { get; init; }

    // What the tokens are computed with beside the model's weights; null for the model as it is.
    public Adapter? Adapter { get; init; }

    // The prompt's own log-probabilities are asked for, with this many alternatives.
    public int? PromptLogProbs { get; init; }

    // Nothing is generated: only the prompt is scored.
    public bool ScoresOnly { get; init; }

    public int TotalChoiceCount => Prompts.Count * ChoiceCount;
}
