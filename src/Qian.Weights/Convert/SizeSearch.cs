using Qian.Inference;
using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Weights;

// Types per tensor such that the file is as large as asked for and diverges least. The cost of a tensor in a type is its relative
// error in that type times the sensitivity of its class; costs of tensors add up, which holds while they are small. Each tensor's
// useful types lie on the lower convex hull of (bytes, cost); steps along the hulls are taken by what they gain per byte, which is
// the Lagrangian optimum up to the last step, until the size is reached.
internal static class SizeSearch
{
    // The head that predicts a token ahead costs drafts where it errs, not text.
    private const double MtpWeight = 0.1;

    // `sensitivity`: divergence of each class in the probe type; null weighs every tensor's relative error alike.
    public static SizeChoice Choose(
        IReadOnlyList<PlannedTensor> tensors, IReadOnlySet<string> fixedNames, Dictionary<PlannedTensor, SortedDictionary<WeightType, double>> errors,
        IReadOnlyDictionary<string, double>? sensitivity, ModelConfig config, long targetBytes)
    {
        Dictionary<string, double> factors = Factors(errors, sensitivity, config);
        long bytes = tensors.Where(tensor => !errors.ContainsKey(tensor)).Sum(tensor => tensor.ByteCount);
        var steps = new List<Step>();
        var types = new Dictionary<string, WeightType>();
        double cost = 0;
        foreach ((PlannedTensor tensor, SortedDictionary<WeightType, double> byType) in errors)
        {
            if (fixedNames.Contains(tensor.Name))
            {
                bytes += tensor.ByteCount;
                continue;
            }

            double factor = factors[tensor.Class] * (tensor.Layer == config.LayerCount ? MtpWeight : 1);
            List<Point> hull = Hull([.. byType.Select(entry => new Point(entry.Key, (tensor with { Type = entry.Key }).ByteCount, factor * entry.Value))]);
            types.Add(tensor.Name, hull[0].Type);
            bytes += hull[0].Bytes;
            cost += hull[0].Cost;
            for (int i = 1; i < hull.Count; i++)
                steps.Add(new Step(tensor.Name, hull[i].Type, hull[i].Bytes - hull[i - 1].Bytes, hull[i - 1].Cost - hull[i].Cost, i));
        }

        if (bytes > targetBytes)
            throw new BadRequestException($"--size: the tensors take {MemoryPlan.Format(bytes)} at least, {MemoryPlan.Format(targetBytes)} are left for them; ask for more, or use a smaller model");
        // Gains per byte fall along a hull, so a tensor's steps come in their order; one that no longer fits ends that tensor's.
        var ended = new HashSet<string>();
        foreach (Step step in steps.OrderByDescending(step => step.Gain / step.Bytes).ThenBy(step => step.Name, StringComparer.Ordinal).ThenBy(step => step.Index))
        {
            if (ended.Contains(step.Name))
                continue;
            if (bytes + step.Bytes > targetBytes)
            {
                ended.Add(step.Name);
                continue;
            }

            types[step.Name] = step.Type;
            bytes += step.Bytes;
            cost -= step.Gain;
        }

        return new SizeChoice(types, bytes, cost);
    }

    // So that a class in the probe type costs what was measured.
    private static Dictionary<string, double> Factors(Dictionary<PlannedTensor, SortedDictionary<WeightType, double>> errors, IReadOnlyDictionary<string, double>? sensitivity, ModelConfig config)
    {
        var factors = new Dictionary<string, double>();
        foreach (IGrouping<string, PlannedTensor> tensors in errors.Keys.GroupBy(tensor => tensor.Class))
        {
            double probed = tensors.Where(tensor => tensor.Layer != config.LayerCount).Sum(tensor => errors[tensor].GetValueOrDefault(ClassSensitivity.Probe));
            factors[tensors.Key] = sensitivity is not null && probed > 0 ? sensitivity.GetValueOrDefault(tensors.Key) / probed : sensitivity is null ? 1 : 0;
        }

        // A class that only the MTP layer has, or that no probe fits: as sensitive as the middle one.
        double[] known = [.. factors.Values.Where(factor => factor > 0).Order()];
        foreach (string name in factors.Keys.Where(name => !(factors[name] > 0)).ToList())
            factors[name] = known.Length > 0 ? known[known.Length / 2] : 1;
        return factors;
    }

    // From fewest bytes; each further point costs less, at a falling gain per byte.
    private static List<Point> Hull(List<Point> points)
    {
        points.Sort((left, right) => left.Bytes != right.Bytes ? left.Bytes.CompareTo(right.Bytes) : left.Cost.CompareTo(right.Cost));
        var hull = new List<Point>();
        foreach (Point point in points)
        {
            if (hull.Count > 0 && point.Cost >= hull[^1].Cost)
                continue;
            while (hull.Count > 1 && Slope(hull[^2], hull[^1]) <= Slope(hull[^1], point))
                hull.RemoveAt(hull.Count - 1);
            hull.Add(point);
        }

        return hull;
    }

    private static double Slope(Point from, Point to) => (from.Cost - to.Cost) / (to.Bytes - from.Bytes);

    private readonly record struct Point(WeightType Type, long Bytes, double Cost);

    private readonly record struct Step(string Name, WeightType Type, long Bytes, double Gain, int Index);
}

// Types by tensor name; bytes of all tensors; the cost that is left, in nats per token where the sensitivity was measured.
internal sealed record SizeChoice(IReadOnlyDictionary<string, WeightType> Types, long TensorBytes, double Cost);
