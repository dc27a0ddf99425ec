using System.Text;
using System.Text.Json;
using Qian.Inference.Chat.Jinja;

namespace Qian.Inference.Chat;

// A checkpoint's chat template, compiled once: conversation in, prompt out. It owns the names of the variables that templates expect
// and turns the interpreter's failures into the two public exceptions. It does not repair conversations (MessageNormalizer does) and
// knows no tokens. Rendering changes nothing, so one instance may serve many threads.
internal sealed class ChatTemplate
{
    private const string DefaultResource = "qwen3.6-chat_template.jinja";

    private static readonly Lazy<ChatTemplate> s_default = new(() => Compile(ReadDefault()));

    private readonly BlockNode _template;
    private readonly JinjaLimits _limits;
    private readonly Lazy<ChatTemplateSummary> _summary;

    private ChatTemplate(string source, BlockNode template, IReadOnlyList<string> variables, JinjaLimits limits)
    {
        Source = source;
        _template = template;
        _limits = limits;
        _summary = new Lazy<ChatTemplateSummary>(() => Summarize(variables));
    }

    // The official template of Qwen3.6, for checkpoints that carry none.
    public static ChatTemplate Default => s_default.Value;

    public string Source { get; }

    public ChatTemplateSummary Summary => _summary.Value;

    // Throws BadModelFileException when the text is no template that we understand; the message gives the line.
    public static ChatTemplate Compile(string source, JinjaLimits? limits = null)
    {
        try
        {
            BlockNode template = JinjaParser.Parse(source, out IReadOnlyList<string> variables);
            return new ChatTemplate(source, template, variables, limits ?? JinjaLimits.Default);
        }
        catch (TemplateException failure)
        {
            throw new BadModelFileException(
                $"The chat template cannot be read: line {failure.Line}: {failure.Message} Use another template file.", failure);
        }
    }

    // The prompt as text. Throws BadRequestException with the template's own words where the template refuses the conversation.
    public string Render(IReadOnlyList<Message> messages, IReadOnlyList<ToolDefinition>? tools, ChatTemplateOptions options) =>
        RenderText(messages, tools, options).Value;

    // The prompt in segments; joined, they are what Render gives.
    public IReadOnlyList<PromptSegment> RenderSegments(
        IReadOnlyList<Message> messages, IReadOnlyList<ToolDefinition>? tools, ChatTemplateOptions options) =>
        Segments(RenderText(messages, tools, options));

    // Renders what jinja2 would be given: JSON messages as they are, and all variables by name. For reference outputs.
    public IReadOnlyList<PromptSegment> RenderJson(JsonElement messages, JsonElement tools, JsonElement variables)
    {
        var named = new Dictionary<string, JinjaValue>
        {
            ["messages"] = ReadInput(messages),
            ["tools"] = ReadInput(tools),
            ["documents"] = JinjaValue.None,
            ["add_generation_prompt"] = JinjaValue.False,
        };
        AddMembers(named, variables);
        return Segments(RenderValues(named, DateTimeOffset.Now));
    }

    private static string ReadDefault()
    {
        using Stream stream = typeof(ChatTemplate).Assembly.GetManifestResourceStream(DefaultResource)
            ?? throw new InvalidOperationException($"The resource {DefaultResource} is missing from this build.");
        using var reader = new StreamReader(stream, Encoding.UTF8);
        return reader.ReadToEnd();
    }

    private static JinjaValue ReadInput(JsonElement json)
    {
        try
        {
            return JinjaJson.Read(json);
        }
        catch (TemplateException failure)
        {
            throw new BadRequestException(failure.Message, failure);
        }
    }

    private static void AddMembers(Dictionary<string, JinjaValue> variables, JsonElement json)
    {
        if (json.ValueKind == JsonValueKind.Undefined)
        {
            return;
        }

        JinjaValue members = ReadInput(json);
        if (members.Kind != JinjaKind.Mapping)
        {
            throw new BadRequestException($"Template variables must be a JSON object, not {json.ValueKind}.");
        }

        for (int i = 0; i < members.Mapping.Count; i++)
        {
            variables[members.Mapping.KeyAt(i).Text.Value] = members.Mapping.ValueAt(i);
        }
    }

    private static List<PromptSegment> Segments(JinjaText text)
    {
        var segments = new List<PromptSegment>();
        int start = 0;
        for (int i = 0; i < text.RunCount; i++)
        {
            int end = text.RunEnd(i);
            if (end > start)
            {
                segments.Add(new PromptSegment(text.Value[start..end], text.RunIsTemplate(i)));
            }

            start = end;
        }

        return segments;
    }

    private JinjaText RenderText(IReadOnlyList<Message> messages, IReadOnlyList<ToolDefinition>? tools, ChatTemplateOptions options)
    {
        var variables = new Dictionary<string, JinjaValue>();
        AddMembers(variables, options.ExtraVariables);
        variables["messages"] = MessageValues.FromMessages(messages, ReadInput);
        variables["tools"] = tools is null ? JinjaValue.None : MessageValues.FromTools(tools, ReadInput);
        variables.TryAdd("documents", JinjaValue.None);
        variables["add_generation_prompt"] = JinjaValue.FromBoolean(options.AddGenerationPrompt);
        AddFlag("enable_thinking", options.EnableThinking);
        AddFlag("preserve_thinking", options.PreserveThinking);
        AddFlag("add_vision_id", options.AddVisionId);
        AddToken("bos_token", options.BosToken);
        AddToken("eos_token", options.EosToken);
        return RenderValues(variables, options.Now ?? DateTimeOffset.Now);

        void AddFlag(string name, bool? value)
        {
            if (value is { } given)
            {
                variables[name] = JinjaValue.FromBoolean(given);
            }
        }

        void AddToken(string name, string? value)
        {
            if (value is not null)
            {
                variables[name] = JinjaValue.FromLiteral(value);
            }
        }
    }

    private JinjaText RenderValues(Dictionary<string, JinjaValue> variables, DateTimeOffset now)
    {
        try
        {
            return JinjaInterpreter.Render(_template, variables, now, _limits);
        }
        catch (TemplateException failure) when (failure.Fault == TemplateFault.Raised)
        {
            throw new BadRequestException(failure.Message, failure);
        }
        catch (TemplateException failure) when (failure.Fault == TemplateFault.Syntax)
        {
            throw new BadModelFileException(
                $"The chat template cannot be used: line {failure.Line}: {failure.Message} Use another template file.", failure);
        }
        catch (TemplateException failure)
        {
            throw new BadRequestException($"The chat template failed on this request: line {failure.Line}: {failure.Message}", failure);
        }
    }

    private ChatTemplateSummary Summarize(IReadOnlyList<string> variables) => new(
        HasTools: variables.Contains("tools"),
        HasReasoning: Source.Contains("reasoning_content", StringComparison.Ordinal),
        HasEnableThinking: variables.Contains("enable_thinking"),
        HasPreserveThinking: variables.Contains("preserve_thinking"),
        HasVision: Source.Contains("<|image_pad|>", StringComparison.Ordinal),
        AcceptsDeveloperRole: Prints(new Message(MessageRole.Developer, "probe"), new Message(MessageRole.User, "query")),
        AcceptsLateSystemMessage: Prints(new Message(MessageRole.User, "query"), new Message(MessageRole.System, "probe")),
        variables);

    // Whether a small conversation is accepted and its probe text shown: the sure way to know what a template does with a role.
    private bool Prints(params Message[] messages)
    {
        try
        {
            return Render(messages, null, ChatTemplateOptions.Default).Contains("probe", StringComparison.Ordinal);
        }
        catch (Exception refusal) when (refusal is BadRequestException or BadModelFileException)
        {
            return false;
        }
    }
}
