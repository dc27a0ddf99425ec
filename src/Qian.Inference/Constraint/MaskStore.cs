namespace Qian.Inference.Constraint;

// Masks of places met before, the oldest overwritten when there are too many; buffers are used again, so that it stops allocating once full.
internal sealed class MaskStore
{
    private const int Capacity = 96;
    private const int BucketCount = 256;

    private readonly Entry?[] _entries = new Entry?[Capacity];
    private readonly int[] _buckets = new int[BucketCount];
    private readonly int _wordCount;
    private int _count;
    private int _oldest;

    public MaskStore(int wordCount)
    {
        _wordCount = wordCount;
        Array.Fill(_buckets, -1);
    }

    // The mask kept for these places. When there is none: false, and a buffer that is kept for them from now on.
    public bool TryFind(ReadOnlySpan<Place> places, bool isWhole, out ulong[] mask)
    {
        uint hash = HashOf(places, isWhole);
        int bucket = (int)(hash % BucketCount);
        for (int at = _buckets[bucket]; at >= 0; at = _entries[at]!.Next)
        {
            Entry entry = _entries[at]!;
            if (entry.Hash == hash && entry.IsWhole == isWhole && entry.Places.AsSpan(0, entry.PlaceCount).SequenceEqual(places))
            {
                mask = entry.Mask;
                return true;
            }
        }

        int index = _count < Capacity ? _count++ : Evict();
        Entry taken = _entries[index] ??= new Entry { Mask = new ulong[_wordCount] };
        if (taken.Places.Length < places.Length)
            taken.Places = new Place[2 * places.Length];
        places.CopyTo(taken.Places);
        (taken.PlaceCount, taken.Hash, taken.IsWhole, taken.Next) = (places.Length, hash, isWhole, _buckets[bucket]);
        _buckets[bucket] = index;
        mask = taken.Mask;
        return false;
    }

    private int Evict()
    {
        int index = _oldest;
        _oldest = (_oldest + 1) % Capacity;
        Entry entry = _entries[index]!;
        ref int at = ref _buckets[entry.Hash % BucketCount];
        while (at != index)
            at = ref _entries[at]!.NextSlot;
        at = entry.Next;
        return index;
    }

    private static uint HashOf(ReadOnlySpan<Place> places, bool isWhole)
    {
        uint hash = isWhole ? 1u : 0;
        foreach (Place place in places)
            hash = (hash ^ (uint)place.State ^ ((uint)place.Frame * 0x85EBCA6B)) * 0x9E3779B1 + 1;
        return hash ^ (hash >> 15);
    }

    private sealed class Entry
    {
        private int _next;

        public required ulong[] Mask { get; init; }

        public Place[] Places { get; set; } = [];

        public int PlaceCount { get; set; }

        public uint Hash { get; set; }

        public bool IsWhole { get; set; }

        public int Next
        {
            get => _next;
            set => _next = value;
        }

        public ref int NextSlot => ref _next;
    }
}
