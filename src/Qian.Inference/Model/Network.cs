using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Inference.Model;

// The forward pass, written once (MODEL.md is its prose):
//   h = embed(tokens)
//   per layer:  h += mixer(norm(h));  h += mlp(norm(h))        mixer = Gated DeltaNet, or gated attention every 4th layer
//   hidden = norm(h);  logits = head . hidden for chosen rows
// over ragged batches: any mixture of prefill and decode rows of any sequences. It knows no sampling, no scheduling and no
// file format, and never dereferences a buffer. One thread calls it; the team computes.
internal sealed partial class Network : IDisposable
{
    // Tokens of a block of keys and values.
    public const int BlockTokens = 64;

    private readonly ModelConfig _config;
    private readonly NetworkWeights _weights;
    private readonly LayerRange _range;
    private readonly ForwardScratch _scratch;
    private readonly TrialInputs? _trial;
    private readonly RopeTable _rope;
    private readonly KvShape _kv;
    private readonly ThreadTeam _team;
    private readonly bool _exact;
    private readonly int[] _cacheIndex;   // per layer of the range: index among attention layers (KV) or among linear layers (state)

    // With `trialRows`, passes may hold drafted tokens (Network.Verify.cs).
    public Network(NetworkWeights weights, KvShape kv, YarnScaling? yarn, int maxRows, int maxContext, bool exact, ThreadTeam team, int trialRows = 0)
    {
        _config = weights.Config;
        _weights = weights;
        _range = weights.Range;
        _kv = kv;
        _team = team;
        _exact = exact;
        _scratch = new ForwardScratch(_config, _range, weights.Mtp is not null, maxRows, maxContext, team.ThreadCount);
        _trunkRuns = new AdapterRuns(maxRows);
        _mtpRuns = new AdapterRuns(maxRows);
        _headRuns = new AdapterRuns(maxRows);
        int[] sections = [.. _config.RopeSections];
        _rope = new RopeTable(_config.RotaryDim, _config.RopeTheta, sections, yarn ?? _config.Yarn);

        _cacheIndex = new int[_range.Count];
        int attention = 0, linear = 0;
        for (int i = 0; i < _cacheIndex.Length; i++)
            _cacheIndex[i] = _config.FullAttentionLayers[_range.First + i] ? attention++ : linear++;
        MtpCacheIndex = attention;
        _trial = trialRows == 0 ? null : new TrialInputs(_config, linear, trialRows);
    }

    // Called with named intermediate rows while set; for verification against reference activations only.
    public Action<string, int, FloatView>? Tap { get; set; }

    // Sees the input rows of every product while set; for importance matrices.
    public ProjectionObserver? ProjectionObserver
    {
        set => _scratch.Linear.Observer = value;
    }

    // Ends a pass between two layers while set: the states of its sequences are undefined then, so only verification, which
    // throws them away, uses it.
    public CancellationToken Cancellation { get; set; }

    // How value heads are told to their key heads: the file's order. Another value reads the same weights as if they stood in
    // the other order, which only verification wants.
    public bool ValueHeadsInterleaved
    {
        get => _scratch.DeltaShape.Interleaved;
        set => _scratch.ReadValueHeads(value, _team.ThreadCount);
    }

    // KV layer of the MTP block: one more layer in the same blocks.
    private int MtpCacheIndex { get; }

    // [rowCount, hidden] of the last pass, after the final norm (before it when the head is elsewhere).
    public FloatView Hidden => _scratch.Hidden;

    public int MaxRows => _scratch.MaxRows;

    // Runs all rows of the batch through the layer range and advances the sequences' states. Logits are asked for separately.
    public void Forward(ForwardBatch batch)
    {
        int rows = batch.RowCount;
        _trunkRuns.Fill(batch);
        EmbedRows(batch);
        _rope.Fill(batch.Positions, rows, _scratch.CosSin);
        for (int i = 0; i < _weights.Layers.Length; i++)
            DecoderLayer(_weights.Layers[i], _range.First + i, _cacheIndex[i], batch, _trunkRuns);

        if (_range.Head)
            RmsNorm.Apply(_scratch.Residual, _weights.OutputNorm, _config.NormEpsilon, _scratch.Hidden, rows, _config.HiddenSize, _team);
        else
            _scratch.Hidden.CopyFrom(_scratch.Residual.Slice(0, (long)rows * _config.HiddenSize));
        Tap?.Invoke("hidden", -1, FirstRows(_scratch.Hidden, rows, _config.HiddenSize));
        Advance(batch);
    }

    // logits[rowIndices.Length, vocabulary] of chosen rows of the last pass.
    public void Logits(ReadOnlySpan<int> rowIndices, FloatView logits) => LogitsOf(_scratch.Hidden, rowIndices, _trunkRuns, logits);

    public void Dispose()
    {
        _trial?.Dispose();
        _scratch.Dispose();
    }

    private void LogitsOf(FloatView hidden, ReadOnlySpan<int> rowIndices, AdapterRuns runs, FloatView logits)
    {
        _headRuns.Clear();
        foreach (int row in rowIndices)
            _headRuns.Add(runs.Of(row), 1);
        Rows.Gather(hidden, _config.HiddenSize, rowIndices, _scratch.Normed);
        ProjectHead(rowIndices.Length, logits);
    }

    private void ProjectHead(int rowCount, FloatView logits)
    {
        WeightMatrix head = _weights.Head ?? throw new InvalidOperationException("this layer range has no output head");
        Project(_headRuns, -1, _scratch.Normed, _config.HiddenSize, rowCount, [new Projection(head, logits, _config.VocabularySize)], [TensorRole.Output]);
    }

    private void EmbedRows(ForwardBatch batch)
    {
        long count = (long)batch.RowCount * _config.HiddenSize;
        if (batch.HasEmbeddingRows)
        {
            _scratch.Residual.CopyFrom(batch.EmbeddingRows.Slice(0, count));
            return;
        }

        WeightMatrix embedding = _weights.Embedding ?? throw new InvalidOperationException("this layer range has no embedding; feed hidden rows");
        Embedding.Gather(embedding, batch.TokenIds.AsSpan(0, batch.RowCount), _scratch.Residual, _team);
    }

    private void DecoderLayer(LayerWeights layer, int layerIndex, int cacheIndex, ForwardBatch batch, AdapterRuns runs)
    {
        int rows = batch.RowCount;
        int hidden = _config.HiddenSize;
        Cancellation.ThrowIfCancellationRequested();
        long count = (long)rows * hidden;
        Tap?.Invoke("layer_input", layerIndex, FirstRows(_scratch.Residual, rows, hidden));

        RmsNorm.Apply(_scratch.Residual, layer.InputNorm, _config.NormEpsilon, _scratch.Normed, rows, hidden, _team);
        if (layer.Attention is { } attention)
            GatedAttention(attention, layerIndex, cacheIndex, batch, runs);
        else
            GatedDeltaNet(layer.DeltaNet!, layerIndex, cacheIndex, batch, runs);
        Residual.Add(_scratch.Residual, _scratch.MixerOutput, count, _team);

        RmsNorm.Apply(_scratch.Residual, layer.PostAttentionNorm, _config.NormEpsilon, _scratch.Normed, rows, hidden, _team);
        if (layer.Mlp is { } mlp)
            Mlp(mlp, _scratch.Normed, rows, _scratch.MixerOutput, runs, layerIndex, [TensorRole.FfnGate, TensorRole.FfnUp, TensorRole.FfnDown]);
        else
            Experts(layer.Moe!, layerIndex, rows, runs);
        Residual.Add(_scratch.Residual, _scratch.MixerOutput, count, _team);
        Tap?.Invoke("layer_output", layerIndex, FirstRows(_scratch.Residual, rows, hidden));
    }

    // y = down . (silu(gate . x) * up . x); roles: of gate, up and down.
    private void Mlp(MlpWeights mlp, FloatView x, int rows, FloatView y, AdapterRuns runs, int layerIndex, ReadOnlySpan<TensorRole> roles)
    {
        int width = mlp.Gate.RowCount;
        Project(runs, layerIndex, x, _config.HiddenSize, rows, [new Projection(mlp.Gate, _scratch.Gate, width), new Projection(mlp.Up, _scratch.Up, width)], roles[..2]);
        SwiGlu.Apply(_scratch.Gate, _scratch.Up, _scratch.Gate, (long)rows * width, _team);
        Project(runs, layerIndex, _scratch.Gate, width, rows, [new Projection(mlp.Down, y, _config.HiddenSize)], roles[2..]);
    }

    // The last token's hidden row stays with its sequence: the MTP head needs it once the next token is known.
    private void Advance(ForwardBatch batch)
    {
        foreach (ref readonly Segment segment in batch.Segments)
        {
            if (segment.IsTrial)
                continue;
            segment.Sequence.TokenCount = segment.FirstToken + segment.RowCount;
            segment.Sequence.LastHidden.CopyFrom(HiddenRow(segment.FirstRow + segment.RowCount - 1));
            segment.Capture?.LastHidden.CopyFrom(HiddenRow(segment.FirstRow + segment.CaptureRows - 1));
        }
    }

    // The part of a buffer that a run of rows owns.
    private static FloatView RowsOf(FloatView buffer, in Segment segment, int width) =>
        buffer.Slice((long)segment.FirstRow * width, (long)segment.RowCount * width);

    private static FloatView FirstRows(FloatView buffer, int rowCount, int width) => buffer.Slice(0, (long)rowCount * width);
}
