using Qian.Inference;
using Qian.Kernels;

namespace Qian.Weights;

// What to turn into what.
internal sealed record ConversionRequest
{
    // Anything that can be loaded: a GGUF file or a Hugging Face folder.
    public required string InputPath { get; init; }

    // A .gguf file, or a folder (ends in a separator, or exists as one) for the Hugging Face form.
    public required string OutputPath { get; init; }

    public required QuantMix Mix { get; init; }

    // Types by tensor name that win over the mix: what a search for a size chose.
    public IReadOnlyDictionary<string, WeightType>? Types { get; init; }

    // Types that win over the mix and the search; the first rule that matches counts.
    public IReadOnlyList<TensorRule> Rules { get; init; } = [];

    // Which input columns matter, per tensor; null weighs all alike.
    public ImportanceMatrix? Importance { get; init; }

    // The matrix is still to be collected: what needs one is not refused yet.
    public bool ImportanceFollows { get; init; }

    // Encode without the search for the least error.
    public bool Fast { get; init; }

    // The layer that predicts a token ahead goes along when the input has one.
    public bool KeepMtp { get; init; } = true;

    // Replace what is already there.
    public bool Overwrite { get; init; }

    public int ThreadCount { get; init; } = Environment.ProcessorCount;

    public bool ToFolder => Path.EndsInDirectorySeparator(OutputPath) || Directory.Exists(OutputPath);
}

// `ValuesDone` of `ValuesTotal` weights are written.
internal readonly record struct ConversionProgress(long ValuesDone, long ValuesTotal, string Tensor);

internal sealed record ConversionResult(string Path, ModelConfig Config, long FileBytes, long TensorBytes, long ValueCount, long KeptValueCount, TimeSpan Elapsed)
{
    public double BitsPerWeight => 8.0 * TensorBytes / ValueCount;

    // What the input would take as BF16, per second: the usual measure of a quantizer. What an earlier run did is not counted.
    public double InputBytesPerSecond => 2.0 * (ValueCount - KeptValueCount) / Elapsed.TotalSeconds;
}
