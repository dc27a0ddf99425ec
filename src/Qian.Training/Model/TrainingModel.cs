using Qian.Inference;
using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Training.Model;

// The network in training: the forward pass of MODEL.md over whole samples with everything kept that the way back needs, and
// the way back. The same chain of kernels serves full training and adapters; which weights have gradients is the weight
// set's business. It knows no optimiser, no data and no schedule. One thread calls it; the team computes.
internal sealed class TrainingModel : IDisposable
{
    private readonly WeightSet _weights;
    private readonly TrainingModelOptions _options;
    private readonly FloatArena _arena;
    private readonly TrainingBuffers _buffers;
    private readonly TrainingPass _pass;
    private readonly EmbeddingTable _embedding;
    private readonly DecoderLayer[] _layers;
    private readonly VectorWeight _outputNorm;
    private readonly LossHead _head;
    private readonly MtpBlock? _mtp;

    private TrainingModel(WeightSet weights, TrainingModelOptions options, ThreadTeam team)
    {
        _weights = weights;
        _options = options;
        FloatArena count = FloatArena.Counting();
        _ = new TrainingBuffers(count, Config, options, weights.HasMtp, weights.AdapterSizes);
        _arena = FloatArena.Allocate(count.FloatCount);
        _buffers = new TrainingBuffers(_arena, Config, options, weights.HasMtp, weights.AdapterSizes);
        _pass = new TrainingPass(Config, options, _buffers, team);

        var chain = new ChainBuilder(weights);
        _embedding = weights.Embedding();
        _layers = chain.Layers();
        _outputNorm = weights.Vector(TensorRole.OutputNorm, -1);
        _head = new LossHead(weights.Head(), _buffers.Head);
        _mtp = _buffers.Mtp is { } buffers ? chain.Mtp(buffers) : null;
    }

    public ModelConfig Config => _weights.Config;

    // Values and gradients of what is trained.
    public ParameterStore Store => _weights.Store;

    public IReadOnlyList<Parameter> Parameters => Store.Parameters;

    // Passes of ForwardBackward so far. A resumed run sets it: dropout draws by it.
    public long PassIndex { get; set; }

    public int MaxRows => _options.MaxRows;

    // Bytes that passes write to.
    public long ScratchBytes => _arena.FloatCount * sizeof(float) + _pass.KernelBytes;

    // [rows, hidden] of the last pass, after the final norm.
    public FloatView Hidden => _buffers.Hidden.Slice(0, (long)_pass.RowCount * Config.HiddenSize);

    // Trains every weight of a Hugging Face folder.
    public static TrainingModel Full(string folder, TrainingModelOptions options, ThreadTeam team)
    {
        if (!File.Exists(Path.Combine(folder, "config.json")))
            throw new BadRequestException($"{folder}: full training starts from a Hugging Face folder (config.json and safetensors). Over a GGUF file an adapter (LoRA) can be trained.");
        return Over(new FullWeights(new HuggingFaceCheckpoint(folder), options.MtpLossWeight > 0), options, team);
    }

    // Trains an adapter over a frozen checkpoint of any format.
    public static TrainingModel LowRank(string path, LoraOptions lora, TrainingModelOptions options, ThreadTeam team, IProgress<LoadProgress>? progress = null) =>
        Over(new LowRankWeights(Checkpoint.Open(path), lora, team, progress), options, team);

    public void ZeroGradients() => Store.ZeroGradients();

    // Adds the gradient of (sum of the loss over rows with a label + MtpLossWeight · the same of the MTP head) · gradientScale.
    public BatchLoss ForwardBackward(TrainingBatch batch, float gradientScale)
    {
        Forward(batch, isTraining: true);
        PassIndex++;
        (double sum, int count) = _head.Run(_buffers.Hidden, _pass.Labels, _buffers.DHidden, gradientScale, _pass);
        (double mtpSum, int mtpCount) = _mtp?.Run(_buffers.Hidden, _buffers.DHidden, gradientScale * _options.MtpLossWeight, _embedding, _head, _pass) ?? (0, 0);
        Backward();
        return new BatchLoss(sum, count, mtpSum, mtpCount);
    }

    // The loss alone.
    public BatchLoss Evaluate(TrainingBatch batch)
    {
        Forward(batch, isTraining: false);
        (double sum, int count) = _head.Run(_buffers.Hidden, _pass.Labels, default, 0, _pass);
        (double mtpSum, int mtpCount) = _mtp?.Run(_buffers.Hidden, default, 0, _embedding, _head, _pass) ?? (0, 0);
        return new BatchLoss(sum, count, mtpSum, mtpCount);
    }

    // Full training: a Hugging Face folder like the source. An adapter: a PEFT folder.
    public void Save(string folder, SavedType type = SavedType.AsSource) => _weights.Save(folder, type);

    public void Dispose()
    {
        _pass.Dispose();
        _arena.Dispose();
        _weights.Dispose();
    }

    private static TrainingModel Over(WeightSet weights, TrainingModelOptions options, ThreadTeam team)
    {
        try
        {
            return new TrainingModel(weights, options, team);
        }
        catch
        {
            weights.Dispose();
            throw;
        }
    }

    private void Forward(TrainingBatch batch, bool isTraining)
    {
        _pass.Begin(batch, PassIndex, isTraining);
        _weights.Prepare();
        FloatView residual = _buffers.Residual;
        _embedding.Gather(_pass.TokenIds, residual, _pass);
        for (int i = 0; i < _layers.Length; i++)
            _layers[i].Forward(residual, _buffers.Layers[i], _pass);
        RmsNorm.Apply(residual, _outputNorm.Value, Config.NormEpsilon, _buffers.Hidden, _pass.RowCount, Config.HiddenSize, _pass.Team);
    }

    private void Backward()
    {
        FloatView dResidual = _buffers.DResidual;
        RmsNorm.Backward(_buffers.Residual, _outputNorm.Value, Config.NormEpsilon, _buffers.DHidden, dResidual, _outputNorm.Gradient, _pass.RowCount, Config.HiddenSize, _pass.Team);
        for (int i = _layers.Length - 1; i >= 0; i--)
        {
            // The stream's last rows have been used: their place is free for running layers again.
            if (_options.Recompute)
                _layers[i].Repeat(_buffers.Residual, _buffers.Layers[i], _pass);
            _layers[i].Backward(dResidual, _buffers.Layers[i], _pass);
        }

        _embedding.AddGradient(_pass.TokenIds, dResidual, _pass);
        _weights.FoldGradients();
    }
}
