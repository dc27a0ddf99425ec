using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Inference.Model;

// From an open checkpoint to weights in memory: which tensor goes where, in which storage. Matrices of a quantised type are
// repacked into one store, all together once it is known what they are, so that the file is read front to back or not at all
// (where a packed cache has them); float matrices and the embedding stay mapped; vectors become float32.
internal sealed class WeightLoader
{
    private readonly Checkpoint _checkpoint;
    private readonly ModelConfig _config;
    private readonly LoadPolicy _policy;
    private readonly ThreadTeam _team;
    private readonly IProgress<LoadProgress>? _progress;
    private readonly CancellationToken _cancellation;
    private readonly WeightStore _store;
    private readonly List<string> _storedNames = [];
    private readonly SortedDictionary<string, int> _kinds = new(StringComparer.Ordinal);
    private readonly long _bytesTotal;
    private long _mappedBytes;

    private WeightLoader(Checkpoint checkpoint, WeightStore store, LoadPolicy policy, ThreadTeam team, IProgress<LoadProgress>? progress, CancellationToken cancellation)
    {
        _checkpoint = checkpoint;
        _config = checkpoint.Config;
        _store = store;
        _policy = policy;
        _team = team;
        _progress = progress;
        _cancellation = cancellation;
        _bytesTotal = checkpoint.WeightBytes;
    }

    public static NetworkWeights Load(
        Checkpoint checkpoint, LayerRange range, LoadPolicy policy, ThreadTeam team, IProgress<LoadProgress>? progress = null, CancellationToken cancellation = default, PackedCache? cache = null)
    {
        range.Validate(checkpoint.Config);
        var weights = new NetworkWeights { Config = checkpoint.Config, Range = range };
        try
        {
            var loader = new WeightLoader(checkpoint, weights.OwnStore(new WeightStore()), policy, team, progress, cancellation);
            loader.Plan(weights);
            weights.Notes = [.. loader._kinds.Select(kind => $"{kind.Value} matrices {kind.Key}")];
            loader.FillStore(cache);
            return weights;
        }
        catch
        {
            weights.Dispose();
            throw;
        }
    }

    // Everything but the contents of the store.
    private void Plan(NetworkWeights weights)
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

    private void FillStore(PackedCache? cache)
    {
        if (_store.Count == 0 || cache?.TryUse(_store) == true)
        {
            _progress?.Report(new LoadProgress(_bytesTotal, _bytesTotal, ""));
            return;
        }

        Action<int, long>? report = _progress is { } progress
            ? (index, bytes) => progress.Report(new LoadProgress(Math.Min(_mappedBytes + bytes, _bytesTotal), _bytesTotal, _storedNames[index]))
            : null;
        try
        {
            _store.Fill(_team, report, _cancellation);
        }
        catch (IOException error)
        {
            throw new BadModelFileException($"{error.Message} The file cannot be read to its end: check the disk, or fetch the file again.", error);
        }

        cache?.Save(_store, _cancellation);
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
        // Vectors lie between matrices that are read in another way, or not at all.
        if (source.Type is not null)
            source.Data.ExpectRandomReads();
        var values = new float[source.RowCount * source.ColumnCount];
        source.DecodeRows(0, source.RowCount, values);
        return w.OwnVector(values);
    }

    // A matrix that is only looked up row by row stays mapped: one row of it is read per token.
    private WeightMatrix Matrix(NetworkWeights w, TensorRole role, int layer, int expert = -1, bool isLookup = false)
    {
        _cancellation.ThrowIfCancellationRequested();
        TensorSource source = _checkpoint.Require(role, layer, expert);
        if (_policy.BlockType(source) is { } blocks)
        {
            Note(source, blocks, "value for value");
            _storedNames.Add(source.Name);
            return w.Own(_store.Take(blocks, source.RowCount, source.ColumnCount, source.WriteBlocks, source.Factor));
        }

        if (_policy.TargetType(source) is { } target)
        {
            Note(source, target, target is WeightType.F32 ? "value for value" : "rounded anew");
            _storedNames.Add(source.Name);
            return w.Own(_store.Encode(target, source.RowCount, source.ColumnCount, (row, values) => source.DecodeRows(row, 1, values)));
        }

        WeightType type = source.Type!.Value;
        if (!_policy.Exact && !isLookup && WeightMatrix.HasPackedLayout(type))
        {
            _storedNames.Add(source.Name);
            return w.Own(_store.Pack(type, source.RowCount, source.ColumnCount, source.Data));
        }

        if (isLookup)
            source.Data.ExpectRandomReads();
        _mappedBytes += source.Data.Length;
        return w.Own(WeightMatrix.Create(type, source.RowCount, source.ColumnCount, source.Data, WeightStorage.Mapped, _team));
    }

    // What became of matrices that are stored in none of the kernels' types.
    private void Note(TensorSource source, WeightType held, string how)
    {
        if (source.Encoding is not { } encoding)
            return;
        string kind = $"stored as {encoding} are held as {WeightFormat.Name(held)}, {how}";
        _kinds[kind] = _kinds.GetValueOrDefault(kind) + 1;
    }
}

// How tensors are held: exact (as stored, float arithmetic), or converted to another type while loading.
internal readonly record struct LoadPolicy(bool Exact, WeightType? LoadAs, bool Mtp)
{
    // The type whose blocks take the stored values over as they are, or null.
    public WeightType? BlockType(TensorSource source) => !Exact && (LoadAs is null || LoadAs == source.BlockType) ? source.BlockType : null;

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
        if ((BlockType(source) ?? TargetType(source)) is { } target)
            return Math.Max(WeightMatrix.HasPackedLayout(target) ? WeightMatrix.PackedBytes(target, source.RowCount, source.ColumnCount) : 0, WeightFormat.RowBytes(target, source.ColumnCount) * source.RowCount);
        WeightType stored = source.Type!.Value;
        return !Exact && !isLookup && WeightMatrix.HasPackedLayout(stored) ? WeightMatrix.PackedBytes(stored, source.RowCount, source.ColumnCount) : 0;
    }
}
