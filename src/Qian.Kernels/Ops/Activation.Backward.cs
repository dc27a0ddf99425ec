namespace Qian.Kernels;

// Slopes of the activation functions. Softplus's is the sigmoid.
internal static partial class Activation
{
    // d silu(x) / dx, given sigmoid(x).
    public static float SiluSlope(float x, float sigmoid) => sigmoid * (1f + x * (1f - sigmoid));
}
