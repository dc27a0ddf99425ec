namespace Qian.Inference;

/// <summary>
/// The DRY penalty ("don't repeat yourself", p-e-w in text-generation-webui #5677): a token that would continue a sequence already
/// seen, of <c>n</c> tokens, loses <c>Multiplier * Base^(n - AllowedLength)</c> when n reaches <see cref="AllowedLength"/>.
/// </summary>
public sealed record DryOptions
{
    /// <summary>Strength, 0 to 100; 0 turns DRY off. 0.8 is what its author advises.</summary>
    public float Multiplier { get; init; } = 0.8f;

    /// <summary>Growth per repeated token, 1 to 100.</summary>
    public float Base { get; init; } = 1.75f;

    /// <summary>Shortest repeated sequence that costs anything, in tokens; at least 1.</summary>
    public int AllowedLength { get; init; } = 2;

    /// <summary>Tokens at the end of prompt and output that are searched; 0 means all of them.</summary>
    public int Range { get; init; }

    /// <summary>Texts over which no repetition reaches: every token that contains one of them.</summary>
    public IReadOnlyList<string> SequenceBreakers { get; init; } = ["\n", ":", "\"", "*"];

    internal void Validate()
    {
        SamplingOptions.Require("Dry.Multiplier", Multiplier, 0, 100);
        SamplingOptions.Require("Dry.Base", Base, 1, 100);
        SamplingOptions.Require("Dry.AllowedLength", AllowedLength, 1, int.MaxValue);
        SamplingOptions.Require("Dry.Range", Range, 0, int.MaxValue);
        if (SequenceBreakers is null || SequenceBreakers.Count > 256)
            throw SamplingOptions.Bad("Dry.SequenceBreakers", "a list of at most 256 strings", SequenceBreakers is null ? "null" : SequenceBreakers.Count);
        for (int index = 0; index < SequenceBreakers.Count; index++)
        {
            if (string.IsNullOrEmpty(SequenceBreakers[index]))
                throw SamplingOptions.Bad($"Dry.SequenceBreakers[{index}]", "a string that is not empty", SequenceBreakers[index] is null ? "null" : "an empty string");
        }
    }
}
