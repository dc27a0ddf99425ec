using Qian.Inference.Runtime;

namespace Qian.Inference;

// How one request picks its tokens. Every field may be null, "not set", so that a request, the preset of the checkpoint,
// generation_config.json and the built-in defaults can be laid over each other field by field (Merge). Validate speaks
// to whoever wrote the request: field, what was expected, what was found. Nothing here knows a vocabulary or a tokenizer.

/// <summary>
/// How tokens are chosen, per request. A field that is null is not set and falls through to the checkpoint's preset, then to
/// generation_config.json, then to the built-in default. Filters act in this order: penalties, bias, temperature, top-k, top-p, min-p.
/// </summary>
public sealed record SamplingOptions
{
    /// <summary>Most alternatives that <see cref="LogProbs"/> may ask for.</summary>
    public const int MaxLogProbs = 128;

    /// <summary>Most stop strings of one request.</summary>
    public const int MaxStopStrings = 64;

    /// <summary>Longest stop string, in UTF-16 code units.</summary>
    public const int MaxStopStringLength = 4096;

    /// <summary>Divides the logits; 0 (and anything below 0.00001) is greedy: the greatest logit, the lowest id on a tie. From 0 to 100; default 1.</summary>
    public float? Temperature { get; init; }

    /// <summary>Keeps the K greatest logits, the lowest ids on a tie; 0 keeps all. Default 20.</summary>
    public int? TopK { get; init; }

    /// <summary>Keeps the fewest tokens, most probable first, whose probabilities reach P after top-k; 1 keeps all. From 0 to 1; default 0.95.</summary>
    public float? TopP { get; init; }

    /// <summary>Drops tokens less probable than this share of the most probable one; 0 keeps all. From 0 to 1; default 0.</summary>
    public float? MinP { get; init; }

    /// <summary>Subtracted from the logit of every token generated so far (the prompt does not count). From -100 to 100; default 0.</summary>
    public float? PresencePenalty { get; init; }

    /// <summary>Subtracted from a logit once per time the token was generated (the prompt does not count). From -100 to 100; default 0.</summary>
    public float? FrequencyPenalty { get; init; }

    /// <summary>Divides positive and multiplies negative logits of tokens in prompt and output (arXiv 1909.05858). Above 0, up to 100; default 1: off.</summary>
    public float? RepetitionPenalty { get; init; }

    /// <summary>Tokens at the end of prompt and output that <see cref="RepetitionPenalty"/> looks at; 0 means all of them. Default 0.</summary>
    public int? RepetitionWindow { get; init; }

    /// <summary>The DRY penalty against repeated sequences, taken as a whole from the first layer that sets it. Default: off.</summary>
    public DryOptions? Dry { get; init; }

    /// <summary>
    /// Added to the logits of these token ids; positive infinity leaves no choice but these tokens, negative infinity bans. An id
    /// that the tokenizer does not define stays impossible whatever its bias. Taken as a whole from the first layer that sets it.
    /// </summary>
    public IReadOnlyDictionary<int, float>? LogitBias { get; init; }

    /// <summary>Same seed, same logits: same tokens, whatever else runs beside. Not set: drawn at random and reported.</summary>
    public ulong? Seed { get; init; }

    /// <summary>Tokens to generate at most, thinking included. Not set: as many as the context holds.</summary>
    public int? MaxTokens { get; init; }

    /// <summary>Generation ends when one of these appears in the text; the text ends before it.</summary>
    public IReadOnlyList<string>? StopStrings { get; init; }

    /// <summary>Token ids that end generation, beside the model's own end of text.</summary>
    public IReadOnlyList<int>? StopTokenIds { get; init; }

    /// <summary>Report log-probabilities with this many most probable alternatives per token, 0 to 128; not set: none.</summary>
    public int? LogProbs { get; init; }

    /// <summary>Thinking tokens after which thinking is closed with a short sentence and the answer begins. Not set: no limit.</summary>
    public int? ThinkingBudget { get; init; }

    /// <summary>What the reply must look like, after its thinking. Not set: anything.</summary>
    public OutputConstraint? Constraint { get; init; }

    /// <summary>
    /// Tokens to guess ahead per pass, 0 to 15; 0 guesses none. Not set: chosen live from what guessing brings and costs. It
    /// changes the speed, never the tokens.
    /// </summary>
    public int? DraftTokens { get; init; }

    /// <summary>
    /// Ends a reply that repeats the same span over and over, hundreds of tokens long, with <see cref="FinishReason.Loop"/>; thinking
    /// that does so is closed instead, and the answer begins. Off where <see cref="IgnoreEos"/> is set. Default true.
    /// </summary>
    public bool? LoopGuard { get; init; }

    /// <summary>Generate on past the model's end of text. Default false.</summary>
    public bool? IgnoreEos { get; init; }

    /// <summary>The greatest logit every time, nothing added or taken away by any lower layer.</summary>
    public static SamplingOptions Greedy { get; } = new()
    {
        Temperature = 0,
        PresencePenalty = 0,
        FrequencyPenalty = 0,
        RepetitionPenalty = 1,
        Dry = new DryOptions { Multiplier = 0 },
        LogitBias = new Dictionary<int, float>(),
    };

    /// <summary>
    /// What applies when nobody says anything: the Qwen3.6 model card's advice for general thinking, because engine and family are one.
    /// </summary>
    internal static SamplingOptions BuiltIn { get; } = new()
    {
        Temperature = 1,
        TopK = 20,
        TopP = 0.95f,
        MinP = 0,
        PresencePenalty = 0,
        FrequencyPenalty = 0,
        RepetitionPenalty = 1,
        RepetitionWindow = 0,
        IgnoreEos = false,
        LoopGuard = true,
    };

    /// <summary>Lays a request over the checkpoint's preset over generation_config.json over the built-in defaults, field by field.</summary>
    /// <param name="request">What the caller asked for.</param>
    /// <param name="preset">What is advised for the checkpoint and mode.</param>
    /// <param name="fileDefaults">What generation_config.json says.</param>
    /// <returns>Options in which every field that has a built-in default is set.</returns>
    public static SamplingOptions Merge(SamplingOptions? request, SamplingOptions? preset = null, SamplingOptions? fileDefaults = null) =>
        (request ?? new()).Over(preset).Over(fileDefaults).Over(BuiltIn);

    private SamplingOptions Over(SamplingOptions? lower) => lower is null ? this : new()
    {
        Temperature = Temperature ?? lower.Temperature,
        TopK = TopK ?? lower.TopK,
        TopP = TopP ?? lower.TopP,
        MinP = MinP ?? lower.MinP,
        PresencePenalty = PresencePenalty ?? lower.PresencePenalty,
        FrequencyPenalty = FrequencyPenalty ?? lower.FrequencyPenalty,
        RepetitionPenalty = RepetitionPenalty ?? lower.RepetitionPenalty,
        RepetitionWindow = RepetitionWindow ?? lower.RepetitionWindow,
        Dry = Dry ?? lower.Dry,
        LogitBias = LogitBias ?? lower.LogitBias,
        Seed = Seed ?? lower.Seed,
        MaxTokens = MaxTokens ?? lower.MaxTokens,
        StopStrings = StopStrings ?? lower.StopStrings,
        StopTokenIds = StopTokenIds ?? lower.StopTokenIds,
        LogProbs = LogProbs ?? lower.LogProbs,
        ThinkingBudget = ThinkingBudget ?? lower.ThinkingBudget,
        Constraint = Constraint ?? lower.Constraint,
        DraftTokens = DraftTokens ?? lower.DraftTokens,
        IgnoreEos = IgnoreEos ?? lower.IgnoreEos,
        LoopGuard = LoopGuard ?? lower.LoopGuard,
    };

    /// <summary>Checks every field that is set.</summary>
    /// <exception cref="BadRequestException">A value is out of range; the message names field, expected and found.</exception>
    public void Validate()
    {
        Require(nameof(Temperature), Temperature, 0, 100);
        Require(nameof(TopK), TopK, 0, int.MaxValue);
        Require(nameof(TopP), TopP, 0, 1);
        Require(nameof(MinP), MinP, 0, 1);
        Require(nameof(PresencePenalty), PresencePenalty, -100, 100);
        Require(nameof(FrequencyPenalty), FrequencyPenalty, -100, 100);
        Require(nameof(RepetitionPenalty), RepetitionPenalty, 0.01f, 100);
        Require(nameof(RepetitionWindow), RepetitionWindow, 0, int.MaxValue);
        Require(nameof(MaxTokens), MaxTokens, 1, int.MaxValue);
        Require(nameof(LogProbs), LogProbs, 0, MaxLogProbs);
        Require(nameof(ThinkingBudget), ThinkingBudget, 0, int.MaxValue);
        Require(nameof(DraftTokens), DraftTokens, 0, DraftSlot.MaxDepth);
        Dry?.Validate();
        foreach ((int tokenId, float bias) in LogitBias ?? new Dictionary<int, float>())
        {
            if (tokenId < 0)
                throw Bad($"{nameof(LogitBias)} key", "a token id of 0 or more", tokenId);
            if (float.IsNaN(bias))
                throw Bad($"{nameof(LogitBias)}[{tokenId}]", "a number", bias);
        }

        foreach (int tokenId in StopTokenIds ?? [])
        {
            if (tokenId < 0)
                throw Bad(nameof(StopTokenIds), "token ids of 0 or more", tokenId);
        }

        ValidateStopStrings(StopStrings ?? []);
    }

    private static void ValidateStopStrings(IReadOnlyList<string> stops)
    {
        if (stops.Count > MaxStopStrings)
            throw Bad(nameof(StopStrings), $"at most {MaxStopStrings} strings", stops.Count);
        for (int index = 0; index < stops.Count; index++)
        {
            string field = $"{nameof(StopStrings)}[{index}]";
            if (string.IsNullOrEmpty(stops[index]))
                throw Bad(field, "a string that is not empty", stops[index] is null ? "null" : "an empty string");
            if (stops[index].Length > MaxStopStringLength)
                throw Bad(field, $"at most {MaxStopStringLength} characters", stops[index].Length);
        }
    }

    internal static void Require(string field, float? value, float low, float high)
    {
        // Written so that NaN fails.
        if (value is { } found && !(found >= low && found <= high))
            throw Bad(field, FormattableString.Invariant($"a number from {low} to {high}"), found);
    }

    internal static void Require(string field, int? value, int low, int high)
    {
        if (value is { } found && (found < low || found > high))
            throw Bad(field, high == int.MaxValue ? $"an integer of {low} or more" : $"an integer from {low} to {high}", found);
    }

    internal static BadRequestException Bad(string field, string expected, object found) =>
        new(FormattableString.Invariant($"{field}: expected {expected}, found {found}."));
}
