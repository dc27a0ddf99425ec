using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace Qian.Weights;

// Random bytes at memory speed: four xoshiro256++ generators (Blackman and Vigna) side by side in vector lanes. The state is
// derived from a key, so any piece of a file can be made alone, in any order, on any machine, with the same result.
internal struct RandomBytes
{
    private Vector256<ulong> _a, _b, _c, _d;

    public RandomBytes(ulong key)
    {
        _a = Lanes(ref key);
        _b = Lanes(ref key);
        _c = Lanes(ref key);
        _d = Lanes(ref key);
    }

    // One key out of several parts.
    public static ulong Key(ulong seed, ulong first, ulong second, ulong third)
    {
        ulong key = NextWord(ref seed);
        key ^= first;
        key = NextWord(ref key) ^ second;
        key = NextWord(ref key) ^ third;
        return NextWord(ref key);
    }

    public void Fill(Span<byte> destination)
    {
        Span<Vector256<ulong>> vectors = MemoryMarshal.Cast<byte, Vector256<ulong>>(destination);
        RandomBytes state = this; // a local copy lives in registers
        for (int i = 0; i < vectors.Length; i++)
            vectors[i] = state.Next();
        Span<byte> rest = destination[(vectors.Length * Vector256<byte>.Count)..];
        if (!rest.IsEmpty)
        {
            Vector256<ulong> last = state.Next();
            MemoryMarshal.AsBytes(new ReadOnlySpan<Vector256<ulong>>(in last))[..rest.Length].CopyTo(rest);
        }

        this = state;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private Vector256<ulong> Next()
    {
        Vector256<ulong> result = Rotate(_a + _d, 23) + _a;
        Vector256<ulong> shifted = _b << 17;
        _c ^= _a;
        _d ^= _b;
        _b ^= _c;
        _a ^= _d;
        _c ^= shifted;
        _d = Rotate(_d, 45);
        return result;
    }

    private static Vector256<ulong> Rotate(Vector256<ulong> value, int count) => (value << count) | (value >>> (64 - count));

    private static Vector256<ulong> Lanes(ref ulong key) => Vector256.Create(NextWord(ref key), NextWord(ref key), NextWord(ref key), NextWord(ref key));

    // SplitMix64: every bit of the key reaches every bit of the word.
    private static ulong NextWord(ref ulong key)
    {
        unchecked
        {
            ulong value = key += 0x9E3779B97F4A7C15;
            value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9;
            value = (value ^ (value >> 27)) * 0x94D049BB133111EB;
            return value ^ (value >> 31);
        }
    }
}
