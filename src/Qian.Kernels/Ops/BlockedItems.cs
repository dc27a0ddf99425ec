namespace Qian.Kernels;

/// <summary>
/// A reduction over rows that many threads share and no timing can change: items are cut into blocks whose size follows from
/// the shapes alone, every block adds up its own partial sums, and these are added in block order. The partial sums lie on
/// the caller's stack, so blocks run in waves of as many as fit there. The result does not depend on the thread count.
/// </summary>
internal readonly unsafe struct BlockedItems
{
    // Enough work for a block to be worth its turn at the counter.
    private const long FloatsPerBlock = 16 * 1024;
    private const int StackDoubles = 16 * 1024;

    /// <summary>Most sums per item; a block's must fit the stack.</summary>
    public const int MaxWidth = StackDoubles;

    private readonly long _itemCount;
    private readonly long _itemsPerBlock;
    private readonly int _width;

    /// <summary>Items of <paramref name="floatsPerItem"/> floats each that add to <paramref name="width"/> sums (0: none are wanted).</summary>
    public BlockedItems(long itemCount, long floatsPerItem, int width)
    {
        if (width > MaxWidth)
            throw new ArgumentOutOfRangeException(nameof(width), width, $"sums over rows: at most {MaxWidth} wide");
        _itemCount = itemCount;
        _itemsPerBlock = Math.Max(1, FloatsPerBlock / floatsPerItem);
        _width = width;
        BlockCount = (itemCount + _itemsPerBlock - 1) / _itemsPerBlock;
        BlocksPerWave = (int)Math.Min(BlockCount, width == 0 ? int.MaxValue : Math.Max(1, StackDoubles / width));
    }

    public long BlockCount { get; }

    /// <summary>Blocks of one fork-join.</summary>
    public int BlocksPerWave { get; }

    /// <summary>Doubles of stack that the partial sums of a wave take.</summary>
    public int PartialCount => BlocksPerWave * _width;

    public long First(long blockIndex) => blockIndex * _itemsPerBlock;

    /// <summary>One past the last item of the block.</summary>
    public long End(long blockIndex) => Math.Min(First(blockIndex) + _itemsPerBlock, _itemCount);

    /// <summary>Adds sums [<paramref name="from"/>, <paramref name="from"/> + count) of each of the wave's blocks to <paramref name="total"/>, in block order.</summary>
    public void AddTo(FloatView total, double* partials, int blockCount, int from, int count)
    {
        for (int i = 0; i < count; i++)
        {
            double sum = 0;
            for (int block = 0; block < blockCount; block++)
                sum += partials[(long)block * _width + from + i];
            total.Pointer[i] += (float)sum;
        }
    }
}
