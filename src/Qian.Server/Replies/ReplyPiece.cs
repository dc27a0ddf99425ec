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

    // Why it was cut, which the dialects' own words do not tell apart; null when it was not.
    public string? Detail => Finish switch
    {
        FinishReason.Length => "max_tokens",
        FinishReason.ContextFull => "context",
        FinishReason.Loop => "repetition",
        _ => null,
    };

    public string Reason => Detail ?? (HasCalls ? "tool_calls" : "stop");

    // An extension of all dialects, beside the official reason.
    public void WriteDetail(Utf8JsonWriter json)
    {
        if (Detail is { } detail)
            json.WriteString("finish_detail", detail);
    }
}

// Tokens of a request.
internal readonly record struct ReplyUsage(int PromptCount, int CachedCount, int OutputCount, int ReasoningCount)
{
    public int TotalCount => PromptCount + OutputCount;

    // Tokens that were guessed ahead and verified, and those of them that were right and are among the output. Speed, not content:
    // OpenAI's accepted_prediction_tokens are of a text that the request predicts, and those rejected are paid for.
    public long DraftedCount { get; init; }

    public long AcceptedCount { get; init; }

    // How the prompt related to what was known; null before the end, and for several prompts.
    public PrefixUse? Prefix { get; init; }

    // Extensions of all dialects' "usage": what drafts did, and why no more of the prompt was cached. Names of lines, no contents:
    // where keys are not needed, the text that the prompt differs from may be another's.
    public void WriteExtensions(Utf8JsonWriter json)
    {
        json.WriteStartObject("draft_tokens_details");
        json.WriteNumber("drafted_tokens", DraftedCount);
        json.WriteNumber("accepted_tokens", AcceptedCount);
        json.WriteEndObject();
        if (Prefix is not { Reason: PrefixMissReason.Unknown or PrefixMissReason.Diverged or PrefixMissReason.Evicted } use)
            return;
        json.WriteStartObject("cache_miss_details");
        json.WriteString("reason", use.Reason.ToString().ToLowerInvariant());
        json.WriteNumber("token_index", use.TokenIndex);
        if (use.VolatileLine is { } line)
            json.WriteString("volatile_line", line);
        json.WriteEndObject();
    }
}
