namespace Qian.Inference.Formats;

// Hugging Face keeps the r value heads of a key head side by side (head k·r + j); GGUF's converter puts head j of key head k
// at place j·keyHeads + k, so that head h belongs to key head h mod keyHeads. This is the one place that moves rows, entries
// and columns from the first order to the second.
internal sealed class ValueHeadOrder
{
    private readonly ModelConfig _config;
    private readonly bool _isIdentity;

    public ValueHeadOrder(ModelConfig config)
    {
        _config = config;
        _isIdentity = config.ValueHeadsInterleaved || config.LinearValueHeads == config.LinearKeyHeads;
    }

    // For each row of the tensor as GGUF stores it, the row of the checkpoint that belongs there.
    public int SourceRow(TensorRole role, int row)
    {
        if (_isIdentity)
            return row;
        int qk = 2 * _config.LinearKeyHeads * _config.LinearKeyDim, dim = _config.LinearValueDim;
        return role switch
        {
            TensorRole.LinearQkv or TensorRole.LinearConv => row < qk ? row : qk + InBlocks(row - qk, dim),
            TensorRole.LinearZ => InBlocks(row, dim),
            TensorRole.LinearA or TensorRole.LinearB => InBlocks(row, 1),
            _ => row,
        };
    }

    // For each column of the output projection as GGUF stores it, the column of the checkpoint that belongs there.
    public int SourceColumn(TensorRole role, int column) => _isIdentity || role != TensorRole.LinearOutput ? column : InBlocks(column, _config.LinearValueDim);

    // Entries of the vectors with one value per value head, and columns of the output projection.
    public void Reorder(TensorRole role, ReadOnlySpan<float> source, Span<float> destination)
    {
        int block = role switch
        {
            TensorRole.LinearDecay or TensorRole.LinearDtBias => 1,
            TensorRole.LinearOutput => _config.LinearValueDim,
            _ => 0,
        };
        if (_isIdentity || block == 0)
        {
            source.CopyTo(destination);
            return;
        }

        for (int i = 0; i < destination.Length; i++)
            destination[i] = source[InBlocks(i, block)];
    }

    private int InBlocks(int index, int block)
    {
        int place = index / block, keyHeads = _config.LinearKeyHeads, repeat = _config.LinearValueHeads / keyHeads;
        int head = place % keyHeads * repeat + place / keyHeads;
        return head * block + index % block;
    }
}
