using Qian.Inference;
using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Weights;

// A model that is not there: shapes and types as a file of this mix would have them, without a byte of weights. So the engine's
// own accounting adds up a download before it is made.
internal sealed class ShapeCheckpoint : Checkpoint
{
    private readonly QuantMix _mix;

    public ShapeCheckpoint(ModelConfig config, QuantMix mix)
        : base($"{config.Name} as {mix.Name}")
    {
        Config = config with { ValueHeadsInterleaved = true };
        _mix = mix;
        Tensors = List();
    }

    public override ModelConfig Config { get; }

    public override IEnumerable<(string Path, ByteView Header)> Files => [];

    public override string? ChatTemplate => null;

    public override GenerationDefaults Generation { get; } = new([], null);

    public override IReadOnlyList<TensorSummary> Tensors { get; }

    public override TensorSource? Find(TensorRole role, int layer = -1, int expert = -1)
    {
        if (!TensorShapes.Occurs(Config, role, layer) || (role == TensorRole.Output && Config.TiedEmbeddings))
            return null;
        (int rows, int columns) = TensorShapes.Of(Config, role);
        return new Unwritten(_mix.TypeOf(role, layer, columns, Config)) { Name = TensorNames.Gguf(role, layer), RowCount = rows, ColumnCount = columns };
    }

    public override TokenizerSpec? LoadTokenizer() => null;

    public override void Dispose()
    {
    }

    protected override string Spelling(TensorRole role, int layer, int expert) => TensorNames.Gguf(role, layer);

    private List<TensorSummary> List()
    {
        var tensors = new List<TensorSummary>();
        for (int layer = -1; layer < Config.LayerCount + Config.MtpLayerCount; layer++)
        {
            foreach (TensorRole role in Enum.GetValues<TensorRole>())
            {
                if (Find(role, layer, 0) is not { } source)
                    continue;
                int count = TensorShapes.IsExpert(role) ? Config.ExpertCount : 1;
                tensors.Add(new TensorSummary(source.Name, [(long)count * source.RowCount, source.ColumnCount], WeightFormat.Name(source.Type!.Value), WeightFormat.RowBytes(source.Type!.Value, source.ColumnCount) * source.RowCount * count, role, IsVision: false));
            }
        }

        return tensors;
    }

    private sealed class Unwritten(WeightType type) : TensorSource
    {
        public override WeightType? Type => type;

        public override ByteView Data => throw new InvalidOperationException($"{Name} is a shape without values");

        public override void DecodeRows(int firstRow, int count, Span<float> destination) => throw new InvalidOperationException($"{Name} is a shape without values");
    }
}
