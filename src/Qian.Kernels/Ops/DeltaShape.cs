namespace Qian.Kernels;

/// <summary>Sizes of one linear-attention layer and the order of its heads.</summary>
/// <param name="KeyHeads">Query and key heads.</param>
/// <param name="ValueHeads">Value heads, a multiple of <paramref name="KeyHeads"/>.</param>
/// <param name="KeyDim">Floats per query or key head.</param>
/// <param name="ValueDim">Floats per value head.</param>
/// <param name="Interleaved">Key head of value head h: h mod KeyHeads (GGUF order) or h div (ValueHeads / KeyHeads) (Hugging Face order).</param>
public readonly record struct DeltaShape(int KeyHeads, int ValueHeads, int KeyDim, int ValueDim, bool Interleaved)
{
    /// <summary>Floats of one row of q, k and v together.</summary>
    public int RowWidth => 2 * KeyHeads * KeyDim + ValueHeads * ValueDim;

    /// <summary>Floats of one row of output.</summary>
    public int OutputWidth => ValueHeads * ValueDim;

    /// <summary>Floats of the recurrent state [ValueHeads, KeyDim, ValueDim].</summary>
    public long StateLength => (long)ValueHeads * KeyDim * ValueDim;

    internal int ValueHeadsPerKeyHead => ValueHeads / KeyHeads;

    internal int KeyHeadOf(int valueHead) => Interleaved ? valueHead % KeyHeads : valueHead / ValueHeadsPerKeyHead;

    /// <summary>The <paramref name="index"/>-th value head that reads <paramref name="keyHead"/>.</summary>
    internal int ValueHeadOf(int keyHead, int index) => Interleaved ? keyHead + index * KeyHeads : keyHead * ValueHeadsPerKeyHead + index;

    internal void Check()
    {
        if (KeyHeads < 1 || ValueHeads < 1 || KeyDim < 1 || ValueDim < 1 || ValueHeads % KeyHeads != 0
            || 2L * KeyHeads * KeyDim + (long)ValueHeads * ValueDim > int.MaxValue)
            throw new ArgumentException($"{this}: expected positive sizes and value heads in multiples of key heads");
    }
}
