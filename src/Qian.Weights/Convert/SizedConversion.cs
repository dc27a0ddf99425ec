using Qian.Inference;
using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Weights;

// --size: turns a request without types into one with a type for every tensor, so that the file is as large as asked for.
internal static class SizedConversion
{
    private const int BytesPerTensorEntry = 104;   // name, sizes, offset, and the padding between tensors
    private const int BytesOfKeys = 4 << 10;

    // `texts`: what to measure sensitivity on; none, or a large model, leaves it at the reconstruction error. `note` hears how it was measured.
    public static (ConversionRequest Request, SizeChoice Choice) Choose(
        ConversionRequest request, long targetBytes, IReadOnlyList<string> texts, Action<string>? note, Action<long, long>? progress, CancellationToken cancellation)
    {
        if (request.ToFolder)
            throw new BadRequestException("--size: a Hugging Face folder holds float types only; name a .gguf file");
        using Checkpoint checkpoint = Checkpoint.Open(request.InputPath);
        ModelConfig config = ConversionPlan.Config(checkpoint, request);
        List<PlannedTensor> tensors = ConversionPlan.List(checkpoint, request);
        List<PlannedTensor> matrices = [.. tensors.Where(tensor => !tensor.StaysFloat && tensor.Role != TensorRole.SharedExpertGate)];
        HashSet<string> ruled = [.. matrices.Where(tensor => request.Rules.Any(rule => rule.Matches(tensor.Name))).Select(tensor => tensor.Name)];
        Dictionary<PlannedTensor, SortedDictionary<WeightType, double>> errors =
            TensorErrors.Measure(matrices, checkpoint.Config, request.Importance, request.ThreadCount, progress, cancellation);
        bool isMeasured = texts.Count > 0 && matrices.Sum(tensor => tensor.ValueCount) <= ClassSensitivity.MostValues;
        note?.Invoke(isMeasured
            ? "sensitivity: divergence on the text with one class of tensors coarse at a time, times each tensor's error"
            : $"sensitivity: each tensor's error relative to its output{(request.Importance is null ? " (columns alike: --calibrate or --importance would tell which matter)" : ", columns by importance")}");
        Dictionary<string, double>? sensitivity = isMeasured ? ClassSensitivity.Measure(request, matrices, texts, progress, cancellation) : null;
        SizeChoice choice = SizeSearch.Choose(tensors, ruled, errors, sensitivity, config, targetBytes - HeaderBytes(checkpoint, tensors.Count, request.Importance is not null));
        WeightType common = choice.Types.GroupBy(entry => entry.Value).MaxBy(group => group.Count())?.Key ?? request.Mix.Default;
        QuantMix nearest = QuantMix.All.FirstOrDefault(mix => mix.Name == WeightFormat.Name(common) + "_M") ?? QuantMix.All.FirstOrDefault(mix => mix.Default == common) ?? request.Mix;
        return (request with { Types = choice.Types, Mix = nearest with { WithImportance = request.Mix.WithImportance } }, choice);
    }

    // A little more than what stands before the tensors.
    private static long HeaderBytes(Checkpoint checkpoint, int tensorCount, bool withImportance)
    {
        long bytes = BytesOfKeys + (long)tensorCount * BytesPerTensorEntry + (withImportance ? 1024 : 0);
        if (checkpoint is GgufCheckpoint gguf)
            return bytes + gguf.Metadata.Sum(entry => entry.Key.Length + 16 + entry.Value.Bytes.Length);
        if (checkpoint.LoadTokenizer() is not { } tokenizer)
            return bytes;
        (string[] tokens, int[] types, string[] merges) = tokenizer.ToGguf();
        foreach (string text in (IEnumerable<string>)[.. tokens, .. merges, checkpoint.ChatTemplate ?? ""])
            bytes += 8 + System.Text.Encoding.UTF8.GetByteCount(text);
        return bytes + 4L * types.Length;
    }
}
