namespace Qian.Inference.Formats;

// One pair of tensors of an open adapter, as it stands there. `Layer` is AdapterNames.MtpLayer where only the model can tell.
internal sealed record AdapterEntry(string Name, TensorRole Role, int Layer, double Alpha, TensorSource A, TensorSource B)
{
    public int Rank => A.RowCount;
}

// An open adapter of either format: headers read and every pair checked for itself. Only Read, which knows the model, checks
// shapes against it, turns GGUF's order of the value heads into Hugging Face's and decodes the values.
internal sealed class AdapterFile : IDisposable
{
    // Far beyond what is used (8 to 256); bounds what the network sets aside for A x.
    public const int MostRank = 8192;

    private readonly IDisposable _tensors;

    public AdapterFile(string path, IDisposable tensors)
    {
        Path = path;
        _tensors = tensors;
    }

    public string Path { get; }

    public required string Name { get; init; }

    public required bool IsGguf { get; init; }

    public required bool UsesRsLora { get; init; }

    // A GGUF's general.architecture; a PEFT folder names none.
    public string? Architecture { get; init; }

    public string? BaseModel { get; init; }

    public required IReadOnlyList<AdapterEntry> Entries { get; init; }

    // Pairs of the vision tower, which the text model does not use.
    public int VisionCount { get; init; }

    // A folder with adapter_config.json, or a GGUF file whose type is adapter.
    public static bool Recognises(string path)
    {
        if (Directory.Exists(path))
            return File.Exists(System.IO.Path.Combine(path, PeftAdapter.ConfigName));
        if (!File.Exists(path) || !System.IO.Path.GetExtension(path).Equals(".gguf", StringComparison.OrdinalIgnoreCase))
            return false;
        using GgufFile file = GgufFile.Open(path);
        return GgufAdapter.IsAdapter(file);
    }

    public static AdapterFile Open(string path)
    {
        if (Directory.Exists(path))
            return PeftAdapter.Open(path);
        return File.Exists(path)
            ? GgufAdapter.Open(path)
            : throw new BadModelFileException($"{path}: no such file or folder. Name a PEFT folder ({PeftAdapter.ConfigName} and {PeftAdapter.WeightsName}) or a .gguf adapter.");
    }

    // The values, for the model of `config`. What belongs to an MTP head that the model lacks is left out: it changes no text.
    public AdapterWeights Read(ModelConfig config)
    {
        if (Architecture is not null && Architecture != config.Architecture)
            throw new BadModelFileException($"{Path}: key 'general.architecture': expected {FileText.Quote(config.Architecture)} as the model's, found {FileText.Quote(Architecture)}; the adapter is for another model.");
        var targets = new List<AdapterTarget>();
        var places = new HashSet<(TensorRole, int)>();
        foreach (AdapterEntry entry in Entries)
        {
            // GGUF counts the MTP block as one more layer; PEFT names it.
            bool isMtp = entry.Layer == AdapterNames.MtpLayer || (IsGguf && entry.Layer == config.LayerCount);
            if (isMtp && config.MtpLayerCount == 0)
                continue;
            int layer = isMtp ? config.LayerCount : entry.Layer;
            if (layer >= config.LayerCount && !isMtp)
                throw Wrong(entry, $"layer {layer}, but the model has {config.LayerCount} layers; the adapter is for another model");
            Check(config, entry, layer);
            if (!places.Add((entry.Role, layer)))
                throw Wrong(entry, "the adapter has this projection twice");
            var target = new AdapterTarget(entry.Role, layer, entry.Rank, entry.Alpha, Values(entry.A), Values(entry.B));
            targets.Add(IsGguf ? AdapterOrder.ToHuggingFace(config, target) : target);
        }

        if (targets.Count == 0)
            throw new BadModelFileException($"{Path}: the adapter changes nothing that this model has.");
        return new AdapterWeights { Name = Name, BaseModel = BaseModel, UsesRsLora = UsesRsLora, Targets = [.. targets.OrderBy(target => (target.Layer, target.Role))] };
    }

    public void Dispose() => _tensors.Dispose();

    private void Check(ModelConfig config, AdapterEntry entry, int layer)
    {
        if (entry.Role == TensorRole.Output && config.TiedEmbeddings)
            throw Wrong(entry, "the model's head is its embedding (tied), which adapters cannot change apart from it");
        if (!TensorShapes.Occurs(config, entry.Role, layer))
        {
            string kind = layer < config.LayerCount && !config.FullAttentionLayers[layer] ? "a Gated DeltaNet layer" : "a gated attention layer";
            throw Wrong(entry, $"layer {layer} is {kind} of {(config.IsMoe ? "a mixture of experts" : "a dense model")} and has no such projection; the adapter is for another model");
        }

        (int rows, int columns) = TensorShapes.Of(config, entry.Role);
        if (entry.A.ColumnCount != columns)
            throw new BadModelFileException($"{Path}: tensor {FileText.Quote(entry.A.Name)}: expected [{entry.Rank}, {columns}] by the model's configuration, found [{entry.Rank}, {entry.A.ColumnCount}]; the adapter is for another model.");
        if (entry.B.RowCount != rows)
            throw new BadModelFileException($"{Path}: tensor {FileText.Quote(entry.B.Name)}: expected [{rows}, {entry.Rank}] by the model's configuration, found [{entry.B.RowCount}, {entry.Rank}]; the adapter is for another model.");
    }

    private BadModelFileException Wrong(AdapterEntry entry, string what) => new($"{Path}: tensor {FileText.Quote(entry.A.Name)}: {what}.");

    private float[] Values(TensorSource source)
    {
        long count = (long)source.RowCount * source.ColumnCount;
        if (count > Array.MaxLength)
            throw new BadModelFileException($"{Path}: tensor {FileText.Quote(source.Name)}: {count} values are more than one matrix of an adapter may have.");
        var values = new float[count];
        source.DecodeRows(0, source.RowCount, values);
        return values;
    }
}
