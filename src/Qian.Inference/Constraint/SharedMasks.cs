namespace Qian.Inference.Constraint;

// Masks of one constraint that cost much, for all replies that it is used for. Only what is a function of one state is kept: at the bottom every mask
// is, elsewhere those that neither read on behind the rule's end nor need more depth than is left. Full when it is
// full: what is met first is met most. Safe to use from any thread; a mask is never changed once it is here.
internal sealed class SharedMasks(int leastSteps)
{
    // Of 31 KB each over a vocabulary of 248,320.
    public const int Capacity = 96;

    public const int UsualLeastSteps = 16_384;

    private readonly Lock _lock = new();
    private readonly Dictionary<(int Class, bool IsBottom), (ulong[] Mask, int MostNeeded)> _masks = [];

    // Steps of a walk, a few ns each, from which on a mask is worth its memory.
    public int LeastSteps => leastSteps;

    public int Count
    {
        get
        {
            lock (_lock)
                return _masks.Count;
        }
    }

    // `depthLeft`: how many levels below this place fit.
    public bool TryFind(int stateClass, bool isBottom, int depthLeft, out ReadOnlySpan<ulong> mask)
    {
        lock (_lock)
        {
            bool isKnown = _masks.TryGetValue((stateClass, isBottom), out (ulong[] Mask, int MostNeeded) known) && known.MostNeeded <= depthLeft;
            mask = isKnown ? known.Mask : default;
            return isKnown;
        }
    }

    public void Add(int stateClass, bool isBottom, int mostNeeded, ReadOnlySpan<ulong> mask)
    {
        lock (_lock)
        {
            if (_masks.Count < Capacity)
                _masks.TryAdd((stateClass, isBottom), (mask.ToArray(), mostNeeded));
        }
    }
}
