using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Inference.Verification;

internal enum TargetKind
{
    ModelGoldens,
    GgufGoldens,
    OpGoldens,
    BlockGoldens,
    TemplateGoldens,
    TokenizerGoldens,
    ToolCallCases,
    Model,
    NotCovered,
}

// How to verify a model file.
internal sealed record VerificationOptions
{
    public KvType Kv { get; init; } = KvType.F16;

    // Exact arithmetic beside the fast one for large files too.
    public bool Exact { get; init; }

    // Every row of every tensor of a huge file, not a sample.
    public bool EveryRow { get; init; }

    // Look at the file, run nothing.
    public bool FileOnly { get; init; }

    public int ThreadCount { get; init; } = Environment.ProcessorCount;
}

// One thing to verify. What a path is, is told by the files in it, never by its name; a folder of such folders is
// searched one level deep.
internal sealed record VerificationTarget(string Path, string Subject, TargetKind Kind, string Note)
{
    public static List<VerificationTarget> Find(IEnumerable<string> paths)
    {
        var targets = new List<VerificationTarget>();
        foreach (string path in paths)
        {
            if (!File.Exists(path) && !Directory.Exists(path))
                throw new BadRequestException($"{path}: no such file or folder.");
            if (Recognise(path) is { } target)
            {
                targets.Add(target);
                continue;
            }

            int before = targets.Count;
            if (Directory.Exists(path))
            {
                foreach (string inner in Directory.GetDirectories(path).Order(StringComparer.Ordinal))
                {
                    if (Recognise(inner) is { } found)
                        targets.Add(found);
                }
            }

            if (targets.Count == before)
                throw new BadRequestException($"{path}: neither a model (a .gguf file, or a folder with config.json) nor a folder of reference numbers (outputs.safetensors, cases.json, …).");
        }

        return targets;
    }

    public List<VerificationResult> Run(VerificationOptions options, IProgress<string>? progress, CancellationToken cancellation = default) => Kind switch
    {
        TargetKind.ModelGoldens => RunModelGoldens(progress),
        TargetKind.GgufGoldens => Verification.GgufGoldens.Run(Path, Subject),
        TargetKind.OpGoldens => Verification.OpGoldens.Run(Path, Subject),
        TargetKind.BlockGoldens => Verification.BlockGoldens.Run(Path, Subject),
        TargetKind.TemplateGoldens => [.. Verification.TemplateGoldens.Run(Path)],
        TargetKind.TokenizerGoldens => RunTokenizerGoldens(),
        TargetKind.ToolCallCases => [.. Verification.ToolCallCases.Run(Path)],
        TargetKind.Model => RunModel(options, progress, cancellation),
        _ => [],
    };

    // The file first: where it is damaged, what an engine computes from it says nothing about the engine.
    private List<VerificationResult> RunModel(VerificationOptions options, IProgress<string>? progress, CancellationToken cancellation)
    {
        progress?.Report("the file itself");
        List<VerificationResult> results = ModelFileChecks.Run(Path, Subject, options.EveryRow, options.ThreadCount, progress, cancellation);
        if (!results.TrueForAll(result => result.Passed))
            progress?.Report("the engine's invariants are left out: the file is not sound");
        else if (!options.FileOnly)
            results.AddRange(Invariants.Run(Path, Subject, options, progress, cancellation));
        return results;
    }

    private List<VerificationResult> RunTokenizerGoldens() =>
    [
        .. Verification.TokenizerGoldens.Run(Path).Select(comparison => new VerificationResult(
            Subject, $"{comparison.Name}: differing of {comparison.ComparedCount}", comparison.FailedCount, 0, comparison.FailedCount == 0 && comparison.ComparedCount > 0, comparison.FirstFailures)),
    ];

    // The folder as it is, and the GGUF files that we write from it.
    private List<VerificationResult> RunModelGoldens(IProgress<string>? progress)
    {
        List<VerificationResult> results = Verification.ModelGoldens.Run(Path, Path, $"{Subject} (safetensors)");
        string temporary = Directory.CreateTempSubdirectory("qian-verify-").FullName;
        try
        {
            foreach (WeightType type in (WeightType[])[WeightType.F32, WeightType.BF16])
            {
                string name = type.ToString();
                progress?.Report($"the same from a {name} GGUF written from it");
                string gguf = System.IO.Path.Combine(temporary, $"{name}.gguf");
                using (Checkpoint checkpoint = Checkpoint.Open(Path))
                    GgufExport.Write(checkpoint, gguf, type);
                results.AddRange(Verification.ModelGoldens.Run(Path, gguf, $"{Subject} ({name} GGUF)"));
            }
        }
        finally
        {
            Directory.Delete(temporary, recursive: true);
        }

        return results;
    }

    private static VerificationTarget? Recognise(string path)
    {
        string name = System.IO.Path.GetFileName(System.IO.Path.GetFullPath(path).TrimEnd(System.IO.Path.DirectorySeparatorChar));
        if (File.Exists(path))
        {
            return System.IO.Path.GetExtension(path).ToLowerInvariant() switch
            {
                ".gguf" => Target(TargetKind.Model, "the file and the engine's invariants on it"),
                ".json" => CaseFile(),
                _ => null,
            };
        }

        if (Has("outputs.safetensors") && Has("inputs.safetensors") && Has("config.json"))
            return Target(TargetKind.ModelGoldens, Has("vision_intermediates.safetensors") ? "model goldens, text part; the vision tower is not covered yet" : "model goldens");
        if (Has("outputs.safetensors") && Directory.GetFiles(path, "*.gguf").Length > 0)
            return Target(TargetKind.GgufGoldens, "GGUF files with other engines' logits");
        if (Has("gated_delta_rule.safetensors") || Has("rope_real_geometry.safetensors") || Has("norms_conv.safetensors"))
            return Target(TargetKind.OpGoldens, Has("vision_position_real_grid.safetensors") ? "single operations; vision positions are not covered yet" : "single operations");
        if (Has("blocks.safetensors"))
            return Target(TargetKind.BlockGoldens, "weight formats");
        if (Has("cases.json") && Has("chat_template.jinja"))
            return Target(TargetKind.TemplateGoldens, "chat template");
        if (Has("cases.jsonl"))
            return Target(TargetKind.TokenizerGoldens, "tokenizer");
        if (Has("grads.safetensors"))
            return Target(TargetKind.NotCovered, "gradients");
        if (Has("cases.json") && Directory.Exists(System.IO.Path.Combine(path, "images")))
            return Target(TargetKind.NotCovered, "image preprocessing");
        if (Has("config.json") || Directory.GetFiles(path, "*.gguf").Length > 0)
            return Target(TargetKind.Model, "the file and the engine's invariants on it");
        return null;

        bool Has(string file) => File.Exists(System.IO.Path.Combine(path, file));

        VerificationTarget Target(TargetKind kind, string note) => new(path, name, kind, note);

        VerificationTarget? CaseFile()
        {
            if (ToolCallCases.Recognises(path))
                return Target(TargetKind.ToolCallCases, "tool-call cases");
            return TemplateGoldens.Recognises(path) ? Target(TargetKind.TemplateGoldens, "chat template") : null;
        }
    }
}
