namespace Qian.Training.Optimization;

internal enum OptimizerKind
{
    AdamW,

    // Muon for the matrices between layers, AdamW for the rest.
    Muon,
}

// How parameters follow their gradients. The learning rate comes with every step, from the schedule.
internal sealed record OptimizerOptions
{
    public OptimizerKind Kind { get; init; }

    public double Beta1 { get; init; } = 0.9;

    public double Beta2 { get; init; } = 0.95;

    public double Epsilon { get; init; } = 1e-8;

    // Decoupled: a step takes this share, times the learning rate, off every value that decays.
    public double WeightDecay { get; init; }

    // Norms, gates and filters decay as well; otherwise only matrices do.
    public bool DecayAll { get; init; }

    // Of Muon.
    public float Momentum { get; init; } = 0.95f;
}
