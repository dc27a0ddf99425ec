using System.Runtime.Intrinsics;

namespace Qian.Kernels;

/// <summary>What one step of AdamW is made with (Loshchilov and Hutter, 2019).</summary>
/// <param name="LearningRate">Of this step.</param>
/// <param name="Beta1">Decay of the gradient's mean, 0 to below 1.</param>
/// <param name="Beta2">Decay of the squared gradient's mean, 0 to below 1.</param>
/// <param name="Epsilon">Added to the root of the latter.</param>
/// <param name="WeightDecay">Times the learning rate, the share of each value that is lost per step.</param>
/// <param name="StepIndex">1 for the first step: the means are corrected for having begun at zero.</param>
/// <param name="GradientScale">Multiplies the gradient first (clipping, averaging).</param>
public readonly record struct AdamWStep(
    double LearningRate, double Beta1, double Beta2, double Epsilon, double WeightDecay, int StepIndex, double GradientScale = 1);

/// <summary>
/// AdamW with decoupled weight decay:  value −= lr·wd·value;  m += (1 − β1)(g − m);  v = β2·v + (1 − β2)·g²;
/// value −= lr / (1 − β1^t) · m / (√v / √(1 − β2^t) + ε).
/// </summary>
public static unsafe partial class AdamW
{
    /// <summary>Updates values and both means of one parameter.</summary>
    /// <param name="value">[n], updated.</param>
    /// <param name="gradient">[n], not changed.</param>
    /// <param name="m">[n], mean of the gradient, updated; zeros before the first step.</param>
    /// <param name="v">[n], mean of the squared gradient, updated; zeros before the first step.</param>
    /// <param name="step">Rates of this step.</param>
    /// <param name="team">Threads.</param>
    /// <exception cref="ArgumentException">The views differ in length, or the step's numbers are out of range.</exception>
    public static void Step(FloatView value, FloatView gradient, FloatView m, FloatView v, in AdamWStep step, ThreadTeam team) =>
        Step(IsaTier.Current, value, gradient, m, v, in step, team);

    internal static void Step(Isa isa, FloatView value, FloatView gradient, FloatView m, FloatView v, in AdamWStep step, ThreadTeam team)
    {
        long count = value.Length;
        if (gradient.Length != count || m.Length != count || v.Length != count)
            throw new ArgumentException($"{count} values with {gradient.Length} gradients and means of {m.Length} and {v.Length}: expected equal lengths", nameof(value));
        Check(step);
        double correction1 = 1 - Math.Pow(step.Beta1, step.StepIndex), correction2 = 1 - Math.Pow(step.Beta2, step.StepIndex);
        var job = new Job
        {
            Isa = isa,
            Value = value.Pointer,
            Gradient = gradient.Pointer,
            M = m.Pointer,
            V = v.Pointer,
            GradientScale = (float)step.GradientScale,
            Keep = (float)(1 - step.LearningRate * step.WeightDecay),
            Approach1 = (float)(1 - step.Beta1),
            Keep2 = (float)step.Beta2,
            Approach2 = (float)(1 - step.Beta2),
            StepSize = (float)(step.LearningRate / correction1),
            InverseRootCorrection = (float)(1 / Math.Sqrt(correction2)),
            Epsilon = (float)step.Epsilon,
            Split = WorkSplit.Of(count, 1, team, granule: 64),
        };
        team.Run(ref job, job.Split.ChunkCount);
    }

    private static void Check(in AdamWStep step)
    {
        if (!double.IsFinite(step.LearningRate) || !double.IsFinite(step.WeightDecay) || !double.IsFinite(step.GradientScale))
            throw new ArgumentException($"AdamW: learning rate {step.LearningRate}, weight decay {step.WeightDecay}, gradient scale {step.GradientScale}: expected finite numbers", nameof(step));
        if (!(step.Beta1 is >= 0 and < 1) || !(step.Beta2 is >= 0 and < 1) || !(step.Epsilon >= 0))
            throw new ArgumentException($"AdamW: beta {step.Beta1} and {step.Beta2}, epsilon {step.Epsilon}: expected betas from 0 to below 1, epsilon not negative", nameof(step));
        if (step.StepIndex < 1)
            throw new ArgumentException($"AdamW: step {step.StepIndex}: expected 1 for the first", nameof(step));
    }

    private struct Job : IChunkedJob
    {
        public Isa Isa;
        public float* Value, Gradient, M, V;
        public float GradientScale, Keep, Approach1, Keep2, Approach2, StepSize, InverseRootCorrection, Epsilon;
        public WorkSplit Split;

        public readonly void Run(int chunkIndex)
        {
            long first = Split.First(chunkIndex), end = Split.End(chunkIndex);
            switch (Isa)
            {
                case Isa.Avx512:
                    Vector<Lanes512, Vector512<float>>(in this, first, end);
                    break;
                case Isa.Avx2 or Isa.Arm64:
                    Vector<Lanes256, Vector256<float>>(in this, first, end);
                    break;
                default:
                    Scalar(in this, first, end);
                    break;
            }
        }
    }

    private static void Scalar(in Job job, long first, long end)
    {
        for (long i = first; i < end; i++)
        {
            float gradient = job.Gradient[i] * job.GradientScale;
            float m = job.M[i] + job.Approach1 * (gradient - job.M[i]);
            float v = job.V[i] * job.Keep2 + job.Approach2 * gradient * gradient;
            job.M[i] = m;
            job.V[i] = v;
            job.Value[i] = job.Value[i] * job.Keep - job.StepSize * (m / (MathF.Sqrt(v) * job.InverseRootCorrection + job.Epsilon));
        }
    }
}
