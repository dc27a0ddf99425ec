using Qian.Inference;
using Qian.Kernels;

namespace Qian.Training.Model;

// Buffers that live within one layer's pass, one set for all layers. The mixers' and the MLPs' buffers share their place:
// one phase ends before the next begins.
internal sealed class TrainingScratch
{
    public TrainingScratch(FloatArena arena, ModelConfig config, int rows)
    {
        long t = rows;
        Normed = arena.Take(t * config.HiddenSize);
        DNormed = arena.Take(t * config.HiddenSize);
        CosSin = arena.Take(t * config.RotaryDim);
        long mark = arena.Mark;
        Attention = new AttentionBuffers(arena, config, t);
        arena.Rewind(mark);
        DeltaNet = new DeltaNetBuffers(arena, config, t);
        arena.Rewind(mark);
        arena.Rewind(mark);
        int shared = config.SharedExpertIntermediateSize;
        Mlp = config.IsMoe ? new MlpBuffers(arena, t, shared) : new MlpBuffers(arena, t, config.IntermediateSize);
        if (config.IsMoe)
            Experts = new ExpertBuffers(arena, config, t);
        arena.Rewind(arena.FloatCount);
    }

    public FloatView Normed { get; }      // [T, hidden]: input of the projections

    public FloatView DNormed { get; }     // [T, hidden]

    public FloatView CosSin { get; }      // [T, rotaryDim]

    public AttentionBuffers Attention { get; }

    public DeltaNetBuffers DeltaNet { get; }

    public MlpBuffers Mlp { get; }

    public ExpertBuffers? Experts { get; }
}

internal sealed class AttentionBuffers(FloatArena arena, ModelConfig config, long rows)
{
    public FloatView Q { get; } = arena.Take(rows * config.AttentionHeads * config.HeadDim);       // normed, rotated

    public FloatView K { get; } = arena.Take(rows * config.KvHeads * config.HeadDim);

    public FloatView Gated { get; } = arena.Take(rows * config.AttentionHeads * config.HeadDim);

    public FloatView DGated { get; } = arena.Take(rows * config.AttentionHeads * config.HeadDim);

    public FloatView DOutput { get; } = arena.Take(rows * config.AttentionHeads * config.HeadDim);

    public FloatView DQ { get; } = arena.Take(rows * config.AttentionHeads * config.HeadDim);

    public FloatView DK { get; } = arena.Take(rows * config.KvHeads * config.HeadDim);

    public FloatView DV { get; } = arena.Take(rows * config.KvHeads * config.HeadDim);

    public FloatView DQGate { get; } = arena.Take(rows * config.AttentionHeads * 2 * config.HeadDim);

    public FloatView DKRaw { get; } = arena.Take(rows * config.KvHeads * config.HeadDim);
}

internal sealed class DeltaNetBuffers(FloatArena arena, ModelConfig config, long rows)
{
    public FloatView Convolved { get; } = arena.Take(rows * config.ConvChannels);      // after the convolution, before the norms

    public FloatView Qkv { get; } = arena.Take(rows * config.ConvChannels);            // as the rule takes it

    public FloatView DQkv { get; } = arena.Take(rows * config.ConvChannels);

    public FloatView Gated { get; } = arena.Take(rows * config.LinearValueHeads * config.LinearValueDim);

    public FloatView DCore { get; } = arena.Take(rows * config.LinearValueHeads * config.LinearValueDim);

    public FloatView DZ { get; } = arena.Take(rows * config.LinearValueHeads * config.LinearValueDim);

    public FloatView DLogDecay { get; } = arena.Take(rows * config.LinearValueHeads);

    public FloatView DBeta { get; } = arena.Take(rows * config.LinearValueHeads);

    public FloatView DAlpha { get; } = arena.Take(rows * config.LinearValueHeads);

    public FloatView DB { get; } = arena.Take(rows * config.LinearValueHeads);
}

internal sealed class MlpBuffers(FloatArena arena, long rows, int width)
{
    public FloatView Activated { get; } = arena.Take(rows * width);

    public FloatView DActivated { get; } = arena.Take(rows * width);
}

internal sealed class ExpertBuffers(FloatArena arena, ModelConfig config, long rows)
{
    public FloatView Output { get; } = arena.Take(rows * config.HiddenSize);                            // the block's sum

    public FloatView GroupInput { get; } = arena.Take(rows * config.HiddenSize);                        // rows of one expert

    public FloatView GroupOutput { get; } = arena.Take(rows * config.HiddenSize);

    public FloatView DGroupInput { get; } = arena.Take(rows * config.HiddenSize);

    public FloatView DWeights { get; } = arena.Take(rows * config.ExpertsPerToken);

    public FloatView DRouterLogits { get; } = arena.Take(rows * config.ExpertCount);

    public FloatView DSharedLogits { get; } = arena.Take(rows);

    public MlpBuffers Routed { get; } = new(arena, rows, config.ExpertIntermediateSize);
}
