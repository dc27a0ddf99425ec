using Qian.Inference;
using Qian.Inference.Formats;
using Qian.Inference.Model;
using Qian.Kernels;

namespace Qian.Weights;

// Reads texts with a model and adds up the squares of what enters each matrix, column by column. It watches the products themselves,
// so that every matrix counts exactly the rows that it multiplied: an expert those of the tokens that chose it. Pieces of text are
// independent sequences, each in one pass.
internal sealed class ImportanceCollector
{
    private const int ChunkTokens = 512;

    private readonly Dictionary<WeightMatrix, Sums> _sums = [];

    private ImportanceCollector()
    {
    }

    // `progress` is told tokens done and in all.
    public static ImportanceMatrix Collect(string modelPath, IReadOnlyList<string> textPaths, EngineOptions options, Action<long, long>? progress, CancellationToken cancellation)
    {
        options = options with { ContextLength = ChunkTokens, MaxBatchRows = ChunkTokens, LoadMtp = true };
        using Engine engine = Engine.Load(modelPath, options, null, cancellation);
        int[] tokens = SampleText.Tokens(textPaths, engine);
        if (tokens.Length < 2)
            throw new BadRequestException($"{string.Join(", ", textPaths)}: no text to read");
        var collector = new ImportanceCollector();
        int chunkCount = collector.Read(engine.Model, tokens, progress, cancellation);
        var matrix = new ImportanceMatrix { Datasets = [.. textPaths.Select(path => Path.GetFileName(path)!)], ChunkCount = chunkCount, ChunkSize = ChunkTokens };
        collector.AddEntries(matrix, engine.Model.Weights);
        return matrix;
    }

    private int Read(LoadedModel model, int[] tokens, Action<long, long>? progress, CancellationToken cancellation)
    {
        Network network = model.Network;
        using SequenceState sequence = model.NewSequence();
        var batch = new ForwardBatch(network.MaxRows);
        var next = new int[ChunkTokens - 1];
        int chunkCount = 0;
        for (int first = 0; first < tokens.Length; first += ChunkTokens)
        {
            cancellation.ThrowIfCancellationRequested();
            ReadOnlySpan<int> chunk = tokens.AsSpan(first, Math.Min(ChunkTokens, tokens.Length - first));
            sequence.Reset();
            if (!sequence.TryReserve(chunk.Length))
                throw new InvalidOperationException("the KV pool does not hold one piece of text");
            network.ProjectionObserver = Observe;
            batch.Clear();
            batch.Add(sequence, chunk);
            network.Forward(batch);
            // Every row could be asked for its logits.
            if (model.Weights.Head is { } head)
                SumsOf(head).Add(network.Hidden, model.Config.HiddenSize, chunk.Length);
            if (network.HasMtp && chunk.Length > 1)
            {
                // The head's entry i takes the trunk's row i and the token after it.
                chunk[1..].CopyTo(next);
                batch.Clear();
                batch.AddMtp(sequence, 0, next.AsSpan(0, chunk.Length - 1));
                network.MtpForward(batch, network.Hidden);
            }

            network.ProjectionObserver = null;
            chunkCount++;
            progress?.Invoke(first + chunk.Length, tokens.Length);
        }

        return chunkCount;
    }

    private void Observe(FloatView x, int xStride, int rowCount, ReadOnlySpan<Projection> projections)
    {
        // The matrices of one call share their input, now and in every call: so they share the sums.
        Sums sums = SumsOf(projections[0].Weight);
        foreach (Projection projection in projections)
            _sums[projection.Weight] = sums;
        sums.Add(x, xStride, rowCount);
    }

    private Sums SumsOf(WeightMatrix matrix)
    {
        if (!_sums.TryGetValue(matrix, out Sums? sums))
            _sums[matrix] = sums = new Sums(matrix.ColumnCount);
        return sums;
    }

    private void AddEntries(ImportanceMatrix matrix, NetworkWeights weights)
    {
        ModelConfig config = weights.Config;
        ValueHeadMove move = ValueHeadMove.ToGguf(config);
        if (weights.Head is { } head)
            Add(matrix, config.TiedEmbeddings ? TensorRole.TokenEmbedding : TensorRole.Output, -1, move, [head]);
        for (int layer = 0; layer < weights.Layers.Length; layer++)
            AddLayer(matrix, weights.Layers[layer], layer, move);
        if (weights.Mtp is { } mtp)
        {
            Add(matrix, TensorRole.MtpProjection, config.LayerCount, move, [mtp.Projection]);
            AddLayer(matrix, mtp.Layer, config.LayerCount, move);
        }
    }

    private void AddLayer(ImportanceMatrix matrix, LayerWeights weights, int layer, ValueHeadMove move)
    {
        if (weights.Attention is { } attention)
        {
            Add(matrix, TensorRole.AttentionQ, layer, move, [attention.Q]);
            Add(matrix, TensorRole.AttentionK, layer, move, [attention.K]);
            Add(matrix, TensorRole.AttentionV, layer, move, [attention.V]);
            Add(matrix, TensorRole.AttentionOutput, layer, move, [attention.Output]);
        }

        if (weights.DeltaNet is { } delta)
        {
            Add(matrix, TensorRole.LinearQkv, layer, move, [delta.Qkv]);
            Add(matrix, TensorRole.LinearZ, layer, move, [delta.Z]);
            Add(matrix, TensorRole.LinearB, layer, move, [delta.B]);
            Add(matrix, TensorRole.LinearA, layer, move, [delta.A]);
            Add(matrix, TensorRole.LinearOutput, layer, move, [delta.Output]);
        }

        if (weights.Mlp is { } mlp)
        {
            Add(matrix, TensorRole.FfnGate, layer, move, [mlp.Gate]);
            Add(matrix, TensorRole.FfnUp, layer, move, [mlp.Up]);
            Add(matrix, TensorRole.FfnDown, layer, move, [mlp.Down]);
        }

        if (weights.Moe is { } moe)
        {
            Add(matrix, TensorRole.ExpertGate, layer, move, [.. moe.Experts.Select(expert => expert.Gate)]);
            Add(matrix, TensorRole.ExpertUp, layer, move, [.. moe.Experts.Select(expert => expert.Up)]);
            Add(matrix, TensorRole.ExpertDown, layer, move, [.. moe.Experts.Select(expert => expert.Down)]);
            Add(matrix, TensorRole.SharedGate, layer, move, [moe.Shared.Gate]);
            Add(matrix, TensorRole.SharedUp, layer, move, [moe.Shared.Up]);
            Add(matrix, TensorRole.SharedDown, layer, move, [moe.Shared.Down]);
        }
    }

    // `matrices`: the experts of a layer, or one.
    private void Add(ImportanceMatrix matrix, TensorRole role, int layer, ValueHeadMove move, IReadOnlyList<WeightMatrix> matrices)
    {
        int columns = matrices[0].ColumnCount;
        var sums = new float[columns * matrices.Count];
        var counts = new float[matrices.Count];
        var row = new float[columns];
        for (int i = 0; i < matrices.Count; i++)
        {
            if (!_sums.TryGetValue(matrices[i], out Sums? collected))
                continue;
            collected.CopyTo(row);
            move.Reorder(role, row, sums.AsSpan(i * columns, columns));
            counts[i] = collected.RowCount;
        }

        if (counts.Any(count => count > 0))
            matrix.Add(new ImportanceEntry(TensorNames.Gguf(role, layer), sums, counts));
    }

    // Sums of squares per column, in double: millions of rows are added to them.
    private sealed class Sums(int columnCount)
    {
        private readonly double[] _squares = new double[columnCount];

        public long RowCount { get; private set; }

        public void Add(FloatView x, int stride, int rowCount)
        {
            RowCount += rowCount;
            for (int row = 0; row < rowCount; row++)
            {
                ReadOnlySpan<float> values = x.Slice((long)row * stride, _squares.Length).Span;
                for (int column = 0; column < values.Length; column++)
                    _squares[column] += (double)values[column] * values[column];
            }
        }

        public void CopyTo(Span<float> destination)
        {
            for (int column = 0; column < _squares.Length; column++)
                destination[column] = (float)_squares[column];
        }
    }
}
