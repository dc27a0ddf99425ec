using Qian.Inference.Verification;
using Qian.Kernels;
using Qian.Training.Model;

namespace Qian.Training.Verification;

// A folder of reference gradients: the loss of a model on a text, d loss / d weight for its tensors, and runs of AdamW from
// there. Bounds come from the folder's info.json. Where a folder is to stay small, norm.NAME holds a gradient's norm and
// sample.NAME some of its values: value i is the gradient's value i · 7919 mod its length.
internal sealed partial class GradientGoldens
{
    private const string NormPrefix = "norm.", SamplePrefix = "sample.";
    private const long SampleStride = 7919;

    private readonly string _folder, _subject;
    private readonly GradientInfo _info;
    private readonly GoldenTensors _inputs;
    private readonly ThreadTeam _team;
    private readonly bool _recompute;
    private readonly List<VerificationResult> _results = [];

    private GradientGoldens(string folder, string subject, GradientInfo info, GoldenTensors inputs, ThreadTeam team, bool recompute)
    {
        (_folder, _subject, _info, _inputs, _team, _recompute) = (folder, subject, info, inputs, team, recompute);
    }

    // Told by its files, as other folders of goldens are.
    public static bool Recognises(string path) => File.Exists(Path.Combine(path, "grads.safetensors")) && File.Exists(Path.Combine(path, "info.json"));

    // `recompute`: with layers run again on the way back, which must change nothing.
    public static List<VerificationResult> Run(string folder, string subject, IProgress<string>? progress = null, bool recompute = false)
    {
        using GradientInfo info = GradientInfo.Read(folder);
        using GoldenTensors inputs = GoldenTensors.Open(Path.Combine(folder, "inputs.safetensors"));
        using var team = new ThreadTeam(Environment.ProcessorCount);
        var goldens = new GradientGoldens(folder, subject, info, inputs, team, recompute);
        progress?.Report("gradients of all weights");
        goldens.CompareGradients();
        foreach (string run in (string[])["adamw", "adamw_clipped"])
        {
            if (!info.Has(run))
                continue;
            progress?.Report($"steps of {run}");
            goldens.CompareSteps(run);
        }

        progress?.Report("adapters");
        goldens.CompareAdapters();
        return goldens._results;
    }

    private void CompareGradients()
    {
        using TrainingModel model = OpenFull();
        TrainingBatch batch = BatchOf("input_ids", firstLabel: 0);
        BatchLoss loss = model.ForwardBackward(batch, 1f / batch.TargetCount);
        double bound = _info.Number("tolerance", "loss_abs");
        Add("loss", Math.Abs(loss.Mean - _info.Number("loss")), bound);
        double norm = Math.Sqrt(SquaredSum.Of(model.Store.Gradients, _team)), referenceNorm = _info.Number("grad_norm");
        Add("norm of the gradient, relative", Math.Abs(norm / referenceNorm - 1), _info.Number("tolerance", "gradient_rel_l2"));
        CompareTensors(model.Parameters);
        if (_info.Has("loss_masked_first_half"))
        {
            TrainingBatch masked = BatchOf("input_ids", firstLabel: batch.RowCount / 2);
            Add("loss, labels of the first half masked", Math.Abs(model.Evaluate(masked).Mean - _info.Number("loss_masked_first_half")), bound);
        }
    }

    // Each parameter against the tensor of its name; the worst of each kind of weight is a line.
    private void CompareTensors(IReadOnlyList<Parameter> parameters)
    {
        using GoldenTensors golden = GoldenTensors.Open(Path.Combine(_folder, "grads.safetensors"));
        double bound = _info.Number("tolerance", "gradient_rel_l2");
        var worst = new SortedDictionary<string, (double Value, string Name)>(StringComparer.Ordinal);
        int compared = 0;
        foreach (Parameter parameter in parameters)
        {
            double value = Distance(golden, parameter.Name, parameter.Gradient.Span);
            compared++;
            string kind = KindOf(parameter.Name);
            if (!worst.TryGetValue(kind, out (double Value, string Name) known) || !(value <= known.Value))
                worst[kind] = (double.IsNaN(value) ? double.PositiveInfinity : value, parameter.Name);
        }

        foreach ((string kind, (double value, string name)) in worst)
            Add($"gradient of {kind}, worst layer", value, bound, value <= bound ? "" : name);
        int expected = golden.Names.Select(WholeName).Distinct().Count();
        Add("tensors without a counterpart", Math.Abs(expected - compared), 0);
    }

    // Infinity where the folder has nothing of this name.
    private static double Distance(GoldenTensors golden, string name, ReadOnlySpan<float> ours)
    {
        if (golden.Has(name))
            return Compare.RelativeL2(ours, golden.Floats(name));
        if (!golden.Has(SamplePrefix + name) || !golden.Has(NormPrefix + name))
            return double.PositiveInfinity;
        float[] sample = golden.Floats(SamplePrefix + name);
        var same = new float[sample.Length];
        for (int i = 0; i < same.Length; i++)
            same[i] = ours[(int)(i * SampleStride % ours.Length)];
        return Worse(Compare.RelativeL2(same, sample), Math.Abs(Norm(ours) / golden.Floats(NormPrefix + name)[0] - 1));
    }

    private static string WholeName(string name) =>
        name.StartsWith(NormPrefix, StringComparison.Ordinal) ? name[NormPrefix.Length..]
        : name.StartsWith(SamplePrefix, StringComparison.Ordinal) ? name[SamplePrefix.Length..] : name;

    private void CompareSteps(string run)
    {
        bool clipped = _info.NumberOrNull(run, "hp", "max_grad_norm") is not null;
        double[] betas = _info.Numbers(run, "hp", "betas");
        double[] losses = _info.Numbers(run, "loss_before_each_step_then_final");
        double[] norms = _info.Numbers(run, clipped ? "grad_norms_before_clip" : "grad_norms");
        using TrainingModel model = OpenFull();
        TrainingBatch[] batches = clipped ? [BatchOf("input_ids", 0), BatchOf("input_ids_2", 0)] : [BatchOf("input_ids", 0)];
        var step = new AdamWStep(_info.Number(run, "hp", "lr"), betas[0], betas[1], _info.Number(run, "hp", "eps"), _info.Number(run, "hp", "weight_decay"), 1);
        Follow(run, model, batches, step, _info.NumberOrNull(run, "hp", "max_grad_norm"), losses, norms);
    }

    // Steps of AdamW over all parameters, the loss before each and after the last, on the first batch.
    private void Follow(string run, TrainingModel model, TrainingBatch[] batches, AdamWStep step, double? mostNorm, double[] losses, double[] norms)
    {
        ParameterStore store = model.Store;
        using NativeBuffer moments = NativeBuffer.AllocateFloats(2 * store.Values.Length);
        FloatView m = moments.Floats(0, store.Values.Length), v = moments.Floats(store.Values.Length, store.Values.Length);
        double worstLoss = 0, worstNorm = 0;
        for (int i = 0; i < losses.Length - 1; i++)
        {
            TrainingBatch batch = batches[i % batches.Length];
            model.ZeroGradients();
            double loss = model.ForwardBackward(batch, 1f / batch.TargetCount).Mean;
            double norm = Math.Sqrt(SquaredSum.Of(store.Gradients, _team));
            worstLoss = Worse(worstLoss, Math.Abs(loss - losses[i]));
            if (i < norms.Length)
                worstNorm = Worse(worstNorm, Math.Abs(norm / norms[i] - 1));
            double scale = mostNorm is { } most ? Math.Min(1, most / (norm + 1e-6)) : 1;
            AdamW.Step(store.Values, store.Gradients, m, v, step with { StepIndex = i + 1, GradientScale = scale }, _team);
        }

        worstLoss = Worse(worstLoss, Math.Abs(model.Evaluate(batches[0]).Mean - losses[^1]));
        Add($"{run}: loss over {losses.Length - 1} steps", worstLoss, _info.Number("tolerance", "loss_after_steps_abs"));
        if (norms.Length > 0)
            Add($"{run}: norms of the gradient, relative", worstNorm, _info.Number("tolerance", "loss_after_steps_abs"));
    }

    private TrainingModel OpenFull() => TrainingModel.Full(_info.ModelFolder, Options(), _team);

    private TrainingModelOptions Options() => new() { MaxRows = Math.Max(_inputs.Ids("input_ids").Length, _inputs.Has("input_ids_2") ? _inputs.Ids("input_ids_2").Length : 1), Recompute = _recompute };

    // Labels are the tokens; those before `firstLabel` are masked. Row t predicts token t + 1.
    private TrainingBatch BatchOf(string name, int firstLabel)
    {
        int[] ids = _inputs.Ids(name);
        var labels = new int[ids.Length];
        for (int t = 0; t < ids.Length; t++)
            labels[t] = t + 1 < ids.Length && t + 1 >= firstLabel ? ids[t + 1] : TrainingBatch.Ignored;
        var batch = new TrainingBatch(ids.Length);
        batch.Add(ids, labels);
        return batch;
    }

    // A name without its layer.
    private static string KindOf(string name)
    {
        const string layers = "layers.";
        int start = name.IndexOf(layers, StringComparison.Ordinal);
        if (start < 0)
            return name;
        int end = name.IndexOf('.', start + layers.Length);
        return end < 0 ? name : name[(end + 1)..];
    }

    private static double Norm(ReadOnlySpan<float> values)
    {
        double sum = 0;
        foreach (float value in values)
            sum += (double)value * value;
        return Math.Sqrt(sum);
    }

    private static double Worse(double known, double value) => value <= known ? known : double.IsNaN(value) ? double.PositiveInfinity : value;

    private void Add(string quantity, double value, double bound, string detail = "") => _results.Add(new VerificationResult(_subject, quantity, value, bound, value <= bound, detail));
}
