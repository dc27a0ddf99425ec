namespace Qian.Nano;

// Seeded choices (SplitMix64): the same seed gives the same data on every machine and every version of .NET.
internal sealed class Dice(ulong seed)
{
    private ulong _state = seed;

    // The dice of one sample: independent of how many were thrown before it.
    public static Dice For(ulong seed, string purpose, long index)
    {
        var dice = new Dice(seed ^ Partition.Hash(purpose));
        dice._state += (ulong)index * 0xD1342543DE82EF95;
        dice.Next();
        return dice;
    }

    public ulong Next()
    {
        ulong z = _state += 0x9E3779B97F4A7C15;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return z ^ (z >> 31);
    }

    public int Below(int count) => (int)(Next() % (ulong)count);

    public int Between(int low, int high) => low + Below(high - low + 1);

    public bool Chance(int percent) => Below(100) < percent;

    public T Pick<T>(params IReadOnlyList<T> items) => items[Below(items.Count)];

    public void Shuffle<T>(IList<T> items)
    {
        for (int i = items.Count - 1; i > 0; i--)
        {
            int j = Below(i + 1);
            (items[i], items[j]) = (items[j], items[i]);
        }
    }
}
