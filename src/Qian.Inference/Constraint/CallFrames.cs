namespace Qian.Inference.Constraint;

// Where rules that were called go on afterwards: stacks that share their lower parts, each (return, parent) kept once, so that equal stacks are
// equal numbers. Frame 0 is the bottom. Grows at the end only, so that what a walk added is forgotten by going back to a count.
internal sealed class CallFrames
{
    private int[] _returns = new int[64];
    private int[] _parents = new int[64];
    private int[] _depths = new int[64];
    private int[] _nexts = new int[64];
    private int[] _buckets = new int[64];

    public CallFrames()
    {
        Array.Fill(_buckets, -1);
        Count = 1;
    }

    public int Count { get; private set; }

    public int Return(int frame) => _returns[frame];

    public int Parent(int frame) => _parents[frame];

    public int Depth(int frame) => _depths[frame];

    public int Push(int @return, int parent)
    {
        for (int at = _buckets[BucketOf(@return, parent)]; at >= 0; at = _nexts[at])
        {
            if (_returns[at] == @return && _parents[at] == parent)
                return at;
        }

        if (Count == _returns.Length)
            Grow();
        int frame = Count++;
        (_returns[frame], _parents[frame], _depths[frame]) = (@return, parent, _depths[parent] + 1);
        Link(frame);
        return frame;
    }

    // Forgets the frames from `count` on.
    public void Truncate(int count)
    {
        // The latest frame of a chain is its first.
        while (Count > count)
        {
            int frame = --Count;
            _buckets[BucketOf(_returns[frame], _parents[frame])] = _nexts[frame];
        }
    }

    private int BucketOf(int @return, int parent) => (int)((uint)(@return * 0x9E3779B1 + parent * 0x85EBCA6B) >> 7) & (_buckets.Length - 1);

    private void Link(int frame)
    {
        ref int bucket = ref _buckets[BucketOf(_returns[frame], _parents[frame])];
        _nexts[frame] = bucket;
        bucket = frame;
    }

    private void Grow()
    {
        int size = 2 * _returns.Length;
        Array.Resize(ref _returns, size);
        Array.Resize(ref _parents, size);
        Array.Resize(ref _depths, size);
        Array.Resize(ref _nexts, size);
        _buckets = new int[size];
        Array.Fill(_buckets, -1);
        for (int frame = 1; frame < Count; frame++)
            Link(frame);
    }
}
