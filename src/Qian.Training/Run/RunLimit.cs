using System.Globalization;

namespace Qian.Training.Run;

// How far a run has come: what limits and schedules look at.
internal readonly record struct RunPosition(long StepCount, long TokenCount, double Seconds)
{
    public static RunPosition Start => default;
}

// Where a run ends: after steps, tokens (rows that went through the model) or hours of work. Exactly one of them is set. Hours
// depend on the machine, so a run limited by them is not the same bits twice; the other two are.
internal sealed record RunLimit
{
    private RunLimit(long? steps, long? tokens, double? hours) => (Steps, Tokens, Hours) = (steps, tokens, hours);

    public long? Steps { get; }

    public long? Tokens { get; }

    public double? Hours { get; }

    public static RunLimit OfSteps(long steps) => new(Math.Max(1, steps), null, null);

    public static RunLimit OfTokens(long tokens) => new(null, Math.Max(1, tokens), null);

    public static RunLimit OfHours(double hours) => new(null, null, Math.Max(1e-9, hours));

    // Share of the run that lies behind, in [0, 1].
    public double Progress(RunPosition position) => Math.Min(1, this switch
    {
        { Steps: { } steps } => (double)position.StepCount / steps,
        { Tokens: { } tokens } => (double)position.TokenCount / tokens,
        _ => position.Seconds / (Hours!.Value * 3600),
    });

    public bool IsReached(RunPosition position) => Progress(position) >= 1;

    // The share at which so many steps end, as far as it can be known before they are taken.
    public double WarmupProgress(int warmupSteps, int tokensPerStep) => this switch
    {
        { Steps: { } steps } => (double)warmupSteps / steps,
        { Tokens: { } tokens } => (double)warmupSteps * tokensPerStep / tokens,
        _ => 0,
    };

    // Steps of the whole run where they are known before it, of about so many tokens each.
    public long? ExpectedSteps(int tokensPerStep) => Steps ?? (Tokens is { } tokens ? (tokens + tokensPerStep - 1) / tokensPerStep : null);

    public override string ToString() => this switch
    {
        { Steps: { } steps } => string.Create(CultureInfo.InvariantCulture, $"{steps} steps"),
        { Tokens: { } tokens } => string.Create(CultureInfo.InvariantCulture, $"{tokens} tokens"),
        _ => string.Create(CultureInfo.InvariantCulture, $"{Hours!.Value:0.###} hours"),
    };
}
