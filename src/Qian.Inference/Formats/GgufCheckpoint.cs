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
        ModelConfig config = GgufConfig.Read(file);
        if (config.Name.Length == 0)
            config = config with { Name = System.IO.Path.GetFileNameWithoutExtension(file.Path) };
        _mtpBlock = config.LayerCount;
        if (mtpFile is not null)
        {
            _mtpBlock = (int)mtpFile.Integer($"{config.Architecture}.block_count", 1, ModelConfigChecks.MostLayers) - 1;
            config = config with { MtpLayerCount = 1 };
        }

        Config = config;
        if (config.MtpLayerCount > 0 && FindTensor(TensorRole.MtpProjection, config.LayerCount) is null)
            Config = config with { MtpLayerCount = 0 };
        ChatTemplate = file.OptionalText("tokenizer.chat_template");
        Generation = ReadDefaults(file);
        Tensors = Summarise();
    }

    public override ModelConfig Config { get; }

    public override string? ChatTemplate { get; }

    public override GenerationDefaults Generation { get; }

    public override IReadOnlyList<TensorSummary> Tensors { get; }

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
        if (!TensorShapes.Occurs(Config, role, layer) || FindTensor(role, layer) is not { } tensor)
            return TensorShapes.IsExpert(role) ? FindFusedExpert(role, layer, expert) : null;
        if (TensorShapes.IsExpert(role))
            return Expert(tensor, role, expert, firstRow: (long)expert * TensorShapes.Of(Config, role).Rows, rowsInAll: (long)Config.ExpertCount * TensorShapes.Of(Config, role).Rows);
        // A vector has one axis, which is its one row here; the convolution keeps its taps as columns.
        CheckShape(tensor.Name, role, tensor.RowCount, tensor.ColumnCount);
        return Scaled(tensor, Source(tensor));
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

        return new GenerationDefaults(ids, null);
    }

    private GgufTensor? FindTensor(TensorRole role, int layer)
    {
        string name = Spelling(role, layer, -1);
        return layer == Config.LayerCount && _mtpFile is not null ? _mtpFile.Find(name) : _file.Find(name);
    }

    // Gate and up rows of all experts in one tensor: per expert gate rows first.
    private TensorSource? FindFusedExpert(TensorRole role, int layer, int expert)
    {
        if (role == TensorRole.ExpertDown || _file.Find(TensorNames.GgufFusedExperts(layer)) is not { } tensor)
            return null;
        int rows = TensorShapes.Of(Config, role).Rows;
        long first = 2L * expert * rows + (role == TensorRole.ExpertUp ? rows : 0);
        return Expert(tensor, role, expert, first, 2L * Config.ExpertCount * rows);
    }

    private TensorSource Expert(GgufTensor tensor, TensorRole role, int expert, long firstRow, long rowsInAll)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(expert);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(expert, Config.ExpertCount);
        (int rows, int columns) = TensorShapes.Of(Config, role);
        if (tensor.RowCount != rowsInAll || tensor.ColumnCount != columns)
            throw new BadModelFileException($"{Path}: tensor {FileText.Quote(tensor.Name)}: expected {rowsInAll} rows of {columns} for {Config.ExpertCount} experts, found {tensor.RowCount} rows of {tensor.ColumnCount}.");
        return new RowSlice(Scaled(tensor, Source(tensor)), (int)firstRow) { Name = tensor.Name, RowCount = rows, ColumnCount = columns };
    }

    private static StoredTensor Source(GgufTensor tensor) => new(tensor.Type, tensor.Data) { Name = tensor.Name, RowCount = tensor.RowCount, ColumnCount = tensor.ColumnCount };

    // NVFP4 keeps one more factor in a tensor beside the weight.
    private TensorSource Scaled(GgufTensor tensor, StoredTensor source)
    {
        if (tensor.Type != WeightType.NVFP4 || !tensor.Name.EndsWith(".weight", StringComparison.Ordinal))
            return source;
        if (_file.Find(tensor.Name[..^"weight".Length] + "scale") is not { } stored)
            return source;
        if (stored.Type != WeightType.F32 || stored.RowCount * (long)stored.ColumnCount != 1)
            throw new BadModelFileException($"{Path}: tensor {FileText.Quote(stored.Name)}: expected one F32 value, found {WeightFormat.Name(stored.Type)} {FileText.Shape(stored.Sizes)}.");
        var scale = new float[1];
        Source(stored).DecodeRows(0, 1, scale);
        return new MappedTensor(source, value => value * scale[0]) { Name = source.Name, RowCount = source.RowCount, ColumnCount = source.ColumnCount };
    }

    private List<TensorSummary> Summarise()
    {
        var roles = new Dictionary<string, TensorRole>(StringComparer.Ordinal);
        foreach (TensorRole role in Enum.GetValues<TensorRole>())
        {
            for (int layer = -1; layer < Config.LayerCount + Config.MtpLayerCount; layer++)
            {
                if (TensorShapes.Occurs(Config, role, layer))
                    roles[Spelling(role, layer, -1)] = role;
                if (role == TensorRole.ExpertGate && layer >= 0)
                    roles[TensorNames.GgufFusedExperts(layer)] = role;
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
