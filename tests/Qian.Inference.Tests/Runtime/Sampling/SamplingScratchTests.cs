using Qian.Inference.Runtime;

namespace Qian.Inference.Tests.Runtime.Sampling;

// The fast selections against a full sort, at the size of the real vocabulary, on inputs that are hard for selections.
public sealed class SamplingScratchTests
{
    private const int Size = 248_320;

    private static float[] Input(string kind)
    {
        var random = new Random(42);
        var logits = new float[Size];
        for (int i = 0; i < Size; i++)
        {
            logits[i] = kind switch
            {
                "bell" => 0,
                "rising" => i * 1e-4f,
                "falling" => -i * 1e-4f,
                "equal" => -3.25f,
                "fewValues" => random.Next(-2, 3) * 0.5f,
                "closest" => BitConverter.Int32BitsToSingle(BitConverter.SingleToInt32Bits(5f) + random.Next(300)),
                "wide" => (float)Math.ScaleB(random.NextDouble() - 0.5, random.Next(-140, 100)),
                "sparse" => i % 1000 == 3 ? random.NextSingle() : float.NegativeInfinity,
                _ => throw new ArgumentException(kind),
            };
        }

        return kind == "bell" ? SamplerReference.Logits(Size, 1) : logits;
    }

    // Ids of the finite logits, greatest first, the lower id on a tie.
    private static int[] Sorted(float[] logits)
    {
        int[] ids = [.. Enumerable.Range(0, Size).Where(id => !float.IsNegativeInfinity(logits[id]))];
        Array.Sort([.. ids.Select(id => (-logits[id], id))], ids);
        return ids;
    }

    private static int[] Ascending(int[] sorted, int count)
    {
        int[] result = sorted[..Math.Min(count, sorted.Length)];
        Array.Sort(result);
        return result;
    }

    public static TheoryData<string> Kinds => ["bell", "rising", "falling", "equal", "fewValues", "closest", "wide", "sparse"];

    [Theory]
    [MemberData(nameof(Kinds))]
    public void TopKEqualsAFullSort(string kind)
    {
        float[] logits = Input(kind);
        int[] sorted = Sorted(logits);
        var scratch = new SamplingScratch(Size);
        foreach (int k in new[] { 1, 2, 20, 1024, LogitScan.BlockCount(Size) - 1, LogitScan.BlockCount(Size), 5000, Size - 1, Size })
        {
            Assert.Equal(logits.Max(), LogitScan.BlockMaxima(logits, scratch.BlockMaxima));
            int count = scratch.GatherTop(logits, k);
            Assert.Equal(Ascending(sorted, k), scratch.Ids[..count]);
            Assert.All(Enumerable.Range(0, Math.Min(count, 100)), i => Assert.Equal(logits[scratch.Ids[i]], scratch.Values[i]));
        }
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void TheNucleusIsTheShortestPrefixOfASort(string kind)
    {
        float[] logits = Input(kind);
        float max = logits.Max();
        var scratch = new SamplingScratch(Size);
        int[] sorted = Sorted(logits);
        double[] mass = [.. sorted.Select(id => Math.Exp((double)logits[id] - max))];
        double total = mass.Sum();
        foreach (float p in new[] { 0.01f, 0.5f, 0.95f, 0.9999f })
        {
            LogitScan.BlockMaxima(logits, scratch.BlockMaxima);
            double ours = LogitScan.BlockExpSums(logits, scratch.BlockMaxima, max, 1, scratch.BlockSums);
            Assert.Equal(1, ours / total, 1e-6);
            int count = scratch.Gather(logits, float.MinValue);
            LogitScan.Weights(scratch.Values.AsSpan(0, count), max, 1, scratch.Weights);
            count = scratch.Keep(count, p * ours);

            Assert.Equal(Ascending(sorted, count), scratch.Ids[..count]);
            // Float weights against double ones: the border may lie anywhere within 2e-6 of p.
            double kept = mass.Take(count).Sum() / total;
            Assert.True(kept >= p - 2e-6, $"p {p}: {count} tokens hold only {kept}");
            Assert.True(kept - (mass[count - 1] / total) <= p + 2e-6, $"p {p}: {count} tokens are too many");
        }
    }

    // Weights so unlike that a sum depends on its order, and targets that are such sums: what is kept stays the top of a sort, and
    // without its last element falls short of the target, but for rounding.
    [Fact]
    public void SelectionSurvivesTheRoundingOfItsSums()
    {
        var random = new Random(6);
        var scratch = new SamplingScratch(200);
        for (int round = 0; round < 5000; round++)
        {
            var values = new float[random.Next(1, 60)];
            var weights = new float[values.Length];
            for (int i = 0; i < values.Length; i++)
            {
                values[i] = 1 + (random.Next(20) * (random.Next(2) == 0 ? 1e-6f : 0.5f));
                weights[i] = MathF.Pow(10, -random.Next(20)) * random.NextSingle();
            }

            int[] sorted = [.. Enumerable.Range(0, values.Length).OrderByDescending(i => values[i]).ThenBy(i => i)];
            int reached = random.Next(1, values.Length + 1);
            double target = sorted[..reached].Order().Sum(i => (double)weights[i]);
            values.CopyTo(scratch.Values, 0);
            weights.CopyTo(scratch.Weights, 0);
            for (int i = 0; i < values.Length; i++)
                scratch.Ids[i] = i;

            int count = scratch.Keep(values.Length, target);

            Assert.Equal(Ascending(sorted, count), scratch.Ids[..count]);
            Assert.True(sorted[..count].Sum(i => (double)weights[i]) >= target * (1 - 1e-12));
            Assert.True(sorted[..(count - 1)].Sum(i => (double)weights[i]) <= target * (1 + 1e-12));
        }
    }

    [Fact]
    public void WeightsAreTheExponential()
    {
        var values = new float[20_003];
        for (int i = 0; i < values.Length; i++)
            values[i] = -i * 0.005f;
        var weights = new float[values.Length];
        LogitScan.Weights(values, 0, 1, weights);
        double worst = 0;
        for (int i = 0; i < values.Length; i++)
        {
            double exact = Math.Exp(values[i]);
            if (values[i] > -87)
                worst = Math.Max(worst, Math.Abs((weights[i] / exact) - 1));
            else
                Assert.InRange(weights[i], 0, 2e-38f);
        }

        Assert.InRange(worst, 0, 3e-7);
        Assert.Equal(1f, weights[0]);
        LogitScan.Weights([float.NegativeInfinity, float.MinValue, 0, 0, 0, 0, 0, 0, float.NegativeInfinity], 0, 1, weights);
        Assert.Equal([0, 0, 1, 1, 1, 1, 1, 1, 0], weights[..9]);
    }
}
