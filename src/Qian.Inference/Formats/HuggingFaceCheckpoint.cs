using System.Runtime.InteropServices;
using System.Text.Json;
using Qian.Kernels;

namespace Qian.Inference.Formats;

// A Hugging Face folder: config.json, safetensors, tokenizer files, template. Norms are stored as w and handed out as 1 + w,
// A_log as -exp(A_log), the convolution without its middle axis, experts one by one whichever way they are stored.
internal sealed class HuggingFaceCheckpoint : Checkpoint
{
    private const long LongestTemplate = 16 << 20;

    private readonly SafetensorsSet _set;
    private readonly PackedMatrices _matrices;
    private readonly HuggingFaceModel _model;
    private readonly string _prefix;

    public HuggingFaceCheckpoint(string folder)
        : base(folder)
    {
        string name = System.IO.Path.GetFileName(System.IO.Path.TrimEndingDirectorySeparator(System.IO.Path.GetFullPath(folder)));
        _model = HuggingFaceConfig.Read(System.IO.Path.Combine(folder, "config.json"), name);
        Generation = ReadDefaults(folder, _model);
        ChatTemplate = ReadTemplate(folder);
        _set = SafetensorsSet.OpenFolder(folder);
        _matrices = new PackedMatrices(_set, _model.Quantization, folder);
        try
        {
            _prefix = Array.Find(TensorNames.HuggingFacePrefixes, prefix => _matrices.Find(prefix + TensorNames.HuggingFaceSuffix(TensorRole.TokenEmbedding)) is not null)
                ?? throw new BadModelFileException($"{folder}: no tensor '…embed_tokens.weight' under any known prefix; these are not the weights of a text model.");
            bool hasMtp = _matrices.Find("mtp." + TensorNames.HuggingFaceSuffix(TensorRole.MtpProjection)) is not null;
            Config = hasMtp ? _model.Config : _model.Config with { MtpLayerCount = 0 };
            Tensors = Summarise();
        }
        catch
        {
            _set.Dispose();
            throw;
        }
    }

    public override ModelConfig Config { get; }

    public override string? ChatTemplate { get; }

    public override GenerationDefaults Generation { get; }

    public override string? Quantization => _model.Quantization.Describe();

    public override IReadOnlyList<TensorSummary> Tensors { get; }

    public override IEnumerable<(string Path, ByteView Header)> Files => _set.Files.Select(file => (file.Path, file.Header));

    public override TensorSource? Find(TensorRole role, int layer = -1, int expert = -1)
    {
        if (!TensorShapes.Occurs(Config, role, layer))
            return null;
        if (TensorShapes.IsExpert(role))
            return Expert(role, layer, expert);
        string name = Name(role, layer);
        if (_matrices.Find(name) is not { } tensor)
            return null;
        TensorSource source = Source(tensor, role);
        Func<float, float>? map = TensorShapes.IsZeroCentredNorm(role) ? w => 1 + w : role == TensorRole.LinearDecay ? a => -MathF.Exp(a) : null;
        return map is null ? source : new MappedTensor(source, map) { Name = name, RowCount = source.RowCount, ColumnCount = source.ColumnCount };
    }

    public override TokenizerSpec? LoadTokenizer()
    {
        bool hasTokenizer = File.Exists(System.IO.Path.Combine(Path, "tokenizer.json")) || File.Exists(System.IO.Path.Combine(Path, "vocab.json"));
        return hasTokenizer ? HuggingFaceTokenizer.ReadFolder(Path, Config.VocabularySize) : null;
    }

    public override void Dispose() => _set.Dispose();

    protected override string Spelling(TensorRole role, int layer, int expert)
    {
        string name = Name(role, layer);
        return TensorShapes.IsExpert(role) && _matrices.Find(OwnExpert(role, name, 0)) is not null ? OwnExpert(role, name, expert) : name;
    }

    // For the experts: of the tensor that holds them all.
    private string Name(TensorRole role, int layer)
    {
        string suffix = TensorNames.HuggingFaceSuffix(role);
        if (role == TensorRole.Output)
            return _matrices.Find(suffix) is null && _matrices.Find("language_model." + suffix) is not null ? "language_model." + suffix : suffix;
        if (TensorShapes.IsLayerless(role))
            return _prefix + suffix;
        if (TensorShapes.IsMtp(role))
            return "mtp." + suffix;
        return layer == Config.LayerCount ? $"mtp.layers.0.{suffix}" : $"{_prefix}layers.{layer}.{suffix}";
    }

    // All experts in one tensor, gate rows before up rows, or every expert in tensors of its own.
    private TensorSource? Expert(TensorRole role, int layer, int expert)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(expert);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(expert, Config.ExpertCount);
        string fusedName = Name(role, layer);
        (int rows, int columns) = TensorShapes.Of(Config, role);
        if (_set.Find(fusedName) is not { } fused)
        {
            return _matrices.Find(OwnExpert(role, fusedName, expert)) is { } own ? Source(own, role) : null;
        }

        int perExpert = role == TensorRole.ExpertDown ? rows : 2 * rows;
        long[] expected = [Config.ExpertCount, perExpert, columns];
        if (!fused.Sizes.SequenceEqual(expected))
            throw new BadModelFileException($"{Path}: tensor {FileText.Quote(fusedName)}: expected {FileText.Shape(expected)}, found {FileText.Shape(fused.Sizes)}.");
        TensorSource all = Stored(fused, Config.ExpertCount * perExpert, columns);
        int first = expert * perExpert + (role == TensorRole.ExpertUp ? rows : 0);
        return new RowSlice(all, first) { Name = fusedName, RowCount = rows, ColumnCount = columns };
    }

    // The spelling of one expert's own tensor, from that of the one for all.
    private static string OwnExpert(TensorRole role, string fusedName, int expert) =>
        fusedName[..^TensorNames.HuggingFaceSuffix(role).Length] + TensorNames.HuggingFaceExpertSuffix(role, expert);

    private TensorSource Source(SafetensorsTensor tensor, TensorRole role)
    {
        (int rows, int columns) = TensorShapes.Of(Config, role);
        if (PackedMatrices.IsPacked(tensor))
            return _matrices.Open(tensor, rows, columns);
        ReadOnlySpan<long> sizes = tensor.Sizes;
        bool fits = role == TensorRole.LinearConv
            ? sizes.Length == 3 && sizes[0] == rows && sizes[1] == 1 && sizes[2] == columns
            : sizes.Length == 2 ? sizes[0] == rows && sizes[1] == columns : sizes.Length == 1 && rows == 1 && sizes[0] == columns;
        if (!fits)
            throw new BadModelFileException($"{Path}: tensor {FileText.Quote(tensor.Name)}: expected [{rows}, {columns}] by config.json, found {FileText.Shape(sizes)}.");
        return Stored(tensor, rows, columns);
    }

    private TensorSource Stored(SafetensorsTensor tensor, int rows, int columns) => tensor.Type.AsWeightType() is { } type
        ? new StoredTensor(type, tensor.Data) { Name = tensor.Name, RowCount = rows, ColumnCount = columns }
        : _matrices.Open(tensor, rows, columns);

    private List<TensorSummary> Summarise()
    {
        var roles = new Dictionary<string, TensorRole>(StringComparer.Ordinal);
        foreach (TensorRole role in Enum.GetValues<TensorRole>())
        {
            for (int layer = -1; layer < Config.LayerCount + Config.MtpLayerCount; layer++)
            {
                if (!TensorShapes.Occurs(Config, role, layer))
                    continue;
                string name = Name(role, layer);
                roles[name] = role;
                // Only as far as the file goes: config.json may claim any number of experts.
                for (int expert = 0; TensorShapes.IsExpert(role) && expert < Config.ExpertCount && _matrices.Find(OwnExpert(role, name, expert)) is not null; expert++)
                    roles[OwnExpert(role, name, expert)] = role;
            }
        }

        return
        [
            .. _set.Tensors.Select(tensor => new TensorSummary(
                tensor.Name, tensor.Sizes.ToArray(), tensor.Type.Name(), tensor.Data.Length,
                RoleOf(tensor.Name), TensorNames.IsVision(tensor.Name))
            { ParameterCount = PackedMatrices.ParameterCount(tensor) }),
        ];

        // Multipliers and zero points belong to their weight.
        TensorRole? RoleOf(string name)
        {
            if (roles.TryGetValue(PackedMatrices.WeightOf(name), out TensorRole owner))
                return owner;
            foreach (string ending in (ReadOnlySpan<string>)["", "_scale_inv", "_scale"])
            {
                if (name.EndsWith(ending, StringComparison.Ordinal) && roles.TryGetValue(name[..^ending.Length], out TensorRole role))
                    return role;
            }

            return null;
        }
    }

    // chat_template.jinja, or the one inside tokenizer_config.json.
    private static string? ReadTemplate(string folder)
    {
        string own = System.IO.Path.Combine(folder, "chat_template.jinja");
        if (File.Exists(own))
        {
            if (new FileInfo(own).Length > LongestTemplate)
                throw new BadModelFileException($"{own}: longer than {LongestTemplate} bytes; this is not a chat template.");
            return File.ReadAllText(own);
        }

        string config = System.IO.Path.Combine(folder, "tokenizer_config.json");
        if (!File.Exists(config))
            return null;
        using JsonDocument document = JsonSection.Load(config, LongestTemplate);
        return JsonSection.Root(document, config).Raw("chat_template") switch
        {
            { ValueKind: JsonValueKind.String } template => JsonSection.TextOrNull(template),
            { ValueKind: JsonValueKind.Array } named => DefaultOf(named),
            _ => null,
        };
    }

    // Some files keep several: [{"name": "default", "template": "…"}, …].
    private static string? DefaultOf(JsonElement named)
    {
        foreach (JsonElement entry in named.EnumerateArray())
        {
            if (entry.ValueKind == JsonValueKind.Object && entry.TryGetProperty("name", out JsonElement name) && name.ValueKind == JsonValueKind.String && JsonSection.TextOrNull(name) == "default"
                && entry.TryGetProperty("template", out JsonElement template) && template.ValueKind == JsonValueKind.String)
                return JsonSection.TextOrNull(template);
        }

        return null;
    }

    private static GenerationDefaults ReadDefaults(string folder, HuggingFaceModel model)
    {
        string path = System.IO.Path.Combine(folder, "generation_config.json");
        if (!File.Exists(path))
            return new GenerationDefaults(model.EosTokenIds, null);
        using JsonDocument document = JsonSection.Load(path, LongestTemplate);
        JsonSection root = JsonSection.Root(document, path);
        bool samples = root.OptionalBool("do_sample") ?? true;
        var sampling = new SamplingOptions
        {
            Temperature = samples ? (float?)root.OptionalNumber("temperature", 0, 100) : 0,
            TopK = root.OptionalInteger("top_k", 0, int.MaxValue),
            TopP = (float?)root.OptionalNumber("top_p", 0, 1),
            MinP = (float?)root.OptionalNumber("min_p", 0, 1),
            RepetitionPenalty = (float?)root.OptionalNumber("repetition_penalty", 0.01, 100),
        };
        return new GenerationDefaults(HuggingFaceConfig.Ids(root, "eos_token_id") ?? model.EosTokenIds, sampling);
    }
}
