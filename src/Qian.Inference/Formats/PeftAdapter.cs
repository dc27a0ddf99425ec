using System.Text.Json;
using System.Text.RegularExpressions;
using Qian.Kernels;

namespace Qian.Inference.Formats;

// An adapter folder of Hugging Face's PEFT: adapter_config.json beside adapter_model.safetensors, whose tensors are named after
// the base's modules. Where a field may be absent the default is PEFT's. What would change the arithmetic beyond a low-rank
// product (DoRA, biases, whole saved modules, a changed base, …) is refused rather than ignored.
internal static class PeftAdapter
{
    public const string ConfigName = "adapter_config.json";
    public const string WeightsName = "adapter_model.safetensors";
    public const string Root = "base_model.model.";

    private const long LongestConfig = 16 << 20;
    private const int MostPatterns = 10_000;
    private const int LongestPattern = 4096;

    // Ways to begin training that change the base's own weights, so that the pair alone is not the adapter.
    private static readonly string[] s_baseChanging = ["pissa", "olora", "corda", "loftq"];

    public static AdapterFile Open(string folder)
    {
        string weights = Path.Combine(folder, WeightsName);
        if (!File.Exists(weights))
        {
            string hint = File.Exists(Path.Combine(folder, "adapter_model.bin")) ? "; adapter_model.bin is a pickle, which can run code: save the adapter again as safetensors" : "";
            throw new BadModelFileException($"{weights}: the adapter's weights are missing{hint}.");
        }

        PeftConfig config = ReadConfig(Path.Combine(folder, ConfigName));
        SafetensorsFile file = SafetensorsFile.Open(weights);
        try
        {
            (List<AdapterEntry> entries, int visionCount) = Entries(file, config);
            if (entries.Count == 0)
                throw new BadModelFileException($"{weights}: no tensor of a low-rank pair ({Root}….lora_A.weight) in {file.Tensors.Count} tensors.");
            return new AdapterFile(folder, file)
            {
                Name = Path.GetFileName(Path.TrimEndingDirectorySeparator(Path.GetFullPath(folder))),
                IsGguf = false,
                UsesRsLora = config.UsesRsLora,
                BaseModel = config.BaseModel,
                Entries = entries,
                VisionCount = visionCount,
            };
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    private static PeftConfig ReadConfig(string path)
    {
        if (!File.Exists(path))
            throw new BadModelFileException($"{path}: missing; a PEFT folder has it beside {WeightsName}.");
        using JsonDocument document = JsonSection.Load(path, LongestConfig);
        JsonSection root = JsonSection.Root(document, path);
        string peftType = root.OptionalText("peft_type") ?? throw root.Missing("peft_type");
        if (peftType != "LORA")
            throw root.Wrong("peft_type", "'LORA', the only kind of adapter that is supported", FileText.Quote(peftType));
        foreach (string name in (ReadOnlySpan<string>)["use_dora", "use_qalora", "lora_bias", "fan_in_fan_out"])
        {
            if (root.OptionalBool(name) ?? false)
                throw root.Wrong(name, "false (merge such an adapter into the model where it was trained)", "true");
        }

        if ((root.OptionalText("bias") ?? "none") is var bias && bias != "none")
            throw root.Wrong("bias", "'none': trained biases are not supported", FileText.Quote(bias));
        foreach (string name in (ReadOnlySpan<string>)["modules_to_save", "target_parameters", "layer_replication", "trainable_token_indices", "alora_invocation_tokens"])
        {
            if (root.Raw(name) is { } value && !IsEmpty(value))
                throw root.Wrong(name, "nothing: only low-rank pairs of linear projections are supported", FileText.Quote(value.GetRawText()));
        }

        if (root.Raw("init_lora_weights") is { ValueKind: JsonValueKind.String } element && JsonSection.TextOrNull(element) is { } start
            && Array.Exists(s_baseChanging, kind => start.StartsWith(kind, StringComparison.OrdinalIgnoreCase)))
            throw root.Wrong("init_lora_weights", "a start that leaves the base model as it is (save the adapter with path_initial_model_for_weight_conversion)", FileText.Quote(start));
        return new PeftConfig(
            path,
            root.OptionalInteger("r", 1, AdapterFile.MostRank) ?? 8,
            root.OptionalNumber("lora_alpha", -1e9, 1e9) ?? 8,
            root.OptionalBool("use_rslora") ?? false,
            root.OptionalText("base_model_name_or_path"),
            Patterns(root, "rank_pattern", (section, name) => section.Integer(name, 1, AdapterFile.MostRank)),
            Patterns(root, "alpha_pattern", (section, name) => section.OptionalNumber(name, -1e9, 1e9) ?? throw section.Missing(name)));
    }

    private static bool IsEmpty(JsonElement value) => value.ValueKind switch
    {
        JsonValueKind.Array => value.GetArrayLength() == 0,
        JsonValueKind.Object => value.GetPropertyCount() == 0,
        JsonValueKind.False => true,
        _ => false,
    };

    // Each key is a regular expression for the end of a module's path; matched in time linear in the path.
    private static List<PeftPattern> Patterns(JsonSection root, string name, Func<JsonSection, string, double> read)
    {
        var patterns = new List<PeftPattern>();
        if (root.OptionalSection(name) is not { } section)
            return patterns;
        foreach ((string key, _) in section.Fields())
        {
            if (key.Length > LongestPattern || patterns.Count == MostPatterns)
                throw root.Wrong(name, $"at most {MostPatterns} patterns of at most {LongestPattern} characters", "more");
            patterns.Add(new PeftPattern(key, read(section, key)));
        }

        return patterns;
    }

    private static (List<AdapterEntry> Entries, int VisionCount) Entries(SafetensorsFile file, PeftConfig config)
    {
        var pairs = new Dictionary<string, (SafetensorsTensor? A, SafetensorsTensor? B)>(StringComparer.Ordinal);
        var modules = new List<string>();
        foreach (SafetensorsTensor tensor in file.Tensors)
        {
            string name = tensor.Name.StartsWith(Root, StringComparison.Ordinal) ? tensor.Name[Root.Length..] : tensor.Name;
            if (!TrySplit(name, out string module, out bool isA))
                throw Wrong(file, tensor, AdapterNames.Refusal(name));
            (SafetensorsTensor? A, SafetensorsTensor? B) pair = pairs.GetValueOrDefault(module);
            if (pair is (null, null))
                modules.Add(module);
            if ((isA ? pair.A : pair.B) is { } other)
                throw Wrong(file, tensor, $"the same matrix as {FileText.Quote(other.Name)}");
            pairs[module] = isA ? (tensor, pair.B) : (pair.A, tensor);
        }

        var entries = new List<AdapterEntry>();
        int visionCount = 0;
        foreach (string module in modules)
        {
            (SafetensorsTensor? a, SafetensorsTensor? b) = pairs[module];
            if (a is null || b is null)
                throw Wrong(file, (a ?? b)!, $"lora_{(a is null ? 'A' : 'B')} of the same module is missing");
            if (TensorNames.IsVision(module))
                visionCount++;
            else if (AdapterNames.TryParseModule(module, out TensorRole role, out int layer))
                entries.Add(Entry(file, config, module, role, layer, a, b));
            else
                throw Wrong(file, a, AdapterNames.Refusal(module));
        }

        return (entries, visionCount);
    }

    private static AdapterEntry Entry(SafetensorsFile file, PeftConfig config, string module, TensorRole role, int layer, SafetensorsTensor a, SafetensorsTensor b)
    {
        int rank = (int)config.Match(config.RankPattern, module, config.Rank);
        TensorSource sourceA = Source(file, a), sourceB = Source(file, b);
        if (sourceA.RowCount != rank)
            throw Wrong(file, a, $"expected [{rank}, …] by the r and rank_pattern of {ConfigName}, found {FileText.Shape(a.Sizes)}");
        if (sourceB.ColumnCount != rank)
            throw Wrong(file, b, $"expected […, {rank}] as lora_A has that many rows, found {FileText.Shape(b.Sizes)}");
        return new AdapterEntry(module, role, layer, config.Match(config.AlphaPattern, module, config.Alpha), sourceA, sourceB);
    }

    private static StoredTensor Source(SafetensorsFile file, SafetensorsTensor tensor)
    {
        if (tensor.Sizes.Length != 2 || tensor.Sizes[0] < 1 || tensor.Sizes[1] < 1 || tensor.Sizes[0] > int.MaxValue || tensor.Sizes[1] > int.MaxValue)
            throw Wrong(file, tensor, $"expected a matrix, found {FileText.Shape(tensor.Sizes)}");
        if (tensor.Type.AsWeightType() is not { } type)
            throw Wrong(file, tensor, $"expected F32, F16 or BF16, found {tensor.Type.Name()}");
        return new StoredTensor(type, tensor.Data) { Name = tensor.Name, RowCount = (int)tensor.Sizes[0], ColumnCount = (int)tensor.Sizes[1] };
    }

    // MODULE.lora_A.weight, with the adapter's name before .weight where a state dict was saved as it is.
    private static bool TrySplit(string name, out string module, out bool isA)
    {
        foreach (string ending in (ReadOnlySpan<string>)[".weight", ".default.weight"])
        {
            isA = name.EndsWith(".lora_A" + ending, StringComparison.Ordinal);
            if (!isA && !name.EndsWith(".lora_B" + ending, StringComparison.Ordinal))
                continue;
            module = name[..^(".lora_A".Length + ending.Length)];
            return true;
        }

        (module, isA) = ("", false);
        return false;
    }

    private static BadModelFileException Wrong(SafetensorsFile file, SafetensorsTensor tensor, string what) => new($"{file.Path}: tensor {FileText.Quote(tensor.Name)}: {what}.");
}

internal sealed record PeftPattern(string Key, double Value);

// What adapter_config.json says.
internal sealed record PeftConfig(string Path, int Rank, double Alpha, bool UsesRsLora, string? BaseModel, IReadOnlyList<PeftPattern> RankPattern, IReadOnlyList<PeftPattern> AlphaPattern)
{
    private readonly Dictionary<string, Regex> _compiled = new(StringComparer.Ordinal);

    // The value of the first pattern that matches the module's whole path, or its end behind a dot.
    public double Match(IReadOnlyList<PeftPattern> patterns, string module, double otherwise)
    {
        foreach (PeftPattern pattern in patterns)
        {
            if (pattern.Key == module || Compiled(pattern.Key).IsMatch(module))
                return pattern.Value;
        }

        return otherwise;
    }

    private Regex Compiled(string key)
    {
        if (_compiled.TryGetValue(key, out Regex? regex))
            return regex;
        try
        {
            // (x{1000}){1000} would be an automaton of a million states.
            if (key.Contains('{', StringComparison.Ordinal))
                throw new NotSupportedException("counted repetitions are not supported");
            regex = new Regex($@"^(?:.*\.)?(?:{key})\z", RegexOptions.NonBacktracking | RegexOptions.CultureInvariant);
        }
        catch (Exception e) when (e is ArgumentException or NotSupportedException)
        {
            throw new BadModelFileException($"{Path}: rank_pattern or alpha_pattern {FileText.Quote(key)}: not a regular expression that can be matched: {e.Message}", e);
        }

        _compiled.Add(key, regex);
        return regex;
    }
}
