using Qian.Kernels;

namespace Qian.Inference.Formats;

// A GGUF model as llama.cpp's converter lays it out: norms hold 1 + w, ssm_a holds -exp(A_log), value heads are re-ordered.
// The MTP block is the last of the file, absent, or in a file of its own.
internal sealed class GgufCheckpoint : Checkpoint
{
    private readonly GgufFile _file;
    private readonly GgufFile? _mtpFile;
    private readonly int _mtpBlock;      // its number in the file that holds it

    private GgufCheckpoint(GgufFile file, GgufFile? mtpFile)
        : base(file.Path)
    {
        _file = file;
        _mtpFile = mtpFile;
        if (GgufAdapter.IsAdapter(file))
            throw new BadModelFileException($"{file.Path}: this is a LoRA adapter; open the model that it was trained on, and give this file as the adapter.");
        ModelConfig config = GgufConfig.Read(file);
        if (config.Name.Length == 0)
            config = config with { Name = System.IO.Path.GetFileNameWithoutExtension(file.Path) };
        if (mtpFile is null && HoldsOnlyMtp(file, config))
            throw new BadModelFileException($"{file.Path}: this file holds only an MTP head; open the main file of the model (this one is found beside it as mtp-NAME, or given as the MTP file).");
        _mtpBlock = config.LayerCount;
        if (mtpFile is not null)
        {
            _mtpBlock = (int)mtpFile.Integer($"{config.Architecture}.block_count", 1, ModelConfigChecks.MostLayers) - 1;
            config = config with { MtpLayerCount = 1 };
        }

        Config = config;
        if (config.MtpLayerCount > 0 && FindTensor(TensorRole.MtpProjection, config.LayerCount) is null)
        {
            if (mtpFile is not null)
                throw mtpFile.MissingTensor(Spelling(TensorRole.MtpProjection, config.LayerCount, -1));
            Config = config with { MtpLayerCount = 0 };
        }

        ChatTemplate = file.OptionalText("tokenizer.chat_template");
        Generation = ReadDefaults(file);
        Tensors = Summarise();
    }

    public override ModelConfig Config { get; }

    public override string? ChatTemplate { get; }

    public override GenerationDefaults Generation { get; }

    public override IReadOnlyList<TensorSummary> Tensors { get; }

    public override IEnumerable<(string Path, ByteView Header)> Files =>
        _file.Parts.Concat(_mtpFile?.Parts ?? []).Select(part => (part.Path, part.Header));

    public IReadOnlyDictionary<string, GgufValue> Metadata => _file.Metadata;

    public static new GgufCheckpoint Open(string path, string? mtpPath)
    {
        GgufFile file = GgufFile.Open(path);
        GgufFile? mtpFile = null;
        try
        {
            string beside = System.IO.Path.Combine(System.IO.Path.GetDirectoryName(System.IO.Path.GetFullPath(path))!, "mtp-" + System.IO.Path.GetFileName(path));
            if (mtpPath is not null || File.Exists(beside))
                mtpFile = GgufFile.Open(mtpPath ?? beside);
            return new GgufCheckpoint(file, mtpFile);
        }
        catch
        {
            mtpFile?.Dispose();
            file.Dispose();
            throw;
        }
    }

    public override TensorSource? Find(TensorRole role, int layer = -1, int expert = -1)
    {
        if (!TensorShapes.Occurs(Config, role, layer))
            return null;
        if (FindTensor(role, layer) is not { } tensor)
            return TensorShapes.IsExpert(role) ? FindFusedExpert(role, layer, expert) : null;
        if (TensorShapes.IsExpert(role))
            return Expert(tensor, role, layer, expert, firstRow: (long)expert * TensorShapes.Of(Config, role).Rows, rowsInAll: (long)Config.ExpertCount * TensorShapes.Of(Config, role).Rows);
        // A vector has one axis, which is its one row here; the convolution keeps its taps as columns.
        CheckShape(tensor.Name, role, tensor.RowCount, tensor.ColumnCount);
        return Scaled(tensor, Source(tensor), layer, matrix: 0, matrixCount: 1);
    }

    public override TokenizerSpec? LoadTokenizer()
    {
        const string prefix = "tokenizer.ggml.";
        if (!_file.Has(prefix + "tokens"))
            return null;
        if (_file.OptionalText(prefix + "model") is { } model && model != "gpt2")
            throw _file.Wrong(prefix + "model", "'gpt2' (byte-level BPE)", _file.Metadata[prefix + "model"]);
        string[] tokens = Strings(prefix + "tokens");
        int[]? types = _file.OptionalIntegers(prefix + "token_type", ModelConfigChecks.MostVocabulary) is { } stored ? Array.ConvertAll(stored, type => (int)Math.Clamp(type, int.MinValue, int.MaxValue)) : null;
        return TokenizerSpec.FromGguf(
            tokens, types, Strings(prefix + "merges"), _file.OptionalText(prefix + "pre") ?? "qwen35",
            Id(prefix + "eos_token_id", tokens.Length), Id(prefix + "padding_token_id", tokens.Length), Id(prefix + "bos_token_id", tokens.Length));
    }

    public override void Dispose()
    {
        _mtpFile?.Dispose();
        _file.Dispose();
    }

    protected override string Spelling(TensorRole role, int layer, int expert) => TensorNames.Gguf(role, layer == Config.LayerCount ? _mtpBlock : layer);

    private static GenerationDefaults ReadDefaults(GgufFile file)
    {
        var ids = new List<int>();
        foreach (string key in (ReadOnlySpan<string>)["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"])
        {
            if (file.OptionalInteger(key, 0, ModelConfigChecks.MostVocabulary) is { } id)
                ids.Add((int)id);
        }

        const string p = GgufMetadata.SamplingPrefix;
        var sampling = new SamplingOptions
        {
            Temperature = (float?)file.OptionalNumber(p + "temp", 0, 100),
            TopK = (int?)file.OptionalInteger(p + "top_k", 0, int.MaxValue),
            TopP = (float?)file.OptionalNumber(p + "top_p", 0, 1),
            MinP = (float?)file.OptionalNumber(p + "min_p", 0, 1),
            RepetitionPenalty = (float?)file.OptionalNumber(p + "penalty_repeat", 0.01, 100),
        };
        return new GenerationDefaults(ids, sampling == new SamplingOptions() ? null : sampling);
    }

    // Such a file repeats embedding and head beside its one block.
    private static bool HoldsOnlyMtp(GgufFile file, ModelConfig config) =>
        config.MtpLayerCount > 0 && file.Find(TensorNames.Gguf(TensorRole.InputNorm, 0)) is null && file.Find(TensorNames.Gguf(TensorRole.MtpProjection, config.LayerCount)) is not null;

    private GgufFile FileOf(int layer) => layer == Config.LayerCount && _mtpFile is not null ? _mtpFile : _file;

    private GgufTensor? FindTensor(TensorRole role, int layer) => FileOf(layer).Find(Spelling(role, layer, -1));

    // Gate and up rows of all experts in one tensor: per expert gate rows first.
    private TensorSource? FindFusedExpert(TensorRole role, int layer, int expert)
    {
        if (role == TensorRole.ExpertDown || FileOf(layer).Find(TensorNames.GgufFusedExperts(layer == Config.LayerCount ? _mtpBlock : layer)) is not { } tensor)
            return null;
        int rows = TensorShapes.Of(Config, role).Rows;
        long first = 2L * expert * rows + (role == TensorRole.ExpertUp ? rows : 0);
        return Expert(tensor, role, layer, expert, first, 2L * Config.ExpertCount * rows);
    }

    private TensorSource Expert(GgufTensor tensor, TensorRole role, int layer, int expert, long firstRow, long rowsInAll)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(expert);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(expert, Config.ExpertCount);
        (int rows, int columns) = TensorShapes.Of(Config, role);
        if (tensor.RowCount != rowsInAll || tensor.ColumnCount != columns)
            throw new BadModelFileException($"{Path}: tensor {FileText.Quote(tensor.Name)}: expected {rowsInAll} rows of {columns} for {Config.ExpertCount} experts, found {tensor.RowCount} rows of {tensor.ColumnCount}.");
        return new RowSlice(Scaled(tensor, Source(tensor), layer, expert, Config.ExpertCount), (int)firstRow) { Name = tensor.Name, RowCount = rows, ColumnCount = columns };
    }

    private static StoredTensor Source(GgufTensor tensor) => new(tensor.Type, tensor.Data) { Name = tensor.Name, RowCount = tensor.RowCount, ColumnCount = tensor.ColumnCount };

    // NVFP4 keeps one more factor per matrix in a tensor beside the weight.
    private TensorSource Scaled(GgufTensor tensor, StoredTensor source, int layer, int matrix, int matrixCount)
    {
        if (tensor.Type != WeightType.NVFP4 || FileOf(layer).Find(FactorName(tensor.Name)) is not { } stored)
            return source;
        if (stored.Type != WeightType.F32 || stored.RowCount != 1 || stored.ColumnCount != matrixCount)
            throw new BadModelFileException($"{Path}: tensor {FileText.Quote(stored.Name)}: expected F32 [{matrixCount}], one factor per matrix, found {WeightFormat.Name(stored.Type)} {FileText.Shape(stored.Sizes)}.");
        var factors = new float[matrixCount];
        Source(stored).DecodeRows(0, 1, factors);
        float factor = factors[matrix];
        if (!float.IsFinite(factor))
            throw new BadModelFileException($"{Path}: tensor {FileText.Quote(stored.Name)}: a factor of {factor}; the file is damaged.");
        return new ScaledTensor(source, factor) { Name = source.Name, RowCount = source.RowCount, ColumnCount = source.ColumnCount };
    }

    private static string FactorName(string name) => name.EndsWith(".weight", StringComparison.Ordinal) ? name[..^"weight".Length] + "scale" : name + ".scale";

    private List<TensorSummary> Summarise()
    {
        var roles = new Dictionary<string, TensorRole>(StringComparer.Ordinal);
        foreach (TensorRole role in Enum.GetValues<TensorRole>())
        {
            for (int layer = -1; layer < Config.LayerCount + Config.MtpLayerCount; layer++)
            {
                if (!TensorShapes.Occurs(Config, role, layer))
                    continue;
                roles[Spelling(role, layer, -1)] = role;
                roles[FactorName(Spelling(role, layer, -1))] = role;
                if (role == TensorRole.ExpertGate)
                    roles[TensorNames.GgufFusedExperts(layer == Config.LayerCount ? _mtpBlock : layer)] = role;
            }
        }

        var summaries = new List<TensorSummary>();
        foreach (GgufFile file in _mtpFile is null ? [_file] : (GgufFile[])[_file, _mtpFile])
        {
            foreach (GgufTensor tensor in file.Tensors)
            {
                long[] shape = tensor.Sizes.ToArray();
                Array.Reverse(shape);
                TensorRole? role = roles.TryGetValue(tensor.Name, out TensorRole known) ? known : null;
                summaries.Add(new TensorSummary(tensor.Name, shape, WeightFormat.Name(tensor.Type), tensor.ByteCount, role, TensorNames.IsVision(tensor.Name)));
            }
        }

        return summaries;
    }

    private string[] Strings(string key)
    {
        GgufValue value = _file.OptionalStrings(key) ?? throw _file.Missing(key);
        if (value.Count > ModelConfigChecks.MostVocabulary)
            throw _file.Wrong(key, $"at most {ModelConfigChecks.MostVocabulary} strings", value);
        var strings = new string[value.Count];
        for (int i = 0; i < strings.Length; i++)
            strings[i] = value.StringAt(i);
        return strings;
    }

    private int? Id(string key, int count) => (int?)_file.OptionalInteger(key, 0, count - 1);
}
