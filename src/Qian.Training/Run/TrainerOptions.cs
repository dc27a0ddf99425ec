using Qian.Kernels;
using Qian.Training.Optimization;

namespace Qian.Training.Run;

// How a run goes. Counts are steps of the optimiser.
internal sealed record TrainerOptions
{
    // The trained model is written here; log, curve and states into TrainingFolder inside.
    public required string OutFolder { get; init; }

    // Over the curve.
    public required string Title { get; init; }

    public required RunLimit Limit { get; init; }

    public required Schedule Schedule { get; init; }

    public required OptimizerOptions Optimizer { get; init; }

    public MatmulPrecision Precision { get; init; }

    // Gradients longer than this together are shortened to it; 0 leaves them.
    public double ClipNorm { get; init; } = 1;

    public int EvaluateEvery { get; init; } = 100;

    // Rows of held-out text that an evaluation takes at most.
    public long HeldOutRowLimit { get; init; } = 1 << 16;

    // Steps between two states; null for a state every SaveSeconds.
    public int? SaveEvery { get; init; }

    public double SaveSeconds { get; init; } = 600;

    // Write the model with every state, and not only at the end.
    public bool SaveModelWithState { get; init; }

    // What the settings were, to compare when a run is resumed.
    public IReadOnlyList<KeyValuePair<string, string>> Settings { get; init; } = [];

    // Multiply-accumulates of a row, forward and backward, and what the machine can do in a second: for the share of the peak.
    public double MacsPerRow { get; init; }

    public double PeakMacsPerSecond { get; init; }

    public string TrainingFolder => Path.Combine(OutFolder, "training");

    public string LogPath => Path.Combine(TrainingFolder, "log.csv");

    public string CurvePath => Path.Combine(TrainingFolder, "loss.svg");
}

// A step, as it is told while the run goes.
internal sealed record TrainingProgress
{
    public required RunPosition Position { get; init; }

    // Share of the run that lies behind.
    public required double Share { get; init; }

    public required double Epochs { get; init; }

    // Of the last step; null before the first.
    public double? Loss { get; init; }

    public double? MtpLoss { get; init; }

    // Of the last evaluation; null before it. IsEvaluated: it was made after this very step.
    public double? HeldOutLoss { get; init; }

    // Of the text that is watched.
    public double? WatchedLoss { get; init; }

    public bool IsEvaluated { get; init; }

    public double Rate { get; init; }

    public double GradientNorm { get; init; }

    public double TokensPerSecond { get; init; }

    public double PeakShare { get; init; }

    public double? SecondsLeft { get; init; }
}

internal enum TrainingOutcome
{
    Finished,
    Interrupted,

    // A loss or a gradient was not a finite number.
    NotFinite,
}

internal sealed record TrainingSummary
{
    public required TrainingOutcome Outcome { get; init; }

    public required RunPosition Position { get; init; }

    public required double Epochs { get; init; }

    // Mean of the last steps, at most twenty.
    public double? Loss { get; init; }

    public double? FirstHeldOutLoss { get; init; }

    public double? HeldOutLoss { get; init; }

    public double? FirstWatchedLoss { get; init; }

    public double? WatchedLoss { get; init; }

    // Of this session, without evaluations.
    public double TokensPerSecond { get; init; }

    public double PeakShare { get; init; }

    public string? StatePath { get; init; }

    public string? ModelFolder { get; init; }

    // What was not finite, and where.
    public string? Failure { get; init; }
}
