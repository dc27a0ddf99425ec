using System.CommandLine;
using System.Globalization;
using Qian.Inference;

namespace Qian.Cli;

// The sampling options of run and chat; what is not given falls through to the checkpoint's preset.
internal sealed class SamplingFlags
{
    private readonly Option<int?> _maxTokens = new("--max-tokens", "-n") { Description = "Most tokens to generate", HelpName = "N" };
    private readonly Option<float?> _temperature = new("--temperature") { Description = "0 is greedy", HelpName = "T" };
    private readonly Option<int?> _topK = new("--top-k") { Description = "Keep the K most probable tokens; 0 keeps all", HelpName = "K" };
    private readonly Option<float?> _topP = new("--top-p") { Description = "Keep the most probable tokens up to this mass", HelpName = "P" };
    private readonly Option<float?> _minP = new("--min-p") { Description = "Drop tokens below this share of the best one's probability", HelpName = "P" };
    private readonly Option<float?> _presence = new("--presence-penalty") { HelpName = "X", Description = "Subtract from tokens that were generated before" };
    private readonly Option<float?> _frequency = new("--frequency-penalty") { HelpName = "X", Description = "Subtract per earlier occurrence" };
    private readonly Option<float?> _repetition = new("--repetition-penalty") { HelpName = "X", Description = "Divide logits of tokens seen before; 1 is off" };
    private readonly Option<ulong?> _seed = new("--seed") { HelpName = "N", Description = "Same seed, same tokens" };
    private readonly Option<string[]> _stop = new("--stop") { HelpName = "TEXT", Description = "End at this text (may be given several times)" };
    private readonly Option<int?> _thinkingBudget = new("--thinking-budget") { HelpName = "N", Description = "Close the thinking after this many tokens" };

    private readonly Option<string> _draft = new("--draft") { HelpName = "auto|off|N", Description = "Guess tokens ahead and verify them together: N per pass, or as many as pay; changes the speed, never the tokens", DefaultValueFactory = _ => "auto" };

    private readonly Option<bool> _noLoopGuard = new("--no-loop-guard") { Description = "Let a reply repeat itself as long as it likes" };

    public SamplingFlags(Command command)
    {
        foreach (Option option in (Option[])[_maxTokens, _temperature, _topK, _topP, _minP, _presence, _frequency, _repetition, _seed, _stop, _thinkingBudget, _draft, _noLoopGuard])
            command.Add(option);
    }

    public SamplingOptions Options(ParseResult parsed)
    {
        var options = new SamplingOptions
        {
            MaxTokens = parsed.GetValue(_maxTokens),
            Temperature = parsed.GetValue(_temperature),
            TopK = parsed.GetValue(_topK),
            TopP = parsed.GetValue(_topP),
            MinP = parsed.GetValue(_minP),
            PresencePenalty = parsed.GetValue(_presence),
            FrequencyPenalty = parsed.GetValue(_frequency),
            RepetitionPenalty = parsed.GetValue(_repetition),
            Seed = parsed.GetValue(_seed),
            StopStrings = parsed.GetValue(_stop) is { Length: > 0 } stops ? stops : null,
            ThinkingBudget = parsed.GetValue(_thinkingBudget),
            DraftTokens = DraftTokens(parsed.GetValue(_draft)!),
            LoopGuard = parsed.GetValue(_noLoopGuard) ? false : null,
        };
        try
        {
            options.Validate();
        }
        catch (BadRequestException error)
        {
            throw FlagNames.Rename(error);
        }

        return options;
    }

    // Also what `serve --draft` takes.
    public static int? DraftTokens(string text) => text.ToLowerInvariant() switch
    {
        "auto" => null,
        "off" => 0,
        var number when int.TryParse(number, NumberStyles.None, CultureInfo.InvariantCulture, out int count) => count,
        _ => throw new BadRequestException($"--draft: expected auto, off or a number of tokens, found '{text}'."),
    };

    // `source` is what a refusal names.
    public static int[] ParseIds(string text, string source)
    {
        string[] parts = text.Split([' ', ',', '\n', '\t'], StringSplitOptions.RemoveEmptyEntries);
        var ids = new int[parts.Length];
        for (int i = 0; i < parts.Length; i++)
        {
            if (!int.TryParse(parts[i], NumberStyles.None, CultureInfo.InvariantCulture, out ids[i]))
                throw new BadRequestException($"{source}: expected token ids, found '{parts[i]}'.");
        }

        return ids;
    }
}
