namespace Qian.Kernels;

/// <summary>
/// The definitions of the activation functions. Infinities saturate and NaN goes through; none of them can hang or trap.
/// </summary>
internal static partial class Activation
{
    public static float Sigmoid(float x) => 1f / (1f + MathF.Exp(-x));

    public static float Silu(float x) => x / (1f + MathF.Exp(-x));

    // max(x, 0) + log(1 + e^-|x|): no overflow for large x, no cancellation for very negative x.
    public static float Softplus(float x)
    {
        double small = Math.Exp(-Math.Abs((double)x));
        double sum = 1 + small;
        // log(1 + u) loses u's low bits in the sum; u / ((1 + u) - 1) puts them back.
        double log = sum == 1 ? small : Math.Log(sum) * (small / (sum - 1));
        return (float)(Math.Max(x, 0) + log);
    }
}
