namespace Qian.Kernels.Tests.Ops;

/// <summary>
/// Central differences in double over a formula written out in double: what a backward kernel must give. The tests write the
/// forward formula again instead of calling the float kernel, whose rounding would drown the difference.
/// </summary>
internal static class Slope
{
    private const double Step = 1e-4;

    /// <summary>d loss / d each of <paramref name="variable"/>, which <paramref name="loss"/> reads.</summary>
    public static float[] Of(double[] variable, Func<double> loss)
    {
        float[] slopes = new float[variable.Length];
        for (int i = 0; i < variable.Length; i++)
        {
            double at = variable[i];
            variable[i] = at + Step;
            double above = loss();
            variable[i] = at - Step;
            double below = loss();
            variable[i] = at;
            slopes[i] = (float)((above - below) / (2 * Step));
        }

        return slopes;
    }

    public static double[] Doubles(this FloatView view) => [.. view.Span.ToArray().Select(value => (double)value)];

    public static double Sigmoid(double x) => 1 / (1 + Math.Exp(-x));

    public static double Silu(double x) => x * Sigmoid(x);

    /// <summary>1 / sqrt(mean of squares + epsilon) over <paramref name="count"/> values from <paramref name="start"/>.</summary>
    public static double InverseRms(double[] x, int start, int count, double epsilon)
    {
        double sum = 0;
        for (int i = 0; i < count; i++)
            sum += x[start + i] * x[start + i];
        return 1 / Math.Sqrt(sum / count + epsilon);
    }

    /// <summary>after − before, where a kernel added to what was there.</summary>
    public static float[] Gained(float[] before, FloatView after)
    {
        float[] gained = new float[before.Length];
        for (int i = 0; i < gained.Length; i++)
            gained[i] = after.Span[i] - before[i];
        return gained;
    }
}
