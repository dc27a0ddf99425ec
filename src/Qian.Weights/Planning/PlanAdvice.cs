using Qian.Inference;
using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Weights;

// What to change so that a model fits: each line one change alone, with what it gives; the last resort is a number.
internal static class PlanAdvice
{
    private const int UsefulContext = 1024, UsualContext = 32768;

    // From most to fewest bits.
    public static IReadOnlyList<string> Types { get; } = ["BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "IQ4_XS", "Q3_K_M", "Q2_K"];

    public static List<string> For(Checkpoint checkpoint, PlanRequest request, Machine machine)
    {
        var advice = new List<string>();
        ModelPlan plan = ModelPlan.Of(checkpoint, request);
        if (plan.LargestContext(machine) is >= UsefulContext and int context)
            advice.Add($"--context {context}");
        if (request.Kv != KvType.Q8_0)
        {
            PlanRequest smaller = request with { Kv = KvType.Q8_0 };
            ModelPlan packed = ModelPlan.Of(checkpoint, smaller);
            if (packed.Fits(machine))
                advice.Add("--kv q8_0");
            else if (packed.LargestContext(machine) is >= UsefulContext and int packedContext && packedContext > plan.LargestContext(machine))
                advice.Add($"--kv q8_0 with --context {packedContext}");
        }

        for (int parallel = request.ParallelCount - 1; parallel >= 1; parallel--)
        {
            if (!ModelPlan.Of(checkpoint, request with { ParallelCount = parallel }).Fits(machine))
                continue;
            advice.Add($"--parallel {parallel}");
            break;
        }

        foreach (string type in Types)
        {
            using var smaller = new ShapeCheckpoint(checkpoint.Config, QuantMix.Find(type));
            ModelPlan other = ModelPlan.Of(smaller, request);
            if (!other.Fits(machine) || other.WeightBytes >= plan.WeightBytes)
                continue;
            advice.Add($"the {type} file of this model ({MemoryPlan.Format(other.TotalBytes)} in all)");
            break;
        }

        if (advice.Count == 0)
            advice.Add(Together(checkpoint, request, machine) ?? $"a smaller model: even Q2_K lacks {MemoryPlan.Format(Smallest(checkpoint, request) - machine.UsableBytes)} at this context");
        return advice;
    }

    // No single change is enough: one sequence, small keys and values, and the type with most bits that leaves a usual context.
    private static string? Together(Checkpoint checkpoint, PlanRequest request, Machine machine)
    {
        PlanRequest single = request with { ParallelCount = 1, Kv = KvType.Q8_0 };
        int wanted = Math.Min(request.ContextLength, UsualContext);
        foreach (string type in Types)
        {
            using var shape = new ShapeCheckpoint(checkpoint.Config, QuantMix.Find(type));
            int context = ModelPlan.Of(shape, single).LargestContext(machine);
            if (context >= wanted)
                return $"all of these: the {type} file of this model, --kv q8_0, --parallel 1, --context {Math.Min(context, request.ContextLength)}";
        }

        return null;
    }

    private static long Smallest(Checkpoint checkpoint, PlanRequest request)
    {
        using var smallest = new ShapeCheckpoint(checkpoint.Config, QuantMix.Find(Types[^1]));
        return ModelPlan.Of(smallest, request).TotalBytes;
    }
}
