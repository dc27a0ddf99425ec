namespace Qian.Weights;

// One row of logits as a distribution: what is needed to turn any of them into a logarithm of a probability.
internal readonly ref struct Prediction
{
    private readonly ReadOnlySpan<float> _logits;

    public Prediction(ReadOnlySpan<float> logits)
    {
        _logits = logits;
        float peak = float.NegativeInfinity;
        foreach (float logit in logits)
            peak = MathF.Max(peak, logit); // a NaN goes through, and is refused below
        if (!float.IsFinite(peak))
            throw new InvalidOperationException("the model gave logits that are not finite");
        double sum = 0;
        foreach (float logit in logits)
            sum += Math.Exp(logit - peak);
        Peak = peak;
        Sum = sum;
        LogSum = peak + Math.Log(sum);
    }

    public float Peak { get; }

    // Of exp(logit - Peak).
    public double Sum { get; }

    public double LogSum { get; }

    public ReadOnlySpan<float> Logits => _logits;

    public double LogProb(int id) => _logits[id] - LogSum;

    // The ids of the largest logits, largest first, ties by the smaller id.
    public void Top(Span<int> ids)
    {
        int count = 0;
        for (int id = 0; id < _logits.Length; id++)
        {
            if (count == ids.Length && !(_logits[id] > _logits[ids[count - 1]]))
                continue;
            int place = count < ids.Length ? count++ : count - 1;
            while (place > 0 && _logits[id] > _logits[ids[place - 1]])
            {
                ids[place] = ids[place - 1];
                place--;
            }

            ids[place] = id;
        }
    }
}
