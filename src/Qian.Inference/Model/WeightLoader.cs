using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Inference.Model;

// From an open checkpoint to weights in memory: which tensor goes where, in which storage. Matrices of a quantised type are
// repacked (the mapped pages are released as it goes); float matrices and the embedding stay mapped; vectors become float32.
internal sealed class WeightLoader
{
    private readonly Checkpoint _checkpoint;
    private readonly ModelConfig _config;
    private readonly LoadPolicy _policy;
    private readonly ThreadTeam _team;
    private readonly IProgress<LoadProgress>? _progress;
    private readonly CancellationToken _cancellation;
    private readonly long _bytesTotal;
    private long _bytesDone;

    private WeightLoader(Checkpoint checkpoint, LoadPolicy policy, ThreadTeam team, IProgress<LoadProgress>? progress, CancellationToken cancellation)
    {
        _checkpoint = checkpoint;
        _config = checkpoint.Config;
        _policy = policy;
        _team = team;
        _progress = progress;
        _cancellation = cancellation;
        _bytesTotal = checkpoint.WeightBytes;
    }

    public static NetworkWeights Load(
        Checkpoint checkpoint, LayerRange range, LoadPolicy policy, ThreadTeam team, IProgress<LoadProgress>? progress = null, CancellationToken cancellation = default)
    {
        range.Validate(checkpoint.Config);
        var weights = new NetworkWeights { Config = checkpoint.Config, Range = range };
        try
        {
            new WeightLoader(checkpoint, policy, team, progress, cancellation).Fill(weights);
            return weights;
        }
        catch
        {
            weights.Dispose();
            throw;
        }
    }

    private void Fill(NetworkWeights weights)
    {
        LayerRange range = weights.Range;
        if (range.Embedding)
            weights.Embedding = Matrix(weights, TensorRole.TokenEmbedding, -1, isLookup: !_config.TiedEmbeddings);
        if (range.Head)
        {
            weights.OutputNorm = Vector(weights, TensorRole.OutputNorm, -1);
            weights.Head = _config.TiedEmbeddings
                ? weights.Embedding ?? Matrix(weights, TensorRole.TokenEmbedding, -1)
                : Matrix(weights, TensorRole.Output, -1);
        }

        weights.Layers = new LayerWeights[range.Count];
        for (int i = 0; i < range.Count; i++)
            weights.Layers[i] = Layer(weights, range.First + i, _config.FullAttentionLayers[range.First + i]);
        if (range.Head && _policy.Mtp && _config.MtpLayerCount > 0)
            weights.Mtp = Mtp(weights, _config.LayerCount);
    }

    private LayerWeights Layer(NetworkWeights w, int layer, bool fullAttention) => new()
    {
        InputNorm = Vector(w, TensorRole.InputNorm, layer),
        PostAttentionNorm = Vector(w, TensorRole.PostAttentionNorm, layer),
        Attention = fullAttention ? Attention(w, layer) : null,
        DeltaNet = fullAttention ? null : DeltaNet(w, layer),
        Mlp = _config.IsMoe ? null : Mlp(w, layer, TensorRole.FfnGate, TensorRole.FfnUp, TensorRole.FfnDown, -1),
        Moe = _config.IsMoe ? Moe(w, layer) : null,
    };

    private AttentionWeights Attention(NetworkWeights w, int layer) => new()
    {
        Q = Matrix(w, TensorRole.AttentionQ, layer),
        K = Matrix(w, TensorRole.AttentionK, layer),
        V = Matrix(w, TensorRole.AttentionV, layer),
        Output = Matrix(w, TensorRole.AttentionOutput, layer),
        QNorm = Vector(w, TensorRole.AttentionQNorm, layer),
        KNorm = Vector(w, TensorRole.AttentionKNorm, layer),
    };

    private DeltaNetWeights DeltaNet(NetworkWeights w, int layer) => new()
    {
        Qkv = Matrix(w, TensorRole.LinearQkv, layer),
        Z = Matrix(w, TensorRole.LinearZ, layer),
        B = Matrix(w, TensorRole.LinearB, layer),
        A = Matrix(w, TensorRole.LinearA, layer),
        Output = Matrix(w, TensorRole.LinearOutput, layer),
        Conv = Vector(w, TensorRole.LinearConv, layer),
        Decay = Vector(w, TensorRole.LinearDecay, layer),
        DtBias = Vector(w, TensorRole.LinearDtBias, layer),
        Norm = Vector(w, TensorRole.LinearNorm, layer),
    };

    private MlpWeights Mlp(NetworkWeights w, int layer, TensorRole gate, TensorRole up, TensorRole down, int expert) => new()
    {
        Gate = Matrix(w, gate, layer, expert),
        Up = Matrix(w, up, layer, expert),
        Down = Matrix(w, down, layer, expert),
    };

    private MoeWeights Moe(NetworkWeights w, int layer)
    {
        var experts = new MlpWeights[_config.ExpertCount];
        for (int e = 0; e < experts.Length; e++)
            experts[e] = Mlp(w, layer, TensorRole.ExpertGate, TensorRole.ExpertUp, TensorRole.ExpertDown, e);
        return new MoeWeights
        {
            Router = Matrix(w, TensorRole.RouterGate, layer),
            Experts = experts,
            Shared = Mlp(w, layer, TensorRole.SharedGate, TensorRole.SharedUp, TensorRole.SharedDown, -1),
            SharedGate = Matrix(w, TensorRole.SharedExpertGate, layer),
        };
    }

    private MtpWeights Mtp(NetworkWeights w, int layer) => new()
    {
        Projection = Matrix(w, TensorRole.MtpProjection, layer),
        EmbeddingNorm = Vector(w, TensorRole.MtpEmbeddingNorm, layer),
        HiddenNorm = Vector(w, TensorRole.MtpHiddenNorm, layer),
        OutputNorm = Vector(w, TensorRole.MtpOutputNorm, layer),
        Layer = Layer(w, layer, fullAttention: true),
    };

    private FloatView Vector(NetworkWeights w, TensorRole role, int layer)
    {
        _cancellation.ThrowIfCancellationRequested();
        TensorSource source = _checkpoint.Require(role, layer);
        var values = new float[source.RowCount * source.ColumnCount];
        source.DecodeRows(0, source.RowCount, values);
        return w.OwnVector(values);
    }

    // A matrix that is only looked up row by row stays mapped: one row of it is read per token.
    private WeightMatrix Matrix(NetworkWeights w, TensorRole role, int layer, int expert = -1, bool isLookup = false)
    {
        _cancellation.ThrowIfCancellationRequested();
        TensorSource source = _checkpoint.Require(role, layer, expert);
        WeightMatrix matrix = _policy.TargetType(source) is { } target
            ? WeightMatrix.FromRows(target, source.RowCount, source.ColumnCount, (row, values) => source.DecodeRows(row, 1, values), _team)
            : WeightMatrix.Create(source.Type!.Value, source.RowCount, source.ColumnCount, source.Data, _policy.Exact || isLookup ? WeightStorage.Mapped : WeightStorage.Packed, _team, releaseSource: true);
        _bytesDone += source.Type is { } stored ? WeightFormat.RowBytes(stored, source.ColumnCount) * source.RowCount : (long)source.RowCount * source.ColumnCount;
        _progress?.Report(new LoadProgress(Math.Min(_bytesDone, _bytesTotal), _bytesTotal, source.Name));
        return w.Own(matrix);
    }
}

// How tensors are held: exact (as stored, float arithmetic), or converted to another type while loading.
internal readonly record struct LoadPolicy(bool Exact, WeightType? LoadAs, bool Mtp)
{
    // The type to re-encode a matrix to, or null to keep the stored bytes.
    public WeightType? TargetType(TensorSource source)
    {
        if (source.Type is { } stored && (LoadAs is null || WeightFormat.IsQuantized(stored)))
            return null;
        // FP8 and other layouts that no kernel reads: 8 bits stay about 8 bits, unless exact arithmetic is wanted.
        WeightType wanted = LoadAs ?? (Exact ? WeightType.F32 : WeightType.Q8_0);
        if (source.ColumnCount % WeightFormat.BlockValues(wanted) != 0)
            wanted = source.ColumnCount % WeightFormat.BlockValues(WeightType.Q8_0) == 0 ? WeightType.Q8_0 : WeightType.F32;
        return wanted == source.Type ? null : wanted;
    }

    // Bytes that a tensor will take in memory of our own (mapped pages are the page cache's).
    public long OwnedBytes(TensorSource source, bool isLookup)
    {
        if (TargetType(source) is { } target)
            return Math.Max(WeightMatrix.HasPackedLayout(target) ? WeightMatrix.PackedBytes(target, source.RowCount, source.ColumnCount) : 0, WeightFormat.RowBytes(target, source.ColumnCount) * source.RowCount);
        WeightType stored = source.Type!.Value;
        return !Exact && !isLookup && WeightMatrix.HasPackedLayout(stored) ? WeightMatrix.PackedBytes(stored, source.RowCount, source.ColumnCount) : 0;
    }
}
