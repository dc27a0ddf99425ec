using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Inference.Model;

// A checkpoint in memory with the network over it and the memory of its sequences: everything but scheduling and text.
internal sealed class LoadedModel : IDisposable
{
    private readonly NetworkWeights _weights;
    private readonly StateShape _stateShape;

    private LoadedModel(Checkpoint checkpoint, NetworkWeights weights, ThreadTeam team, EngineOptions options, int contextLength, int maxBlocks)
    {
        Checkpoint = checkpoint;
        Team = team;
        _weights = weights;
        KvShape kv = MemoryEstimate.CacheShape(Config, weights.Range, weights.Mtp is not null);
        _stateShape = StateShape.Of(Config, weights.Range, MemoryEstimate.MtpTailRows(options, weights.Mtp is not null));
        Network = new Network(weights, kv, options.Yarn, options.MaxBatchRows, contextLength, options.ExactArithmetic, team, MemoryEstimate.TrialRows(options));
        Pool = new KvPool(kv, options.KvType, maxBlocks);
    }

    public Checkpoint Checkpoint { get; }

    public ModelConfig Config => Checkpoint.Config;

    public Network Network { get; }

    public NetworkWeights Weights => _weights;

    public KvPool Pool { get; }

    public ThreadTeam Team { get; }

    public StateShape StateShape => _stateShape;

    // What the user should hear about the loading.
    public IReadOnlyList<string> LoadNotes { get; private init; } = [];

    public bool HasQuantizedWeights => _weights.HasQuantized;

    // Takes the checkpoint over, also when loading fails.
    public static LoadedModel Load(
        Checkpoint checkpoint, EngineOptions options, int contextLength, int maxBlocks, IProgress<LoadProgress>? progress = null, CancellationToken cancellation = default)
    {
        ThreadTeam? team = null;
        NetworkWeights? weights = null;
        try
        {
            team = new ThreadTeam(options.ThreadCount ?? Environment.ProcessorCount);
            var policy = new LoadPolicy(options.ExactArithmetic, options.LoadAs, options.LoadMtp);
            PackedCache? cache = options.PackedCache is { } place ? PackedCache.At(place, checkpoint) : null;
            weights = WeightLoader.Load(checkpoint, LayerRange.All(checkpoint.Config), policy, team, progress, cancellation, cache);
            return new LoadedModel(checkpoint, weights, team, options, contextLength, maxBlocks) { LoadNotes = [.. weights.Notes, .. cache?.Notes ?? []] };
        }
        catch
        {
            weights?.Dispose();
            team?.Dispose();
            checkpoint.Dispose();
            throw;
        }
    }

    public SequenceState NewSequence(LowRankAdapter? adapter = null) => new(_stateShape, Pool, adapter);

    public void Dispose()
    {
        Network.Dispose();
        Pool.Dispose();
        _weights.Dispose();
        Team.Dispose();
        Checkpoint.Dispose();
    }
}
