namespace Qian.Kernels;

// One storage type of weights: its name, the size of its block and the way in and out of it.
// A derived class is the only place that knows its layout. What all types share stands here: the walk over blocks.
internal abstract class BlockFormat(WeightType type, string name, int blockValues, int blockBytes)
{
    public WeightType Type { get; } = type;

    // The name that GGUF gives the type.
    public string Name { get; } = name;

    // Values in a block, the smallest piece that can be read alone.
    public int BlockValues { get; } = blockValues;

    public int BlockBytes { get; } = blockBytes;
}
