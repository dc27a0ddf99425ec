using Qian.Kernels;

namespace Qian.Inference.Model;

// The KV blocks of all sequences: reference counts, copy on write, a hard budget. Returned blocks are kept for the next
// sequence, so that steady work allocates nothing. Used by the compute thread only, but for Fork and Dispose of idle
// sessions, hence the lock.
internal sealed class KvPool : IDisposable
{
    private readonly Lock _lock = new();
    private readonly Stack<KvBlock> _free = new();
    private readonly Dictionary<KvBlock, int> _references = [];
    private readonly int _maxBlocks;
    private long _lentBytes;
    private bool _disposed;

    public KvPool(KvShape shape, KvType type, int maxBlocks)
    {
        Shape = shape;
        Type = type;
        _maxBlocks = maxBlocks;
        BlockBytes = shape.BlockBytes(type);
    }

    public KvShape Shape { get; }

    public KvType Type { get; }

    // Blocks in use by sequences.
    public int UsedCount
    {
        get
        {
            lock (_lock)
                return _references.Count;
        }
    }

    // Blocks that may still be rented.
    public int FreeCount
    {
        get
        {
            lock (_lock)
                return Math.Max(0, Limit - _references.Count);
        }
    }

    public int MaxBlocks => _maxBlocks;

    public long BlockBytes { get; }

    private int Limit => _maxBlocks - (int)((_lentBytes + BlockBytes - 1) / BlockBytes);

    // Bytes of the budget that go to something other than blocks, or come back when negative: copies of recurrent states.
    public void Lend(long bytes)
    {
        lock (_lock)
        {
            _lentBytes += bytes;
            while (_references.Count + _free.Count > Limit && _free.TryPop(out KvBlock? block))
                block.Dispose();
        }
    }

    // A block with one reference, or null when the budget is spent.
    public KvBlock? TryRent()
    {
        lock (_lock)
        {
            if (!_free.TryPop(out KvBlock? block))
            {
                if (_references.Count >= Limit)
                    return null;
                block = new KvBlock(Shape, Type);
            }

            _references.Add(block, 1);
            return block;
        }
    }

    public void Share(KvBlock block)
    {
        lock (_lock)
            _references[block]++;
    }

    public void Return(KvBlock block)
    {
        lock (_lock)
        {
            int count = _references[block] - 1;
            if (count > 0)
            {
                _references[block] = count;
                return;
            }

            _references.Remove(block);
            if (_disposed || _references.Count + _free.Count >= Limit)
                block.Dispose();
            else
                _free.Push(block);
        }
    }

    // Replaces a shared block by a copy; false when the budget is spent.
    public bool TryMakeExclusive(ref KvBlock block)
    {
        lock (_lock)
        {
            if (_references[block] == 1)
                return true;
        }

        KvBlock? copy = TryRent();
        if (copy is null)
            return false;
        copy.CopyFrom(block);
        Return(block);
        block = copy;
        return true;
    }

    public void Dispose()
    {
        lock (_lock)
        {
            _disposed = true;
            while (_free.TryPop(out KvBlock? block))
                block.Dispose();
        }
    }
}
