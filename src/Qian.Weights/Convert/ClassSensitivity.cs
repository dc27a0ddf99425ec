using Qian.Inference;
using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Weights;

// How much the model's predictions suffer from an error in each class of tensors: one class at a time is written in a coarse type,
// all others as they are, and the divergence from the input model measured on a text. Only for models small enough to be
// written and read once per class; the text is cut to what that can bear.
internal static class ClassSensitivity
{
    public const long MostValues = 400_000_000;
    public const WeightType Probe = WeightType.Q3_K;

    private const int MostTextBytes = 16 << 10;
    private const int PieceTokens = 256;

    // Divergence in nats per token that each class alone costs as the probe type, and what that type is.
    public static Dictionary<string, double> Measure(ConversionRequest request, IReadOnlyList<PlannedTensor> matrices, IReadOnlyList<string> texts, Action<long, long>? progress, CancellationToken cancellation)
    {
        string folder = Directory.CreateTempSubdirectory("qian-size-").FullName;
        try
        {
            string[] cut = [.. texts.Select((path, i) => CutText(path, Path.Combine(folder, $"{i}{Path.GetExtension(path)}"), MostTextBytes / texts.Count))];
            string logits = Path.Combine(folder, "logits"), candidate = Path.Combine(folder, "class.gguf");
            var quality = new QualityRequest { TextPaths = cut, PieceTokens = PieceTokens, ThreadCount = request.ThreadCount };
            QualityRun.Save(quality with { ReferencePath = request.InputPath, SaveLogitsPath = logits }, null, cancellation);
            string[] classes = [.. matrices.Select(tensor => tensor.Class).Distinct()];
            var divergences = new Dictionary<string, double>();
            for (int i = 0; i < classes.Length; i++)
            {
                ConversionRequest one = request with
                {
                    OutputPath = candidate,
                    Mix = QuantMix.Find("BF16"),
                    Types = matrices.Where(tensor => tensor.Class == classes[i] && tensor.ColumnCount % WeightFormat.BlockValues(Probe) == 0).ToDictionary(tensor => tensor.Name, _ => Probe),
                    Rules = [],
                    Overwrite = true,
                };
                using (ModelConversion conversion = ModelConversion.Prepare(one))
                    conversion.Write(null, cancellation);
                divergences.Add(classes[i], QualityRun.Compare(quality with { ReferenceLogitsPath = logits, CandidatePath = candidate }, null, cancellation).Divergence.Mean);
                progress?.Invoke(i + 1, classes.Length);
            }

            return divergences;
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    // Whole lines from the start, at least one.
    private static string CutText(string path, string cutPath, int mostBytes)
    {
        using StreamWriter writer = File.CreateText(cutPath);
        long written = 0;
        foreach (string line in File.ReadLines(path))
        {
            if (written > 0 && written + line.Length > mostBytes)
                break;
            writer.WriteLine(line);
            written += line.Length + 1;
        }

        return cutPath;
    }
}
