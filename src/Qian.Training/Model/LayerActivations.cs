using Qian.Inference;
using Qian.Kernels;

namespace Qian.Training.Model;

// What a layer keeps from its forward pass for its backward pass. Whatever is cheap to compute again (norms, the convolution,
// rotary, the activation function) is not here. `T` is the most rows of a pass. Sections may be shared by layers of a kind that
// run once more before their backward pass.
internal sealed class LayerActivations(FloatArena arena, ModelConfig config, long rows, LayerSections sections)
{
    public FloatView Input { get; } = arena.Take(rows * config.HiddenSize);   // [T, hidden]: the residual stream before the layer

    public LayerSections Sections { get; } = sections;
}

// Everything of a layer but its input.
internal sealed class LayerSections
{
    public LayerSections(FloatArena arena, ModelConfig config, TrainingModelOptions options, bool fullAttention)
    {
        Middle = arena.Take((long)options.MaxRows * config.HiddenSize);
        if (fullAttention)
            Attention = new AttentionActivations(arena, config, options.MaxRows);
        else
            DeltaNet = new DeltaNetActivations(arena, config, options);
        if (config.IsMoe)
            Experts = new ExpertActivations(arena, config, options.MaxRows);
        else
            Mlp = new MlpActivations(arena, options.MaxRows, config.IntermediateSize);
    }

    public FloatView Middle { get; }          // [T, hidden]: the residual stream between mixer and MLP

    public AttentionActivations? Attention { get; }

    public DeltaNetActivations? DeltaNet { get; }

    public MlpActivations? Mlp { get; }

    public ExpertActivations? Experts { get; }
}

internal sealed class AttentionActivations(FloatArena arena, ModelConfig config, long rows)
{
    public FloatView QGate { get; } = arena.Take(rows * config.AttentionHeads * 2 * config.HeadDim);    // per head [query | gate]

    public FloatView K { get; } = arena.Take(rows * config.KvHeads * config.HeadDim);                   // before norm and rotary

    public FloatView V { get; } = arena.Take(rows * config.KvHeads * config.HeadDim);

    public FloatView Output { get; } = arena.Take(rows * config.AttentionHeads * config.HeadDim);       // before the gate

    public FloatView LogSumExp { get; } = arena.Take(rows * config.AttentionHeads);
}

internal sealed class DeltaNetActivations(FloatArena arena, ModelConfig config, TrainingModelOptions options)
{
    public FloatView RawQkv { get; } = arena.Take((long)options.MaxRows * config.ConvChannels);         // before the convolution

    public FloatView Z { get; } = arena.Take((long)options.MaxRows * config.LinearValueHeads * config.LinearValueDim);

    public FloatView Alpha { get; } = arena.Take((long)options.MaxRows * config.LinearValueHeads);

    public FloatView B { get; } = arena.Take((long)options.MaxRows * config.LinearValueHeads);

    public FloatView LogDecay { get; } = arena.Take((long)options.MaxRows * config.LinearValueHeads);

    public FloatView Beta { get; } = arena.Take((long)options.MaxRows * config.LinearValueHeads);

    public FloatView Core { get; } = arena.Take((long)options.MaxRows * config.LinearValueHeads * config.LinearValueDim);   // the rule's output

    // [chunks, valueHeads, keyDim, valueDim]: the state before each chunk
    public FloatView ChunkStates { get; } = arena.Take((long)options.ChunkLimit * config.LinearValueHeads * config.LinearKeyDim * config.LinearValueDim);
}

// Gate and up projections; the backward pass turns them into their own gradients.
internal sealed class MlpActivations(FloatArena arena, long rows, int width)
{
    public FloatView Gate { get; } = arena.Take(rows * width);

    public FloatView Up { get; } = arena.Take(rows * width);
}

// Of a mixture of experts. Grouped rows are sorted by expert; slot t·k + j is the j-th choice of row t.
internal sealed class ExpertActivations(FloatArena arena, ModelConfig config, int rows)
{
    public FloatView RouterLogits { get; } = arena.Take((long)rows * config.ExpertCount);

    public FloatView Weights { get; } = arena.Take((long)rows * config.ExpertsPerToken);

    public FloatView SharedLogits { get; } = arena.Take(rows);

    public FloatView SlotOutput { get; } = arena.Take((long)rows * config.ExpertsPerToken * config.HiddenSize);   // by slot

    public FloatView SharedOutput { get; } = arena.Take((long)rows * config.HiddenSize);

    public MlpActivations Routed { get; } = new(arena, (long)rows * config.ExpertsPerToken, config.ExpertIntermediateSize);   // grouped

    public MlpActivations Shared { get; } = new(arena, rows, config.SharedExpertIntermediateSize);

    public int[] Chosen { get; } = new int[(long)rows * config.ExpertsPerToken];        // by slot

    public int[] GroupedRow { get; } = new int[(long)rows * config.ExpertsPerToken];    // row of each grouped row

    public int[] GroupedSlot { get; } = new int[(long)rows * config.ExpertsPerToken];   // slot of each grouped row

    public int[] GroupStart { get; } = new int[config.ExpertCount + 1];
}
