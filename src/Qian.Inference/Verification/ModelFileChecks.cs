using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Inference.Verification;

// Is this file a sound model? Looks at it without running it: names, shapes and types against the architecture, ranges of the
// metadata, tokenizer and template at work, and what the values of the tensors look like. Streams: memory stays small whatever
// the file's size. Each quantity is a count of what is wrong, with names, against a bound of 0.
internal sealed class ModelFileChecks
{
    // Beyond this much, rows are sampled evenly unless all are asked for.
    private const long SampledBytes = 4L << 30;
    private const int NamedCount = 4;

    private readonly Checkpoint _checkpoint;
    private readonly string _subject;
    private readonly List<VerificationResult> _results = [];

    private ModelFileChecks(Checkpoint checkpoint, string subject)
    {
        _checkpoint = checkpoint;
        _subject = subject;
    }

    public static List<VerificationResult> Run(string path, string subject, bool everyRow, int threadCount, IProgress<string>? progress, CancellationToken cancellation)
    {
        using Checkpoint checkpoint = Checkpoint.Open(path);
        var run = new ModelFileChecks(checkpoint, subject);
        run.Metadata();
        List<(TensorRole Role, int Layer, TensorSource Source)> tensors = run.Names();
        run.Types(tensors);
        foreach ((string quantity, List<string> faults) in TextChecks.Run(checkpoint))
            run.Add(quantity, faults);
        run.Values(tensors, everyRow, threadCount, progress, cancellation);
        if (run._results.TrueForAll(result => result.Passed))
        {
            progress?.Report("order of the value heads, by the weights");
            run._results.Add(ValueHeadEvidence.FromWeights(checkpoint, cancellation).ToResult(subject, "evidence in the weights that value heads stand in the wrong order"));
        }

        return run._results;
    }

    private void Metadata()
    {
        ModelConfig c = _checkpoint.Config;
        var faults = new List<string>();
        Within("norm epsilon", c.NormEpsilon, 1e-8, 1e-4);
        Within("rotary base", c.RopeTheta, 1e3, 1e9);
        Within("context length", c.ContextLength, 64, 1 << 24);
        Within("rotated share of a head", c.RotaryDim / (double)c.HeadDim, 1.0 / 16, 1);
        Within("attention layers", c.FullAttentionLayerCount, 1, c.LayerCount);
        Within("width of the MLP over the residual stream", (c.IsMoe ? (double)c.ExpertIntermediateSize * c.ExpertsPerToken : c.IntermediateSize) / c.HiddenSize, 0.1, 32);
        if (_checkpoint.Generation.Sampling is { } sampling)
        {
            Within("sampling temperature", sampling.Temperature ?? 1, 0, 2);
            Within("sampling top-p", sampling.TopP ?? 1, 0.01, 1);
        }

        Add("metadata out of the usual range", faults);

        void Within(string what, double value, double least, double most)
        {
            if (!(value >= least && value <= most))
                faults.Add(FormattableString.Invariant($"{what} {value:g4}, usual are {least:g4} to {most:g4}"));
        }
    }

    // Every tensor that the architecture asks for, as far as it is there in the right shape.
    private List<(TensorRole Role, int Layer, TensorSource Source)> Names()
    {
        ModelConfig config = _checkpoint.Config;
        var found = new List<(TensorRole, int, TensorSource)>();
        var missing = new List<string>();
        var misshapen = new List<string>();
        for (int layer = -1; layer < config.LayerCount + config.MtpLayerCount; layer++)
        {
            foreach (TensorRole role in Enum.GetValues<TensorRole>())
            {
                if (!TensorShapes.Occurs(config, role, layer) || (role == TensorRole.Output && config.TiedEmbeddings))
                    continue;
                for (int expert = 0; expert < (TensorShapes.IsExpert(role) ? config.ExpertCount : 1); expert++)
                {
                    try
                    {
                        found.Add((role, layer, _checkpoint.Require(role, layer, TensorShapes.IsExpert(role) ? expert : -1)));
                    }
                    catch (BadModelFileException error)
                    {
                        (error.Message.EndsWith("is missing.", StringComparison.Ordinal) ? missing : misshapen).Add(error.Message.Replace(_checkpoint.Path + ": ", "", StringComparison.Ordinal));
                        break;
                    }
                }
            }
        }

        string[] unknown = [.. _checkpoint.Tensors.Where(tensor => tensor.Role is null && !tensor.IsVision).Select(tensor => FileText.Quote(tensor.Name))];
        if (missing.Count > 0 && unknown.Length > 0)
            missing.Add($"instead there is {string.Join(", ", unknown.Take(NamedCount))}");
        Add($"tensors missing, of {found.Count + missing.Count + misshapen.Count}", missing);
        Add("tensors of a wrong shape", misshapen);
        return found;
    }

    private void Types(List<(TensorRole Role, int Layer, TensorSource Source)> tensors)
    {
        Add("vectors and taps of a quantised type",
            tensors.Where(tensor => (TensorShapes.IsVector(tensor.Role) || tensor.Role == TensorRole.LinearConv) && tensor.Source.Type is { } type && WeightFormat.IsQuantized(type))
                .Select(tensor => $"{FileText.Quote(tensor.Source.Name)} ({WeightFormat.Name(tensor.Source.Type!.Value)})"));
    }

    private void Values(List<(TensorRole Role, int Layer, TensorSource Source)> tensors, bool everyRow, int threadCount, IProgress<string>? progress, CancellationToken cancellation)
    {
        long bytes = _checkpoint.WeightBytes, rows = 0, rowsRead = 0;
        int stride = everyRow ? 1 : (int)Math.Max(1, (bytes + SampledBytes - 1) / SampledBytes);
        var statistics = new List<TensorStatistics>();
        for (int i = 0; i < tensors.Count; i++)
        {
            (TensorRole role, int layer, TensorSource source) = tensors[i];
            if (i % Math.Max(1, tensors.Count / 20) == 0)
                progress?.Report(FormattableString.Invariant($"values of the tensors, {100.0 * i / tensors.Count:0} %"));
            bool isSmall = (long)source.RowCount * source.ColumnCount < 1 << 20;
            TensorStatistics tensor = TensorStatistics.Of(source, role, layer, isSmall ? 1 : stride, threadCount, bytes > SampledBytes, cancellation);
            statistics.Add(tensor);
            rows += tensor.RowCount;
            rowsRead += Math.Min(tensor.RowsRead, tensor.RowCount);
        }

        string read = stride == 1 ? "" : FormattableString.Invariant($"; {100.0 * rowsRead / rows:0.0} % of the rows were read, --every-row reads all");
        TensorPlausibility.Judge(statistics, (quantity, faults) => Add(quantity, faults, read));
    }

    private void Add(string quantity, IEnumerable<string> faults, string note = "")
    {
        string[] all = [.. faults];
        string detail = string.Join("; ", all.Take(NamedCount)) + (all.Length > NamedCount ? "; …" : "") + (all.Length > 0 ? note : note.TrimStart(';', ' '));
        _results.Add(new VerificationResult(_subject, quantity, all.Length, 0, all.Length == 0, detail.Length > 0 ? $"({detail})" : ""));
    }
}
