namespace Qian.Nano;

internal enum Split
{
    Training,
    HeldOut,
}

// What is held out is decided by a fixed hash of each trait of a sample (its composition, its wording, each identifier), never by
// the dice: so no seed and no amount of data can carry a held-out composition, wording or name into training.
internal static class Partition
{
    // One trait in so many is held out.
    private const ulong HeldOutShare = 8;

    public static bool IsHeldOut(string kind, string key) => Hash(kind + ":" + key) % HeldOutShare == 0;

    public static bool Admits(this Split split, string kind, string key) => IsHeldOut(kind, key) == (split == Split.HeldOut);

    // FNV-1a, finished with a mix because its low bits are weak.
    public static ulong Hash(string text)
    {
        ulong hash = 0xCBF29CE484222325;
        foreach (char c in text)
            hash = (hash ^ c) * 0x100000001B3;
        hash = (hash ^ (hash >> 33)) * 0xFF51AFD7ED558CCD;
        return hash ^ (hash >> 33);
    }
}
