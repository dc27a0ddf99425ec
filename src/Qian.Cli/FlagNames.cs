using System.CommandLine;
using System.CommandLine.Parsing;
using Qian.Inference;
using Qian.Server;

namespace Qian.Cli;

// Refusals in the user's own words: the flags that were typed, not the names of options records or of .NET types.
internal static class FlagNames
{
    private static readonly Dictionary<string, string> s_flags = new()
    {
        [nameof(SamplingOptions.MaxTokens)] = "--max-tokens",
        [nameof(SamplingOptions.Temperature)] = "--temperature",
        [nameof(SamplingOptions.TopK)] = "--top-k",
        [nameof(SamplingOptions.TopP)] = "--top-p",
        [nameof(SamplingOptions.MinP)] = "--min-p",
        [nameof(SamplingOptions.PresencePenalty)] = "--presence-penalty",
        [nameof(SamplingOptions.FrequencyPenalty)] = "--frequency-penalty",
        [nameof(SamplingOptions.RepetitionPenalty)] = "--repetition-penalty",
        [nameof(SamplingOptions.StopStrings)] = "--stop",
        [nameof(SamplingOptions.ThinkingBudget)] = "--thinking-budget",
        [nameof(SamplingOptions.DraftTokens)] = "--draft",
        [nameof(EngineOptions.ThreadCount)] = "--threads",
        [nameof(EngineOptions.ContextLength)] = "--context",
        [nameof(EngineOptions.LoadAs)] = "--load-as",
        [nameof(EngineOptions.PrefixCacheBytes)] = "--prefix-cache",
        [nameof(EngineOptions.PrefixDirectory)] = "--prefix-dir",
        [nameof(EngineOptions.PrefixDirectoryBytes)] = "--prefix-dir-size",
        [nameof(EngineOptions.PackedCache)] = "--packed-cache",
        [nameof(EngineOptions.Yarn)] = "--yarn",
        [nameof(ServerOptions.Host)] = "--host",
        [nameof(ServerOptions.Port)] = "--port",
        [nameof(ServerOptions.Keys)] = "--key",
        [nameof(ServerOptions.AuditContents)] = "--audit-contents",
        [nameof(ServerOptions.CertificatePath)] = "--tls-cert",
        [nameof(ServerOptions.CertificateKeyPath)] = "--tls-key",
        [nameof(ServerOptions.AllowedOrigins)] = "--cors",
        [nameof(ServerOptions.ParallelCount)] = "--parallel",
        [nameof(ServerOptions.QueueLimit)] = "--queue",
        [nameof(ServerOptions.MaxBodyBytes)] = "--max-body",
        [nameof(ServerOptions.MaxOutputTokens)] = "--max-tokens",
        [nameof(ServerOptions.DrainLimit)] = "--drain",
    };

    // "EngineOptions.ThreadCount: expected …" and "StopStrings[0]: expected …" with the flag in front.
    public static BadRequestException Rename(BadRequestException error)
    {
        int colon = error.Message.IndexOf(':');
        if (colon < 0)
            return error;
        string field = error.Message[..colon].Split('[')[0];
        string name = field[(field.LastIndexOf('.') + 1)..];
        return s_flags.TryGetValue(name, out string? flag) ? new BadRequestException(flag + error.Message[colon..], error) : error;
    }

    // A mistyped option that the parser took for the verb's argument (a prompt, a path); null when there is none.
    public static string? Unknown(ParseResult parsed)
    {
        if (parsed.Tokens.Any(token => token.Type == TokenType.DoubleDash))
            return null;
        return parsed.CommandResult.Children.OfType<ArgumentResult>()
            .SelectMany(argument => argument.Tokens)
            .Select(token => token.Value)
            .FirstOrDefault(value => value.StartsWith("--", StringComparison.Ordinal) && !value.Any(char.IsWhiteSpace));
    }

    // The parser names the .NET type where a number was expected.
    public static string Explain(ParseError error)
    {
        if (error.SymbolResult is not OptionResult { Tokens: [var token, ..] } result || !error.Message.Contains("as expected type", StringComparison.Ordinal))
            return error.Message;
        Type type = result.Option.ValueType.GetElementType() ?? Nullable.GetUnderlyingType(result.Option.ValueType) ?? result.Option.ValueType;
        string expected = type == typeof(int) ? "an integer" : type == typeof(ulong) ? "an integer of 0 or more" : "a number";
        return $"{result.Option.Name}: expected {expected}, found '{token.Value}'.";
    }
}
