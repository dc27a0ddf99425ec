using Qian.Inference.Chat;

namespace Qian.Inference;

/// <summary>What holds for a whole conversation.</summary>
public sealed record ChatSettings
{
    /// <summary>System message.</summary>
    public string? System { get; init; }

    /// <summary>Whether the model thinks before it answers.</summary>
    public bool Think { get; init; } = true;

    /// <summary>
    /// Keeps the thinking of earlier turns in the prompt. It keeps the prompt's beginning the same from turn to turn, so that
    /// nothing is read twice; the model card recommends it for agents.
    /// </summary>
    public bool PreserveThinking { get; init; } = true;

    /// <summary>Takes the preset for precise coding where the model thinks.</summary>
    public bool Coding { get; init; }

    /// <summary>Tools that the model may call.</summary>
    public IReadOnlyList<ToolDefinition>? Tools { get; init; }

    /// <summary>The reply must call a tool; otherwise it may answer instead.</summary>
    public bool RequireToolCall { get; init; }

    /// <summary>The one tool that the reply must call; null leaves the choice to the model.</summary>
    public string? RequiredTool { get; init; }

    /// <summary>A reply may call several tools.</summary>
    public bool ParallelToolCalls { get; init; } = true;

    /// <summary>Adapter that replies are computed with. Another one than before makes the conversation be read anew.</summary>
    public Adapter? Adapter { get; init; }

    internal SamplingMode SamplingModeOf(bool thinks) => !thinks ? SamplingMode.NonThinking : Coding ? SamplingMode.ThinkingCoding : SamplingMode.Thinking;
}

/// <summary>A piece of a reply as it is generated.</summary>
/// <param name="Text">More of the answer.</param>
/// <param name="Reasoning">More of the thinking.</param>
/// <param name="ToolCalls">Tool calls that became whole.</param>
/// <param name="TokenCount">Tokens that this piece stands for.</param>
/// <param name="Finish">Set on the last piece.</param>
/// <param name="Usage">Set on the last piece.</param>
public readonly record struct ChatDelta(string Text, string Reasoning, IReadOnlyList<ToolCall> ToolCalls, int TokenCount, FinishReason? Finish = null, ChatUsage? Usage = null);

/// <summary>What a reply took, in tokens.</summary>
/// <param name="PromptTokens">The whole prompt.</param>
/// <param name="CachedTokens">Of it, tokens whose state was kept from before.</param>
/// <param name="OutputTokens">Generated.</param>
/// <param name="ReasoningTokens">Of them, thinking.</param>
/// <param name="DraftedTokens">Guessed ahead and verified, several in a pass.</param>
/// <param name="AcceptedTokens">Of those, right, and so part of the output.</param>
/// <param name="Prefix">Where the prompt left what was known, and why.</param>
public sealed record ChatUsage(int PromptTokens, int CachedTokens, int OutputTokens, int ReasoningTokens, long DraftedTokens = 0, long AcceptedTokens = 0, PrefixUse? Prefix = null);
