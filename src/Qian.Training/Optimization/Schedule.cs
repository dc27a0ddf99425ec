namespace Qian.Training.Optimization;

internal enum ScheduleKind
{
    // The peak throughout.
    Constant,

    // Straight down to nothing at the end of the run.
    Linear,

    // Half a cosine down to nothing at the end of the run.
    Cosine,

    // The peak, then straight down to nothing over the last share of the run: any piece of a long training can be the last.
    ConstantWithDecay,
}

// The learning rate over a run. What is left of the run is a share and not a count of steps, so that a run limited by tokens or
// by hours has the same curve as one limited by steps. Warm-up is counted in steps: it is there for the moments of the
// optimiser, which fill step by step.
internal sealed record Schedule(ScheduleKind Kind, double PeakRate, int WarmupSteps, double DecayShare = 0.2)
{
    public static IReadOnlyList<(string Name, ScheduleKind Kind)> Names { get; } =
        [("constant", ScheduleKind.Constant), ("linear", ScheduleKind.Linear), ("cosine", ScheduleKind.Cosine), ("wsd", ScheduleKind.ConstantWithDecay)];

    // stepIndex: steps taken so far since the moments were empty. progress: share of the run that lies behind, in [0, 1].
    // warmupProgress: the share at which warm-up ends, where that is known; falling curves start there.
    public double Rate(long stepIndex, double progress, double warmupProgress)
    {
        double warmup = stepIndex < WarmupSteps ? (stepIndex + 1.0) / WarmupSteps : 1;
        double behind = warmupProgress < 1 ? Math.Clamp((progress - warmupProgress) / (1 - warmupProgress), 0, 1) : 0;
        return PeakRate * warmup * Kind switch
        {
            ScheduleKind.Linear => 1 - behind,
            ScheduleKind.Cosine => (1 + Math.Cos(Math.PI * behind)) / 2,
            ScheduleKind.ConstantWithDecay when DecayShare > 0 => Math.Clamp((1 - progress) / DecayShare, 0, 1),
            _ => 1,
        };
    }
}
