using Qian.Kernels;

namespace Qian.Inference.Model;

// The memory of one sequence: attention KV in shared blocks, and per DeltaNet layer the recurrent state and the window of
// raw convolution inputs. A hybrid state cannot be cut at will: KV can be dropped from the end, the recurrent state cannot,
// so the only ways back are a copy taken earlier (Fork) and replay.
internal sealed class SequenceState : IDisposable
{
    private readonly KvPool _pool;
    private readonly StateShape _shape;
    private readonly NativeBuffer _linear;   // [linear layers][recurrent | window], then last hidden row, then the MTP tail
    private KvBlock[] _blocks;
    private bool _disposed;

    public SequenceState(StateShape shape, KvPool pool, LowRankAdapter? adapter = null)
    {
        if (adapter is not null && !adapter.TryHold())
            throw new ObjectDisposedException(nameof(LowRankAdapter));
        Adapter = adapter;
        _shape = shape;
        _pool = pool;
        _linear = NativeBuffer.AllocateFloats(shape.FloatCount);
        _blocks = new KvBlock[8];
    }

    // What its rows are computed with, from the first token to the last: a state belongs to one adapter, or to none.
    public LowRankAdapter? Adapter { get; }

    // Tokens whose state is in here.
    public int TokenCount { get; set; }

    // position of a new token = token index + PositionDelta (images make positions advance slower than tokens).
    public int PositionDelta { get; set; }

    // Tokens whose entry of the MTP layer's keys and values is in the blocks, made from the trunk's hidden rows.
    public int MtpCount { get; set; }

    public KvBlock[] Blocks => _blocks;

    public int BlockCount { get; private set; }

    public int CapacityTokens => BlockCount * _pool.Shape.BlockTokens;

    // [valueHeads, keyDim, valueDim]
    public FloatView Recurrent(int linearIndex) => _linear.Floats(_shape.LayerFloats * linearIndex, _shape.RecurrentFloats);

    // [kernel - 1, convChannels], oldest first
    public FloatView Window(int linearIndex) => _linear.Floats(_shape.LayerFloats * linearIndex + _shape.RecurrentFloats, _shape.WindowFloats);

    // [hidden]: the trunk's hidden row after the final norm, of the last token
    public FloatView LastHidden => _linear.Floats(_shape.LayerFloats * _shape.LinearLayerCount, _shape.HiddenSize);

    // [hidden]: hidden row of token MtpCount + index, of those whose MTP entry is still to be made.
    public FloatView MtpTail(int index) => _linear.Floats(_shape.LayerFloats * _shape.LinearLayerCount + _shape.HiddenSize * (1L + index), _shape.HiddenSize);

    // Rows that the tail holds; 0 when no MTP head follows this sequence.
    public int MtpTailCapacity => _shape.MtpTailRows;

    // Makes room for tokens up to `tokenCount`; false when the pool's budget is spent (nothing is changed then but blocks already gained).
    public bool TryReserve(int tokenCount)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        int blockTokens = _pool.Shape.BlockTokens;
        int needed = (tokenCount + blockTokens - 1) / blockTokens;
        while (BlockCount < needed)
        {
            KvBlock? block = _pool.TryRent();
            if (block is null)
                return false;
            if (BlockCount == _blocks.Length)
                Array.Resize(ref _blocks, _blocks.Length * 2);
            _blocks[BlockCount++] = block;
        }

        // Copy on write: a block that a fork shares must not be written through. The MTP layer's entries follow a few tokens behind.
        int firstWritten = MtpTailCapacity > 0 ? Math.Min(TokenCount, MtpCount) : TokenCount;
        for (int i = firstWritten / blockTokens; i < needed; i++)
        {
            if (!_pool.TryMakeExclusive(ref _blocks[i]))
                return false;
        }

        return true;
    }

    // An independent continuation: shares KV blocks, copies the recurrent state.
    public SequenceState Fork()
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        var fork = new SequenceState(_shape, _pool, Adapter)
        {
            TokenCount = TokenCount,
            PositionDelta = PositionDelta,
            MtpCount = MtpCount,
        };
        fork.ShareBlocks(this, BlockCount);
        fork._linear.AllFloats.CopyFrom(_linear.AllFloats);
        return fork;
    }

    // Room for a copy of the recurrent part as it is in the middle of a pass (ForwardBatch.Add); Adopt makes it a whole state.
    public SequenceState NewCapture() => new(_shape, _pool, Adapter);

    // Keys and values of the first `tokenCount` tokens of the state that the recurrent part was copied from.
    public void Adopt(SequenceState source, int tokenCount)
    {
        TokenCount = tokenCount;
        PositionDelta = source.PositionDelta;
        MtpCount = Math.Min(tokenCount, source.MtpCount);
        ShareBlocks(source, (tokenCount + _pool.Shape.BlockTokens - 1) / _pool.Shape.BlockTokens);
    }

    // What this sequence was is forgotten; it goes on where `source`, of the same adapter, stands.
    public void Become(SequenceState source)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        if (source.Adapter != Adapter)
            throw new ArgumentException("a state belongs to one adapter", nameof(source));
        ReturnBlocks();
        ShareBlocks(source, source.BlockCount);
        _linear.AllFloats.CopyFrom(source._linear.AllFloats);
        TokenCount = source.TokenCount;
        PositionDelta = source.PositionDelta;
        MtpCount = source.MtpCount;
    }

    // Bytes beside the blocks.
    public long RecurrentBytes => _linear.Bytes;

    // The recurrent part as it is stored, for writing it to disk and back.
    public FloatView RecurrentContent => _linear.AllFloats;

    // Back to an empty sequence.
    public void Reset()
    {
        ReturnBlocks();
        _linear.AllFloats.Clear();
        TokenCount = 0;
        PositionDelta = 0;
        MtpCount = 0;
    }

    public void Dispose()
    {
        if (_disposed)
            return;
        _disposed = true;
        ReturnBlocks();
        _linear.Dispose();
        Adapter?.Release();
    }

    private void ShareBlocks(SequenceState source, int count)
    {
        if (_blocks.Length < count)
            _blocks = new KvBlock[count];
        for (int i = 0; i < count; i++)
        {
            _blocks[i] = source._blocks[i];
            _pool.Share(_blocks[i]);
        }

        BlockCount = count;
    }

    private void ReturnBlocks()
    {
        for (int i = 0; i < BlockCount; i++)
            _pool.Return(_blocks[i]);
        Array.Clear(_blocks);
        BlockCount = 0;
    }
}

// Sizes of the recurrent part of a sequence, in floats.
internal readonly record struct StateShape(int LinearLayerCount, long RecurrentFloats, long WindowFloats, int HiddenSize, int MtpTailRows = 0)
{
    public long LayerFloats => RecurrentFloats + WindowFloats;

    public long FloatCount => LayerFloats * LinearLayerCount + HiddenSize * (1L + MtpTailRows);

    public static StateShape Of(ModelConfig config, LayerRange range, int mtpTailRows = 0)
    {
        int linear = 0;
        for (int layer = range.First; layer < range.End; layer++)
            linear += config.FullAttentionLayers[layer] ? 0 : 1;
        return new StateShape(
            linear,
            (long)config.LinearValueHeads * config.LinearKeyDim * config.LinearValueDim,
            (long)(config.ConvKernel - 1) * config.ConvChannels,
            config.HiddenSize,
            mtpTailRows);
    }
}
