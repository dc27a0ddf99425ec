using Qian.Kernels;
using Qian.Training.Model;

namespace Qian.Training.Optimization;

// Clipping by the norm of all gradients together. The gradients stay as they are: the factor goes into the optimiser's step.
internal static class Clipping
{
    // Against a division by a vanishing norm, as torch.nn.utils.clip_grad_norm_ has it.
    private const double Guard = 1e-6;

    // Not finite as soon as one gradient is not.
    public static double GlobalNorm(IReadOnlyList<Parameter> parameters, ThreadTeam team)
    {
        double sum = 0;
        for (int i = 0; i < parameters.Count; i++)
            sum += SquaredSum.Of(parameters[i].Gradient, team);
        return Math.Sqrt(sum);
    }

    // What gradients of this norm are multiplied by; a limit of 0 does not clip.
    public static float Factor(double norm, double limit) => limit > 0 ? (float)Math.Min(1, limit / (norm + Guard)) : 1;
}
