namespace Qian.Inference;

/// <summary>Why generation ended.</summary>
public enum FinishReason
{
    /// <summary>The model ended its turn, or a stop id or stop string was met.</summary>
    Stop,

    /// <summary>The token limit of the request was reached.</summary>
    Length,

    /// <summary>The context, or the memory for it, is full.</summary>
    ContextFull,

    /// <summary>The reply repeated the same span over and over (<see cref="SamplingOptions.LoopGuard"/>).</summary>
    Loop,
}

/// <summary>One sampled token and the text that became certain with it.</summary>
/// <param name="Id">Token id.</param>
/// <param name="Text">Text that can be shown now; may be empty (half a character, a possible stop string) or more than the token's own.</param>
/// <param name="Finish">Set on the last token of a reply.</param>
/// <param name="LogProbability">Natural log of the model's probability of this token, when log-probabilities were asked for.</param>
/// <param name="Alternatives">The most probable tokens at this place, best first, when asked for.</param>
/// <param name="DraftedCount">Tokens of this reply that were guessed ahead and verified so far.</param>
/// <param name="AcceptedCount">Of them, those that were right.</param>
public readonly record struct GeneratedToken(
    int Id, string Text, FinishReason? Finish, float? LogProbability = null, IReadOnlyList<TokenLogProbability>? Alternatives = null, long DraftedCount = 0, long AcceptedCount = 0);

/// <summary>A token and the natural log of its probability.</summary>
public readonly record struct TokenLogProbability(int Id, float LogProbability);
