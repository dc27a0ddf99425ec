using System.Text.Json;

namespace Qian.Inference.Chat;

// What a request may tell the template beside messages and tools. Null leaves the variable undefined, which is how the template's
// own default stays in force.
internal sealed record ChatTemplateOptions
{
    public static ChatTemplateOptions Default { get; } = new();

    public bool AddGenerationPrompt { get; init; } = true;

    public bool? EnableThinking { get; init; }

    public bool? PreserveThinking { get; init; }

    public bool? AddVisionId { get; init; }

    // The tokenizer's, for templates that print them. They count as template text.
    public string? BosToken { get; init; }

    public string? EosToken { get; init; }

    // chat_template_kwargs of a request: an object whose members become variables. The named options above win over it.
    public JsonElement ExtraVariables { get; init; }

    // What strftime_now tells; the time of rendering when null.
    public DateTimeOffset? Now { get; init; }
}

// A stretch of a prompt. Only in template text may the tokenizer recognise control tokens; ordinary text that spells one stays text.
// Ordinary tokens do cross the borders between segments: the joined text is what gets tokenized.
internal readonly record struct PromptSegment(string Text, bool IsTemplateText);

// What a template can do, for the user to read.
internal sealed record ChatTemplateSummary(
    bool HasTools,
    bool HasReasoning,
    bool HasEnableThinking,
    bool HasPreserveThinking,
    bool HasVision,
    bool AcceptsDeveloperRole,
    bool AcceptsLateSystemMessage,
    IReadOnlyList<string> Variables);
