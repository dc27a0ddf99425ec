using System.Text.Json;
using Qian.Inference;
using Qian.Inference.Chat.Output;

namespace Qian.Server.Replies;

// What one token (or the end) of one choice brought. Exactly one of Token, PromptScores and End is set.
internal readonly record struct ReplyPiece(int ChoiceIndex, IReadOnlyList<OutputEvent> Events)
{
    public GeneratedToken? Token { get; init; }

    // Whether the token belongs to the answer rather than to the thinking before it.
    public bool IsAnswer { get; init; }

    public IReadOnlyList<TokenScore>? PromptScores { get; init; }

    public ReplyEnd? End { get; init; }
}

// A token of the prompt and how probable it was; the first one has nothing before it.
internal readonly record struct TokenScore(int Id, float? LogProbability, IReadOnlyList<TokenLogProbability> Alternatives);

// How a choice ended.
internal sealed record ReplyEnd(FinishReason Finish, bool HasCalls)
{
    // The stop string that ended it; null when the model ended its turn by itself.
    public string? StopString { get; init; }

    // Arguments of a call that was cut, closed where they broke off.
    public JsonElement CutArguments { get; init; }

    public bool IsCut => Finish != FinishReason.Stop;
}

// Tokens of a request.
internal readonly record struct ReplyUsage(int PromptCount, int CachedCount, int OutputCount, int ReasoningCount)
{
    public int TotalCount => PromptCount + OutputCount;
}
