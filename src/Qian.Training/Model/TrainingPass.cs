using Qian.Inference;
using Qian.Kernels;

namespace Qian.Training.Model;

// What every layer of one pass shares: the batch's rows and sample borders, rotary tables, threads, and the working memory of
// the kernels. Made once; Begin points it at the next batch.
internal sealed class TrainingPass : IDisposable
{
    private readonly RopeTable _rope;
    private readonly int[] _positions;   // [3, rows] of the batch
    private readonly MatmulScratch _matmul;
    private readonly TrainingModelOptions _options;
    private TrainingBatch? _batch;

    public TrainingPass(ModelConfig config, TrainingModelOptions options, TrainingBuffers buffers, ThreadTeam team)
    {
        Config = config;
        Team = team;
        _options = options;
        _rope = new RopeTable(config.RotaryDim, config.RopeTheta, [.. config.RopeSections], config.Yarn);
        _positions = new int[3 * options.MaxRows];
        Scratch = buffers.Scratch;
        Adapter = buffers.Adapter;
        AttentionShape = new AttentionShape(config.AttentionHeads, config.KvHeads, config.HeadDim);
        DeltaShape = new DeltaShape(config.LinearKeyHeads, config.LinearValueHeads, config.LinearKeyDim, config.LinearValueDim, config.ValueHeadsInterleaved);
        _matmul = new MatmulScratch(team.ThreadCount);
        Attention = new CausalAttentionScratch(AttentionShape, options.MaxRows, team.ThreadCount);
        Delta = new DeltaTrainingScratch(DeltaShape, team.ThreadCount);
    }

    public ModelConfig Config { get; }

    public ThreadTeam Team { get; }

    public TrainingScratch Scratch { get; }

    public AdapterBuffers? Adapter { get; }

    // Which pass this is, for random numbers that a resumed run must draw again.
    public long PassIndex { get; private set; }

    // False while only the loss is wanted: nothing is dropped then.
    public bool IsTraining { get; private set; }

    public AttentionShape AttentionShape { get; }

    public DeltaShape DeltaShape { get; }

    public CausalAttentionScratch Attention { get; }

    public DeltaTrainingScratch Delta { get; }

    // Working memory of the kernels.
    public long KernelBytes => _matmul.Bytes + Attention.Bytes + Delta.Bytes;

    public TrainingBatch Batch => _batch ?? throw new InvalidOperationException("no pass has begun");

    public int RowCount => Batch.RowCount;

    public ReadOnlySpan<int> Borders => Batch.SampleBorders;

    public ReadOnlySpan<int> TokenIds => Batch.TokenIds.AsSpan(0, RowCount);

    public ReadOnlySpan<int> Labels => Batch.Labels.AsSpan(0, RowCount);

    // Checks the batch against what was allocated for, and makes its rotary table: positions count from 0 in each sample.
    public void Begin(TrainingBatch batch, long passIndex, bool isTraining)
    {
        int rows = batch.RowCount;
        if (rows == 0 || rows > _options.MaxRows)
            throw new ArgumentException($"a batch of {rows} rows: expected 1 to {_options.MaxRows}", nameof(batch));
        if (DeltaRule.ChunkCount(batch.SampleBorders) > _options.ChunkLimit)
            throw new ArgumentException($"a batch of {batch.SampleCount} samples in {rows} rows: expected at most {_options.SampleLimit} samples", nameof(batch));
        CheckIds(batch);
        (_batch, PassIndex, IsTraining) = (batch, passIndex, isTraining);
        for (int sample = 0; sample < batch.SampleCount; sample++)
        {
            for (int row = batch.Borders[sample]; row < batch.Borders[sample + 1]; row++)
            {
                for (int axis = 0; axis < 3; axis++)
                    _positions[axis * rows + row] = row - batch.Borders[sample];
            }
        }

        _rope.Fill(_positions, rows, Scratch.CosSin);
    }

    public void Multiply(in MatrixView a, in MatrixView b, in MatrixView c, bool accumulate) =>
        Matmul.Multiply(a, b, c, accumulate, _options.Precision, _matmul, Team);

    public void Dispose()
    {
        _matmul.Dispose();
        Attention.Dispose();
        Delta.Dispose();
    }

    private void CheckIds(TrainingBatch batch)
    {
        for (int row = 0; row < batch.RowCount; row++)
        {
            int id = batch.TokenIds[row], label = batch.Labels[row];
            if ((uint)id >= (uint)Config.VocabularySize || ((uint)label >= (uint)Config.VocabularySize && label != TrainingBatch.Ignored))
                throw new ArgumentException($"row {row}: token {id} with label {label}: expected ids below {Config.VocabularySize}, and {TrainingBatch.Ignored} for no label", nameof(batch));
        }
    }
}
