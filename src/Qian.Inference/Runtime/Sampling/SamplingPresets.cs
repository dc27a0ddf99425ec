namespace Qian.Inference.Runtime;

// The sampling advice of the published model cards, by checkpoint name and mode. Names are matched loosely because they come from
// general.name, from folder names and from file stems: "Qwen3.6-27B", "qwen3.6 27b instruct", "Qwen3_6-35B-A3B-Q4_K_M".
// A name that is not recognised has no preset; generation_config.json or the built-in defaults then speak.

internal static class SamplingPresets
{
    // Qwen3.5 advises a presence penalty for general thinking, Qwen3.6 does not; the rest is the same in both cards.
    private static readonly SamplingOptions _thinking36 = Preset(1.0f, 0.95f, 0);
    private static readonly SamplingOptions _thinking35 = Preset(1.0f, 0.95f, 1.5f);
    private static readonly SamplingOptions _thinkingCoding = Preset(0.6f, 0.95f, 0);
    private static readonly SamplingOptions _nonThinking = Preset(0.7f, 0.80f, 1.5f);

    /// <summary>The advised options, or null for a checkpoint that no card here speaks of.</summary>
    public static SamplingOptions? For(string checkpointName, SamplingMode mode) => (Generation(checkpointName), mode) switch
    {
        (null, _) => null,
        (_, SamplingMode.NonThinking) => _nonThinking,
        (_, SamplingMode.ThinkingCoding) => _thinkingCoding,
        (6, SamplingMode.Thinking) => _thinking36,
        (5, SamplingMode.Thinking) => _thinking35,
        _ => throw new ArgumentOutOfRangeException(nameof(mode), mode, "Not a sampling mode."),
    };

    // The 6 of Qwen3.6. "Qwen3-8B" and "Qwen3_6B" are sizes of another family, not generations of this one.
    private static int? Generation(string name)
    {
        int at = name.IndexOf("qwen", StringComparison.OrdinalIgnoreCase);
        if (at < 0)
            return null;
        ReadOnlySpan<char> rest = name.AsSpan(at + 4).TrimStart("-_. ");
        if (!rest.StartsWith("3"))
            return null;
        rest = rest[1..];
        if (rest.Length > 0 && rest[0] is '.' or '_')
            rest = rest[1..];
        if (rest.Length == 0 || rest[0] is not ('5' or '6'))
            return null;
        if (rest.Length > 1 && (char.IsAsciiDigit(rest[1]) || rest[1] is 'b' or 'B'))
            return null;
        return rest[0] - '0';
    }

    private static SamplingOptions Preset(float temperature, float topP, float presence) => new()
    {
        Temperature = temperature,
        TopK = 20,
        TopP = topP,
        MinP = 0,
        PresencePenalty = presence,
        RepetitionPenalty = 1,
    };
}
