namespace Qian.Inference.Tests.Runtime.Sampling;

// The filters written naively in double precision over a full sort: what the sampler's selections are held against.
internal static class SamplerReference
{
    /// <summary>Probability per id after temperature, top-k, top-p and min-p; -infinity logits have none.</summary>
    public static double[] Filtered(ReadOnlySpan<float> logits, double temperature = 1, int topK = 0, double topP = 1, double minP = 0)
    {
        float[] values = logits.ToArray();
        List<int> kept = [.. Enumerable.Range(0, values.Length).Where(id => !float.IsNegativeInfinity(values[id])).OrderByDescending(id => values[id]).ThenBy(id => id)];
        if (topK > 0)
            kept = [.. kept.Take(topK)];
        double max = values[kept[0]];
        double[] weights = [.. kept.Select(id => Math.Exp((values[id] - max) / temperature))];
        double total = weights.Sum(), sum = 0;
        int count = kept.Count;
        for (int i = 0; i < count && topP < 1; i++)
        {
            sum += weights[i];
            if (sum >= topP * total)
                count = i + 1;
        }

        while (weights[count - 1] < minP)
            count--;
        total = weights.Take(count).Sum();
        var result = new double[values.Length];
        for (int i = 0; i < count; i++)
            result[kept[i]] = weights[i] / total;
        return result;
    }

    /// <summary>Logits with the spread of a real head: a bell and a few tokens far above it.</summary>
    public static float[] Logits(int count, int seed, float spread = 2)
    {
        var random = new Random(seed);
        var logits = new float[count];
        for (int i = 0; i < count; i++)
            logits[i] = spread * (float)(random.NextDouble() + random.NextDouble() + random.NextDouble() - 1.5) * 2;
        for (int i = 0; i < 12; i++)
            logits[random.Next(count)] += spread * (float)random.NextDouble() * 4;
        return logits;
    }
}
