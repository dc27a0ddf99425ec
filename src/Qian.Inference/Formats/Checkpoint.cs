using Qian.Kernels;

namespace Qian.Inference.Formats;

// An open model, whatever it is stored as: its shape, its tensors by role with the format's transforms applied, its tokenizer,
// template and defaults. Opening reads headers only. Above this class nobody knows a key or a spelling.
internal abstract class Checkpoint : IDisposable
{
    protected Checkpoint(string path) => Path = path;

    public string Path { get; }

    public abstract ModelConfig Config { get; }

    // The checkpoint's own chat template, or null.
    public abstract string? ChatTemplate { get; }

    // Sampling defaults and end-of-text ids that the checkpoint names.
    public abstract GenerationDefaults Generation { get; }

    // How matrices are stored that are none of the kernels' types, as the configuration says it; null when it says nothing.
    public virtual string? Quantization => null;

    // Every tensor of the files, in file order.
    public abstract IReadOnlyList<TensorSummary> Tensors { get; }

    // Every file that holds tensors, with the part of it that says which.
    public abstract IEnumerable<(string Path, ByteView Header)> Files { get; }

    // Stored bytes of the tensors that the text model uses.
    public long WeightBytes => Tensors.Sum(tensor => tensor.Role is null ? 0 : tensor.ByteCount);

    // A .gguf file (any part of a split set), a Hugging Face folder, or a folder with one .gguf model in it. `mtpPath` is the
    // MTP head's own GGUF file; mtp-NAME beside NAME is found without it.
    public static Checkpoint Open(string path, string? mtpPath = null)
    {
        if (Directory.Exists(path))
        {
            if (File.Exists(System.IO.Path.Combine(path, "config.json")))
                return mtpPath is null ? new HuggingFaceCheckpoint(path) : throw new BadRequestException($"{mtpPath}: a Hugging Face folder holds its MTP head itself.");
            if (File.Exists(System.IO.Path.Combine(path, PeftAdapter.ConfigName)))
                throw new BadModelFileException($"{path}: this is a LoRA adapter; open the model that it was trained on, and give this folder as the adapter.");
            string[] files = [.. Directory.GetFiles(path, "*.gguf").Where(IsMainFile).Order(StringComparer.Ordinal)];
            return files.Length == 1
                ? GgufCheckpoint.Open(files[0], mtpPath)
                : throw new BadModelFileException($"{path}: expected config.json or one .gguf model in this folder, found {files.Length} .gguf models; name the file itself.");
        }

        if (!File.Exists(path))
            throw new BadModelFileException($"{path}: no such file or folder. Name a .gguf file or a Hugging Face folder.");
        if (System.IO.Path.GetExtension(path).Equals(".safetensors", StringComparison.OrdinalIgnoreCase))
            throw new BadModelFileException($"{path}: name the folder that it lies in (config.json and tokenizer.json belong to it).");
        return GgufCheckpoint.Open(path, mtpPath);
    }

    // Null when the model has no such tensor. A tensor of another shape than the configuration implies is an error.
    public abstract TensorSource? Find(TensorRole role, int layer = -1, int expert = -1);

    public TensorSource Require(TensorRole role, int layer = -1, int expert = -1) =>
        Find(role, layer, expert) ?? throw new BadModelFileException($"{Path}: tensor {FileText.Quote(Spelling(role, layer, expert))} is missing.");

    // Null when the checkpoint has no tokenizer.
    public abstract TokenizerSpec? LoadTokenizer();

    public abstract void Dispose();

    // How this checkpoint's format spells a tensor.
    protected abstract string Spelling(TensorRole role, int layer, int expert);

    protected void CheckShape(string name, TensorRole role, long rows, long columns)
    {
        (int expectedRows, int expectedColumns) = TensorShapes.Of(Config, role);
        if (rows != expectedRows || columns != expectedColumns)
            throw new BadModelFileException($"{Path}: tensor {FileText.Quote(name)}: expected [{expectedRows}, {expectedColumns}] by the model's configuration, found [{rows}, {columns}]; the file is damaged, or not of this model.");
    }

    private static bool IsMainFile(string path)
    {
        string name = System.IO.Path.GetFileName(path);
        bool isLaterPart = name.Contains("-of-", StringComparison.Ordinal) && !name.Contains("-00001-of-", StringComparison.Ordinal);
        return !isLaterPart && !name.StartsWith("mtp-", StringComparison.Ordinal) && !name.StartsWith("mmproj", StringComparison.OrdinalIgnoreCase);
    }
}

// What generation_config.json (or a GGUF's keys) says: ids that end a text, and sampling defaults.
internal sealed record GenerationDefaults(IReadOnlyList<int> EosTokenIds, SamplingOptions? Sampling);

// One tensor as it stands in a file. Role is null for tensors that the text model does not use.
internal sealed record TensorSummary(string Name, IReadOnlyList<long> Shape, string TypeName, long ByteCount, TensorRole? Role, bool IsVision)
{
    // Parameters of the model that are in it: its elements, unless several share one or they are only scales.
    public long ParameterCount { get; init; } = Shape.Aggregate(1L, (product, size) => product * size);
}
