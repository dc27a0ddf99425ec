using Qian.Inference;
using Qian.Inference.Formats;
using Qian.Inference.Model;
using Qian.Inference.Runtime;
using Qian.Kernels;

namespace Qian.Training.Model;

// A frozen network of any format that inference reads, with an adapter on chosen projections as the parameters. Training runs
// in the base's own order of value heads; adapters are put in Hugging Face's when they are saved. The MTP head takes no part.
internal sealed class LowRankWeights : WeightSet
{
    private readonly Checkpoint _checkpoint;
    private readonly NetworkWeights _network;
    private readonly LoraOptions _options;
    private readonly List<Adapter> _adapters = [];
    private readonly NativeBuffer _ignoredGradient;

    // Takes the checkpoint over, also when loading fails.
    public LowRankWeights(Checkpoint checkpoint, LoraOptions options, ThreadTeam team, IProgress<LoadProgress>? progress = null)
    {
        (_checkpoint, _options) = (checkpoint, options);
        NetworkWeights? network = null;
        try
        {
            options.Validate();
            // Stored types stay as they are, mapped; FP8, int4 and NVFP4, which no kernel reads as they lie, become BF16.
            bool isPacked = checkpoint.Tensors.Any(IsPacked);
            var policy = new LoadPolicy(Exact: true, LoadAs: isPacked ? WeightType.BF16 : null, Mtp: false);
            _network = network = WeightLoader.Load(checkpoint, LayerRange.All(checkpoint.Config), policy, team, progress);
            Config = checkpoint.Config with { MtpLayerCount = 0 };
            Declare();
            Store = new ParameterStore(_adapters.SelectMany(adapter => (Parameter[])[adapter.A, adapter.B]));
            Initialise();
            _ignoredGradient = NativeBuffer.AllocateFloats(LongestVector(Config));
        }
        catch
        {
            network?.Dispose();
            checkpoint.Dispose();
            throw;
        }
    }

    public override ModelConfig Config { get; }

    public override ParameterStore Store { get; }

    public override bool HasMtp => false;

    public override AdapterSizes? AdapterSizes => Model.AdapterSizes.Of(Config, _options);

    public override EmbeddingTable Embedding() => new(_network.Embedding!);

    public override LinearWeight Head() => new FrozenWeight(_network.Head!);

    public override (LinearWeight FromEmbedding, LinearWeight FromHidden) MtpProjection() => throw new InvalidOperationException("adapters leave the MTP head alone");

    public override LinearWeight Matrix(TensorRole role, int layer, int expert = -1)
    {
        var frozen = new FrozenWeight(LayerLookup.Matrix(_network.Layers[layer], role, expert));
        int index = _adapters.FindIndex(adapter => adapter.Role == role && adapter.Layer == layer);
        return index < 0 || expert >= 0 ? frozen : new LowRankWeight(frozen, _adapters[index].A, _adapters[index].B, _options, index);
    }

    // A PEFT folder, in Hugging Face's spelling and order of value heads whatever format the base was read from.
    public override void Save(string folder, SavedType type) =>
        PeftWriter.Write(Trained(), Config, folder, type == SavedType.BF16 ? SafetensorsType.BF16 : SafetensorsType.F32, ModulePrefix());

    public override void Dispose()
    {
        Store.Dispose();
        _ignoredGradient.Dispose();
        _network.Dispose();
        _checkpoint.Dispose();
    }

    protected override VectorWeight MakeVector(TensorRole role, int layer) =>
        new(role == TensorRole.OutputNorm ? _network.OutputNorm : LayerLookup.Vector(_network.Layers[layer], role), _ignoredGradient.AllFloats);

    // Trained values of such an adapter, from the shape alone.
    public static long CountFloats(ModelConfig config, LoraOptions options)
    {
        long count = 0;
        foreach (TensorRole role in Enum.GetValues<TensorRole>())
        {
            if (!options.Covers(role))
                continue;
            (int rows, int columns) = TensorShapes.Of(config, role);
            for (int layer = 0; layer < config.LayerCount; layer++)
                count += TensorShapes.Occurs(config, role, layer) ? options.Rank * ((long)rows + columns) : 0;
        }

        return count;
    }

    // The base as training holds it.
    public static long FrozenBytes(Checkpoint checkpoint) =>
        checkpoint.Tensors.Sum(tensor => tensor.Role is null ? 0 : IsPacked(tensor) ? sizeof(short) * tensor.ParameterCount : tensor.ByteCount);

    private static bool IsPacked(TensorSummary tensor) =>
        tensor.Role is not null && (tensor.TypeName == SafetensorsType.F8E4M3.Name() || tensor.TypeName == SafetensorsType.I32.Name() || tensor.TypeName == SafetensorsType.U8.Name());

    private AdapterWeights Trained()
    {
        IEnumerable<AdapterTarget> targets = _adapters.Select(adapter => new AdapterTarget(
            adapter.Role, adapter.Layer, _options.Rank, _options.Alpha, adapter.A.Value.Span.ToArray(), adapter.B.Value.Span.ToArray()));
        return new AdapterWeights
        {
            Name = Config.Name,
            BaseModel = Config.Name,
            UsesRsLora = _options.UseRsLora,
            Dropout = _options.Dropout,
            Targets = [.. Config.ValueHeadsInterleaved ? targets.Select(target => AdapterOrder.ToHuggingFace(Config, target)) : targets],
        };
    }

    // What the base's tensors have before "layers.0…"; other formats do not say, and most of the family's checkpoints are multimodal.
    private string ModulePrefix()
    {
        if (_checkpoint is not HuggingFaceCheckpoint)
            return PeftWriter.MultimodalPrefix;
        string tensor = _checkpoint.Require(TensorRole.InputNorm, 0).Name;
        return tensor[..tensor.IndexOf("layers.", StringComparison.Ordinal)];
    }

    private void Declare()
    {
        string prefix = ModulePrefix();
        for (int layer = 0; layer < Config.LayerCount; layer++)
        {
            foreach (TensorRole role in Enum.GetValues<TensorRole>())
            {
                if (!TensorShapes.Occurs(Config, role, layer) || !_options.Covers(role))
                    continue;
                (int rows, int columns) = TensorShapes.Of(Config, role);
                string module = PeftAdapter.Root + AdapterNames.Module(Config, prefix, role, layer);
                _adapters.Add(new Adapter(role, layer, Declare($"{module}.lora_A.weight", _options.Rank, columns), Declare($"{module}.lora_B.weight", rows, _options.Rank)));
            }
        }

        if (_adapters.Count == 0)
            throw new BadRequestException($"LoRA targets {string.Join(", ", _options.Targets)}: {_checkpoint.Path} has none of them.");
    }

    private static Parameter Declare(string name, int rows, int columns) =>
        new() { Name = name, Sizes = [rows, columns], Rows = rows, Columns = columns, StoredType = SafetensorsType.F32, IsMatrix = true };

    // A uniform within 1 / sqrt(inputs) (Kaiming with a = sqrt 5, as PEFT does), B zero: the adapter begins as nothing.
    private void Initialise()
    {
        for (int index = 0; index < _adapters.Count; index++)
        {
            Parameter a = _adapters[index].A;
            ulong stream = CounterRandom.Bits(_options.Seed, index);
            double bound = 1 / Math.Sqrt(a.Columns);
            Span<float> values = a.Value.Span;
            for (int i = 0; i < values.Length; i++)
                values[i] = (float)((2 * CounterRandom.Uniform(stream, i) - 1) * bound);
        }
    }

    private static int LongestVector(ModelConfig config)
    {
        int longest = 0;
        foreach (TensorRole role in Enum.GetValues<TensorRole>())
        {
            (int rows, int columns) = TensorShapes.Of(config, role);
            if (TensorShapes.IsVector(role) || role == TensorRole.LinearConv)
                longest = Math.Max(longest, rows * columns);
        }

        return longest;
    }
}

// The trained pair of one projection.
internal sealed record Adapter(TensorRole Role, int Layer, Parameter A, Parameter B);
