namespace Qian.Kernels;

/// <summary>How a block stores keys and values. Attention decodes all of them exactly to float32.</summary>
public enum KvType
{
    /// <summary>IEEE binary32, stored as given.</summary>
    F32,

    /// <summary>IEEE binary16, rounded to nearest even; values beyond ±65504 saturate there, NaN is stored as 0.</summary>
    F16,

    /// <summary>The upper half of binary32, rounded to nearest even.</summary>
    BF16,

    /// <summary>Signed bytes with one binary16 scale per 32 values of a head (the last group of a head may be shorter).</summary>
    Q8_0,
}

/// <summary>The geometry that all K/V blocks of a model share.</summary>
/// <param name="LayerCount">Layers with K/V (full-attention layers, the MTP layer included).</param>
/// <param name="KvHeads">Key/value heads per layer.</param>
/// <param name="HeadDim">Values per head: a multiple of 8, at most <see cref="MaxHeadDim"/>.</param>
/// <param name="BlockTokens">Tokens per block: a power of two from 16 to 512, so that blocks never straddle a partition mark.</param>
public readonly record struct KvShape(int LayerCount, int KvHeads, int HeadDim, int BlockTokens)
{
    /// <summary>The widest head that the kernels take.</summary>
    public const int MaxHeadDim = 1024;

    /// <summary>Native bytes of one block of this type.</summary>
    /// <exception cref="ArgumentException">The shape is not one that the kernels take.</exception>
    public long BlockBytes(KvType type)
    {
        Check();
        return new KvLayout(this, type).BlockBytes;
    }

    internal void Check()
    {
        if (LayerCount < 1 || KvHeads < 1)
            throw new ArgumentException($"{this}: layers and heads must be positive.");
        if (HeadDim < 8 || HeadDim % 8 != 0 || HeadDim > MaxHeadDim)
            throw new ArgumentException($"{this}: the head dimension must be a multiple of 8, at most {MaxHeadDim}.");
        if (BlockTokens < KvLayout.Lanes || BlockTokens > Attention.PartitionTokens || (BlockTokens & (BlockTokens - 1)) != 0)
            throw new ArgumentException($"{this}: a block must hold a power of two of tokens from {KvLayout.Lanes} to {Attention.PartitionTokens}.");
    }
}
