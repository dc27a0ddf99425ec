namespace Qian.Kernels.Tests.Formats;

// Numbers distributed as weights are, or with heavier tails; the same on every run.
internal static class SampleData
{
    // Standard deviation 1: large enough for the coarse scales of NVFP4, and scale is free in the other types.
    public static float[] Gaussian(int count)
    {
        var random = new Random(1);
        return Fill(count, () => Normal(random));
    }

    // Four degrees of freedom.
    public static float[] Student(int count)
    {
        var random = new Random(2);
        return Fill(count, () => Normal(random) / Math.Sqrt(
            (Square(Normal(random)) + Square(Normal(random)) + Square(Normal(random)) + Square(Normal(random))) / 4));
    }

    // Log-normal, as the mean squares of activations per column are.
    public static float[] Importance(int count)
    {
        var random = new Random(3);
        return Fill(count, () => Math.Exp(1.5 * Normal(random)));
    }

    private static double Square(double value) => value * value;

    private static double Normal(Random random) =>
        Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(2 * Math.PI * random.NextDouble());

    private static float[] Fill(int count, Func<double> next)
    {
        var values = new float[count];
        for (int index = 0; index < count; index++)
            values[index] = (float)next();
        return values;
    }
}
