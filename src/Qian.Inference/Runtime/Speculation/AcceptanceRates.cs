namespace Qian.Inference.Runtime;

// How often drafts turned out right, given that all before them in their run did: per depth for the MTP head, per length of
// the match for prompt lookup. Old observations fade. A request's rates start from the engine's, those from a plain guess.
internal sealed class AcceptanceRates
{
    public const int DepthCount = 8;

    private const double Fading = 0.98;
    private const double PriorWeight = 6;

    private static readonly double[] s_mtpGuess = [0.75, 0.65, 0.6, 0.55, 0.5, 0.5, 0.5, 0.5];
    private static readonly double[] s_lookupGuess = [0.35, 0.5, 0.65, 0.75, 0.85];

    private readonly AcceptanceRates? _prior;
    private readonly double[] _hits = new double[DepthCount + s_lookupGuess.Length];
    private readonly double[] _trials = new double[DepthCount + s_lookupGuess.Length];

    public AcceptanceRates(AcceptanceRates? prior = null) => _prior = prior;

    public double Of(DraftSource source, int depth, int matchLength) => Rate(IndexOf(source, depth, matchLength));

    public void Observe(DraftSource source, int depth, int matchLength, bool isAccepted)
    {
        int index = IndexOf(source, depth, matchLength);
        _hits[index] = _hits[index] * Fading + (isAccepted ? 1 : 0);
        _trials[index] = _trials[index] * Fading + 1;
        _prior?.Observe(source, depth, matchLength, isAccepted);
    }

    private double Rate(int index)
    {
        double guess = _prior?.Rate(index) ?? (index < DepthCount ? s_mtpGuess[index] : s_lookupGuess[index - DepthCount]);
        return (_hits[index] + PriorWeight * guess) / (_trials[index] + PriorWeight);
    }

    private static int IndexOf(DraftSource source, int depth, int matchLength) => source == DraftSource.Mtp
        ? Math.Min(depth, DepthCount - 1)
        : DepthCount + matchLength switch { <= 3 => 0, <= 5 => 1, <= 9 => 2, <= 15 => 3, _ => 4 };
}

internal enum DraftSource
{
    Mtp,
    Lookup,
}
