namespace Qian.Inference.Runtime;

// Random numbers as a pure function of (seed, token index): no state to save, share or lose. A sequence resumed at token n, or
// moved to another batch, draws what it would have drawn. The function is the SplitMix64 output (Steele, Lea, Flood 2014) at
// counter `index` of a stream whose start is itself a mix of the seed, so that seeds 1 and 2 are unrelated streams.

internal static class CounterRandom
{
    private const ulong Gamma = 0x9E3779B97F4A7C15;

    /// <summary>64 random bits.</summary>
    public static ulong Bits(ulong seed, long index) => unchecked(Mix(Mix(seed + Gamma) + (((ulong)index + 1) * Gamma)));

    /// <summary>Uniform in [0, 1), 53 bits.</summary>
    public static double Uniform(ulong seed, long index) => (Bits(seed, index) >> 11) * (1.0 / (1UL << 53));

    private static ulong Mix(ulong z)
    {
        unchecked
        {
            z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
            z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
            return z ^ (z >> 31);
        }
    }
}
