using System.Diagnostics;
using Qian.Inference;
using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Weights;

// One conversion: any model that loads, to a GGUF file of any type that can be written, or to a Hugging Face folder. Prepare opens,
// plans and refuses; Write streams: rows are encoded on all threads and written in order, so memory holds a few pieces of about a
// million values, whatever the model's size. What exists under the final name is whole; an interrupted or killed run leaves .part
// files with a journal, and the next one with the same input and options goes on behind the last whole tensor.
internal sealed class ModelConversion : IDisposable
{
    // Vocabulary, merges, template and tensor list of a published file take about 10 MB.
    private const long MostHeaderBytes = 64L << 20;

    private readonly Checkpoint _checkpoint;
    private readonly ConversionRequest _request;

    private ModelConversion(Checkpoint checkpoint, ConversionRequest request)
    {
        _checkpoint = checkpoint;
        _request = request;
        Config = ConversionPlan.Config(checkpoint, request);
        Tensors = ConversionPlan.List(checkpoint, request);
    }

    public ModelConfig Config { get; }

    public IReadOnlyList<PlannedTensor> Tensors { get; }

    public long TensorBytes => Tensors.Sum(tensor => tensor.ByteCount);

    public long ValueCount => Tensors.Sum(tensor => tensor.ValueCount);

    public double BitsPerWeight => 8.0 * TensorBytes / ValueCount;

    // What the user should know about the input, if anything.
    public IReadOnlyList<string> Notes { get; private set; } = [];

    public static ModelConversion Prepare(ConversionRequest request)
    {
        if (request.ToFolder && (FolderConversion.Stored(request.Mix.Default) is null || request.Rules.Any(rule => FolderConversion.Stored(rule.Type) is null)))
            throw new BadRequestException($"a Hugging Face folder holds BF16, F16 or F32, not {request.Mix.Name}; name a .gguf file to write that type");
        RefuseExisting(request);
        Checkpoint checkpoint = Checkpoint.Open(request.InputPath);
        try
        {
            var conversion = new ModelConversion(checkpoint, request);
            conversion.Notes = [.. NotesOn(checkpoint), .. conversion.NotesOnImportance()];
            return conversion;
        }
        catch
        {
            checkpoint.Dispose();
            throw;
        }
    }

    // Where Write ended early: what it left, and how to go on; null when it left nothing.
    public string? Unfinished { get; private set; }

    private string JournalPath => _request.ToFolder ? Path.Combine(_request.OutputPath, "model.journal.part") : _request.OutputPath + ".journal.part";

    // Tensors of the output: of an expert's gate and up a folder makes one.
    private int OutputTensorCount => Tensors.Count(tensor => !_request.ToFolder || tensor.Role != TensorRole.ExpertUp);

    // `note` hears what an earlier run left and what becomes of it.
    public ConversionResult Write(IProgress<ConversionProgress>? progress, CancellationToken cancellation, Action<string>? note = null)
    {
        var clock = Stopwatch.StartNew();
        Unfinished = null;
        DiskRoom.Require(_request.OutputPath, Math.Max(0, TensorBytes - Parts().Sum(path => new FileInfo(path).Length)) + MostHeaderBytes, "use another disk or a smaller --type");
        bool isNewFolder = _request.ToFolder && !Directory.Exists(_request.OutputPath);
        if (isNewFolder)
            Directory.CreateDirectory(_request.OutputPath);
        using var journal = new ConversionJournal(JournalPath, ConversionIdentity.OfInput(_checkpoint), ConversionIdentity.OfOptions(_request, Tensors));
        long keptCount;
        try
        {
            keptCount = Write(journal, progress, cancellation, note);
        }
        catch (Exception error)
        {
            if (error is OperationCanceledException or IOException && journal.Entries.Count > 0)
                Unfinished = $"{journal.Entries.Count} of {OutputTensorCount} tensors are kept in {Parts().First()}: the same command goes on behind them; to drop them, delete it and {journal.FilePath}";
            else
                CleanUp(journal, isNewFolder);
            throw;
        }

        journal.Delete();
        long fileBytes = _request.ToFolder
            ? new DirectoryInfo(_request.OutputPath).EnumerateFiles().Sum(file => file.Length)
            : new FileInfo(_request.OutputPath).Length;
        return new ConversionResult(_request.OutputPath, Config, fileBytes, TensorBytes, ValueCount, keptCount, clock.Elapsed);
    }

    public void Dispose() => _checkpoint.Dispose();

    // Returns how many values an earlier run had written.
    private long Write(ConversionJournal journal, IProgress<ConversionProgress>? progress, CancellationToken cancellation, Action<string>? note)
    {
        if (journal.Refusal is { } refusal)
            note?.Invoke($"what an earlier run left of {_request.OutputPath} is of no use ({refusal}): starting anew");
        if (journal.Entries.Count == 0)
            DeleteParts();
        bool hadEntries = journal.Entries.Count > 0, isFirst = true;
        long valuesDone = 0, keptCount = 0;
        Action<EncodedRows, bool> written = (rows, isKept) =>
        {
            if (!isKept && isFirst && hadEntries)
            {
                note?.Invoke(journal.Entries.Count > 0
                    ? $"going on with what an earlier run left: {journal.Entries.Count} of {OutputTensorCount} tensors, checked"
                    : $"what an earlier run left of {_request.OutputPath} is not as it was written: starting anew");
            }

            isFirst &= isKept;
            keptCount += isKept ? rows.ValueCount : 0;
            valuesDone += rows.ValueCount;
            progress?.Report(new ConversionProgress(valuesDone, ValueCount, rows.TensorName));
        };
        if (_request.ToFolder)
            FolderConversion.Write(_checkpoint, _request, Tensors, journal, written, cancellation);
        else
            GgufConversion.Write(_checkpoint, _request, Tensors, journal, written, cancellation);
        return keptCount;
    }

    private string[] Parts() => _request.ToFolder
        ? Directory.Exists(_request.OutputPath) ? Directory.GetFiles(_request.OutputPath, "model*.safetensors.part") : []
        : File.Exists(_request.OutputPath + ".part") ? [_request.OutputPath + ".part"] : [];

    private void DeleteParts()
    {
        foreach (string path in Parts())
            File.Delete(path);
    }

    private void CleanUp(ConversionJournal journal, bool isNewFolder)
    {
        DeleteParts();
        journal.Delete();
        if (isNewFolder && !Directory.EnumerateFileSystemEntries(_request.OutputPath).Any())
            Directory.Delete(_request.OutputPath);
    }

    private static void RefuseExisting(ConversionRequest request)
    {
        string output = Path.TrimEndingDirectorySeparator(Path.GetFullPath(request.OutputPath));
        string input = Path.TrimEndingDirectorySeparator(Path.GetFullPath(request.InputPath));
        if (output == input)
            throw new BadRequestException($"{request.OutputPath} is the input; name another place");
        if (request.ToFolder && File.Exists(output))
            throw new BadRequestException($"{request.OutputPath} is a file; a Hugging Face model is a folder");
        // What a killed run left behind is in nobody's way.
        bool exists = request.ToFolder
            ? Directory.Exists(output) && Directory.EnumerateFileSystemEntries(output).Any(path => !path.EndsWith(".part", StringComparison.Ordinal))
            : File.Exists(output);
        if (exists && !request.Overwrite)
            throw new BadRequestException($"{request.OutputPath} exists{(request.ToFolder ? " and is not empty" : "")}; use --force to replace it");
        if (Path.GetDirectoryName(output) is { } folder && !request.ToFolder && !Directory.Exists(folder))
            throw new BadRequestException($"{folder}: there is no such folder");
    }

    private static List<string> NotesOn(Checkpoint checkpoint)
    {
        var notes = new List<string>();
        string[] quantized =
        [
            .. checkpoint.Tensors.Where(tensor => tensor.Role is not null && WeightFormat.TryParse(tensor.TypeName, out WeightType type) && WeightFormat.IsQuantized(type))
                .Select(tensor => tensor.TypeName).Distinct(),
        ];
        if (quantized.Length > 0)
            notes.Add($"the input is quantised already ({string.Join(", ", quantized)}): its errors stay; convert from the BF16 model where there is one");
        int setAside = checkpoint.Tensors.Count(tensor => tensor.Role is null);
        if (setAside > 0)
            notes.Add($"{setAside} tensors that the text model does not use ({(checkpoint.Tensors.Any(tensor => tensor.IsVision) ? "vision" : "unknown")}) are left out");
        if (checkpoint.LoadTokenizer() is null)
            notes.Add("the input has no tokenizer, so the output has none");
        return notes;
    }

    // Also refuses a matrix of another model.
    private List<string> NotesOnImportance()
    {
        if (_request.Importance is not { } importance)
        {
            int lossy = Tensors.Count(tensor => tensor.Type is WeightType.IQ2_S or WeightType.IQ3_XXS or WeightType.IQ3_S);
            return lossy == 0 || _request.ImportanceFollows
                ? []
                : [$"{lossy} matrices take types (IQ2_S, IQ3_XXS, IQ3_S) that lose much less when the encoder knows which columns matter: --importance FILE or --calibrate TEXT"];
        }

        List<PlannedTensor> weighed = [.. Tensors.Where(tensor => WeightFormat.IsQuantized(tensor.Type))];
        int known = weighed.Count(tensor => importance.Find(tensor.Name, tensor.ColumnCount, 0, tensor.Sources.Count) is not null);
        if (known == 0 && weighed.Count > 0)
            throw new BadRequestException($"the importance matrix names none of the {weighed.Count} matrices to quantise; it is of another model");
        int blind = weighed.Count(tensor => ConversionPlan.NeedsImportance(tensor.Type) && importance.Find(tensor.Name, tensor.ColumnCount, 0, tensor.Sources.Count) is null);
        if (blind > 0)
            return [$"the importance matrix has nothing on {weighed.Count - known} of {weighed.Count} matrices, of which {blind} take two-bit types and will lose much; their columns count alike"];
        return known == weighed.Count ? [] : [$"the importance matrix has nothing on {weighed.Count - known} of {weighed.Count} matrices (embeddings are looked up, not multiplied); their columns count alike"];
    }
}
