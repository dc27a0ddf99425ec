namespace Qian.Weights;

// Compares two predictions of one token: both at full length, or a stored reference with a candidate's logits. Equal predictions
// give a divergence of exactly zero in either form, because both sides go through the same operations in the same order.
internal static class TokenComparison
{
    public const int TopCount = 5;

    // Below this a candidate's share of what was not kept is taken for this.
    private const double LeastRest = 1e-15;

    public static TokenScore Compare(ReadOnlySpan<float> referenceLogits, ReadOnlySpan<float> candidateLogits, int target)
    {
        var reference = new Prediction(referenceLogits);
        var candidate = new Prediction(candidateLogits);
        double divergence = 0;
        for (int id = 0; id < referenceLogits.Length; id++)
        {
            double logProb = reference.LogProb(id);
            divergence += Math.Exp(logProb) * (logProb - candidate.LogProb(id));
        }

        Span<int> referenceTop = stackalloc int[TopCount];
        Span<int> candidateTop = stackalloc int[TopCount];
        referenceTop = referenceTop[..Math.Min(TopCount, referenceLogits.Length)];
        candidateTop = candidateTop[..referenceTop.Length];
        reference.Top(referenceTop);
        candidate.Top(candidateTop);
        return new TokenScore(
            reference.LogProb(target), candidate.LogProb(target), Math.Max(0, divergence),
            referenceTop[0], reference.LogProb(referenceTop[0]), candidateTop[0], candidate.LogProb(candidateTop[0]), Shared(referenceTop, candidateTop));
    }

    public static TokenScore Compare(KeptPrediction reference, ReadOnlySpan<float> candidateLogits, int target)
    {
        var candidate = new Prediction(candidateLogits);
        double divergence = 0, keptSum = 0;
        for (int i = 0; i < reference.Ids.Length; i++)
        {
            int id = reference.Ids[i];
            float logProb = reference.LogProbs[i];
            divergence += Math.Exp(logProb) * (logProb - (double)(float)candidate.LogProb(id));
            keptSum += Math.Exp(candidateLogits[id] - candidate.Peak);
        }

        if (reference.RestMass > 0)
            divergence += reference.RestMass * Math.Log(reference.RestMass / Math.Max(LeastRest, KeptPrediction.Rest(candidate, keptSum)));

        Span<int> candidateTop = stackalloc int[TopCount];
        candidateTop = candidateTop[..Math.Min(TopCount, candidateLogits.Length)];
        candidate.Top(candidateTop);
        return new TokenScore(
            reference.TargetLogProb, (float)candidate.LogProb(target), Math.Max(0, divergence),
            reference.Ids[0], reference.LogProbs[0], candidateTop[0], (float)candidate.LogProb(candidateTop[0]), Shared(reference.Ids.AsSpan(0, candidateTop.Length), candidateTop));
    }

    private static int Shared(ReadOnlySpan<int> left, ReadOnlySpan<int> right)
    {
        int count = 0;
        foreach (int id in left)
            count += right.Contains(id) ? 1 : 0;
        return count;
    }
}
