namespace Qian.Weights;

// What is stored of one prediction of the reference: its likeliest tokens with float32 logarithms, as many as leave at most 1e-4 of
// the probability (32 to 8192 of them), the mass of all others as one number, and the token that came. The loss: the others count
// as one outcome, so the divergence found is a little too small, by no more than what happens inside that mass.
internal sealed record KeptPrediction(int[] Ids, float[] LogProbs, double RestMass, float TargetLogProb)
{
    public const int FewestKept = 32;
    public const int MostKept = 8192;
    private const double LargestRest = 1e-4;

    // Logits further below the favourite together weigh less than 1e-4 in any vocabulary up to a million.
    private const float Reach = 23.1f;

    public static KeptPrediction From(ReadOnlySpan<float> logits, int target)
    {
        var prediction = new Prediction(logits);
        var near = new List<int>();
        for (int id = 0; id < logits.Length; id++)
        {
            if (logits[id] >= prediction.Peak - Reach)
                near.Add(id);
        }

        if (near.Count < FewestKept)
            near = [.. Enumerable.Range(0, logits.Length)];
        var keys = new ulong[near.Count];
        for (int i = 0; i < keys.Length; i++)
            keys[i] = (ulong)Descending(logits[near[i]]) << 32 | (uint)near[i];
        Array.Sort(keys);
        int[] ids = Array.ConvertAll(keys, key => (int)(uint)key);

        int count = 0;
        double keptSum = 0;
        while (count < ids.Length && count < MostKept && (count < FewestKept || Rest(prediction, keptSum) > LargestRest))
            keptSum += Math.Exp(logits[ids[count++]] - prediction.Peak);
        var logProbs = new float[count];
        for (int i = 0; i < count; i++)
            logProbs[i] = (float)prediction.LogProb(ids[i]);
        double rest = count == logits.Length ? 0 : Rest(prediction, keptSum);
        return new KeptPrediction(ids[..count], logProbs, rest, (float)prediction.LogProb(target));
    }

    // Bits that sort as unsigned numbers from the largest float to the smallest; equal ones are left to the id.
    private static uint Descending(float value)
    {
        uint bits = BitConverter.SingleToUInt32Bits(value == 0 ? 0 : value);
        return (bits & 0x8000_0000) != 0 ? bits : ~(bits | 0x8000_0000);
    }

    // The share of all that `keptSum` (of exp(logit - Peak)) leaves.
    public static double Rest(in Prediction prediction, double keptSum) => Math.Max(0, (prediction.Sum - keptSum) / prediction.Sum);
}
