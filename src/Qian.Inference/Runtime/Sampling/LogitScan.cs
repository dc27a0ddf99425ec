using System.Diagnostics.CodeAnalysis;
using System.Numerics;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace Qian.Inference.Runtime;

// The passes over all logits of a token, the only ones whose cost grows with the vocabulary. The logits are seen as blocks of 128:
// one pass leaves each block's maximum, and everything after asks only the blocks that can matter. 256-bit vectors on every machine,
// so that sums, and with them the tokens of a seed, do not depend on the vector width.

internal static class LogitScan
{
    public const int BlockSize = 128;

    public static int BlockCount(int count) => (count + BlockSize - 1) / BlockSize;

    /// <summary>Maximum per block, -infinity for a block without candidates; returns the maximum of all.</summary>
    /// <exception cref="InvalidOperationException">A logit is NaN or +infinity, or all are -infinity.</exception>
    public static float BlockMaxima(ReadOnlySpan<float> logits, Span<float> maxima)
    {
        Vector256<float> ordered = Vector256<float>.AllBitsSet;
        bool hasNaN = false;
        float max = float.NegativeInfinity;
        for (int block = 0; block < BlockCount(logits.Length); block++)
        {
            ReadOnlySpan<float> values = Block(logits, block);
            ReadOnlySpan<Vector256<float>> vectors = MemoryMarshal.Cast<float, Vector256<float>>(values);
            float blockMax = float.NegativeInfinity;
            int i = 0;
            if (vectors.Length >= 4)
            {
                // Native maximum ignores NaN in an order of its own; `ordered` is what finds them.
                Vector256<float> a = vectors[0], b = vectors[1], c = vectors[2], d = vectors[3];
                ordered &= Vector256.Equals(a, a) & Vector256.Equals(b, b) & Vector256.Equals(c, c) & Vector256.Equals(d, d);
                for (i = 4; i + 4 <= vectors.Length; i += 4)
                {
                    Vector256<float> va = vectors[i], vb = vectors[i + 1], vc = vectors[i + 2], vd = vectors[i + 3];
                    ordered &= (Vector256.Equals(va, va) & Vector256.Equals(vb, vb)) & (Vector256.Equals(vc, vc) & Vector256.Equals(vd, vd));
                    a = Vector256.MaxNative(a, va);
                    b = Vector256.MaxNative(b, vb);
                    c = Vector256.MaxNative(c, vc);
                    d = Vector256.MaxNative(d, vd);
                }

                a = Vector256.MaxNative(Vector256.MaxNative(a, b), Vector256.MaxNative(c, d));
                Vector128<float> half = Vector128.MaxNative(a.GetLower(), a.GetUpper());
                half = Vector128.MaxNative(half, Vector128.Shuffle(half, Vector128.Create(2, 3, 2, 3)));
                blockMax = MathF.Max(half[0], half[1]);
            }

            for (i *= Vector256<float>.Count; i < values.Length; i++)
            {
                hasNaN |= float.IsNaN(values[i]);
                blockMax = values[i] > blockMax ? values[i] : blockMax;
            }

            maxima[block] = blockMax;
            max = blockMax > max ? blockMax : max;
        }

        if (hasNaN || ordered.AsInt32() != Vector256<int>.AllBitsSet || !float.IsFinite(max))
            ThrowNotFinite(logits);
        return max;
    }

    /// <summary>sum of exp((logit - max) * scale) per block; returns the sum of all. The maxima are those of <see cref="BlockMaxima"/>.</summary>
    public static double BlockExpSums(ReadOnlySpan<float> logits, ReadOnlySpan<float> maxima, float max, float scale, Span<float> sums)
    {
        double total = 0;
        for (int block = 0; block < BlockCount(logits.Length); block++)
        {
            float sum = 0;
            // exp(-104) is 0 in float32.
            if ((maxima[block] - max) * scale > -104)
                sum = ExpSum(Block(logits, block), max, scale);
            sums[block] = sum;
            total += sum;
        }

        return total;
    }

    private static float ExpSum(ReadOnlySpan<float> values, float max, float scale)
    {
        Vector256<float> sum = Vector256<float>.Zero, maxVector = Vector256.Create(max), scaleVector = Vector256.Create(scale);
        ReadOnlySpan<Vector256<float>> vectors = MemoryMarshal.Cast<float, Vector256<float>>(values);
        foreach (Vector256<float> v in vectors)
            sum += Exp((v - maxVector) * scaleVector);
        float result = Vector256.Sum(sum);
        for (int i = vectors.Length * Vector256<float>.Count; i < values.Length; i++)
            result += Exp(Vector256.Create((values[i] - max) * scale))[0];
        return result;
    }

    /// <summary>weight = exp((value - max) * scale).</summary>
    public static void Weights(ReadOnlySpan<float> values, float max, float scale, Span<float> weights)
    {
        Vector256<float> maxVector = Vector256.Create(max), scaleVector = Vector256.Create(scale);
        int i = 0;
        for (; i + Vector256<float>.Count <= values.Length; i += Vector256<float>.Count)
            Exp((Vector256.Create(values[i..]) - maxVector) * scaleVector).CopyTo(weights[i..]);
        for (; i < values.Length; i++)
            weights[i] = Exp(Vector256.Create((values[i] - max) * scale))[0];
    }

    /// <summary>Ids and values of all logits of at least <paramref name="threshold"/> (finite), by rising id; returns how many.</summary>
    public static int Gather(ReadOnlySpan<float> logits, ReadOnlySpan<float> maxima, float threshold, Span<float> values, Span<int> ids)
    {
        int count = 0;
        Vector256<float> bound = Vector256.Create(threshold);
        for (int block = 0; block < BlockCount(logits.Length); block++)
        {
            if (!(maxima[block] >= threshold))
                continue;
            ReadOnlySpan<float> candidates = Block(logits, block);
            int first = block * BlockSize, i = 0;
            for (; i + Vector256<float>.Count <= candidates.Length; i += Vector256<float>.Count)
            {
                uint hits = Vector256.GreaterThanOrEqual(Vector256.Create(candidates[i..]), bound).ExtractMostSignificantBits();
                for (; hits != 0; hits &= hits - 1)
                {
                    int at = i + BitOperations.TrailingZeroCount(hits);
                    values[count] = candidates[at];
                    ids[count++] = first + at;
                }
            }

            for (; i < candidates.Length; i++)
            {
                if (candidates[i] >= threshold)
                {
                    values[count] = candidates[i];
                    ids[count++] = first + i;
                }
            }
        }

        return count;
    }

    /// <summary>The lowest id whose logit is <paramref name="max"/>.</summary>
    public static int IndexOfMax(ReadOnlySpan<float> logits, ReadOnlySpan<float> maxima, float max)
    {
        int block = maxima[..BlockCount(logits.Length)].IndexOf(max);
        return (block * BlockSize) + Block(logits, block).IndexOf(max);
    }

    public static ReadOnlySpan<float> Block(ReadOnlySpan<float> logits, int block) =>
        logits.Slice(block * BlockSize, Math.Min(BlockSize, logits.Length - (block * BlockSize)));

    // e^x for x <= 0 to about 1 ulp: x = n ln2 + r, a degree-6 polynomial for e^r, n put into the exponent. Results that would be
    // subnormal (x below -87.3) are 0: no such token is ever drawn.
    private static Vector256<float> Exp(Vector256<float> x)
    {
        Vector256<float> n = Vector256.Round(x * Vector256.Create(1.44269504f));
        Vector256<float> r = Vector256.FusedMultiplyAdd(n, Vector256.Create(-0.693145752f), x);
        r = Vector256.FusedMultiplyAdd(n, Vector256.Create(-1.42860677e-6f), r);
        Vector256<float> p = Vector256.Create(1f / 720);
        p = Vector256.FusedMultiplyAdd(p, r, Vector256.Create(1f / 120));
        p = Vector256.FusedMultiplyAdd(p, r, Vector256.Create(1f / 24));
        p = Vector256.FusedMultiplyAdd(p, r, Vector256.Create(1f / 6));
        p = Vector256.FusedMultiplyAdd(p, r, Vector256.Create(0.5f));
        p = Vector256.FusedMultiplyAdd(p, r, Vector256<float>.One);
        p = Vector256.FusedMultiplyAdd(p, r, Vector256<float>.One);
        Vector256<int> exponent = Vector256.ConvertToInt32Native(n) + Vector256.Create(127);
        Vector256<float> result = p * (exponent << 23).AsSingle();
        return Vector256.ConditionalSelect(Vector256.GreaterThan(x, Vector256.Create(-87.3f)), result, Vector256<float>.Zero);
    }

    [DoesNotReturn]
    private static void ThrowNotFinite(ReadOnlySpan<float> logits)
    {
        for (int id = 0; id < logits.Length; id++)
        {
            if (float.IsNaN(logits[id]) || float.IsPositiveInfinity(logits[id]))
            {
                throw new InvalidOperationException(
                    $"Logit of token {id} is {(float.IsNaN(logits[id]) ? "NaN" : "+infinity")}: the model's output is broken, no token can be chosen from it.");
            }
        }

        throw new InvalidOperationException("No token is allowed: every logit is -infinity after masks and bias.");
    }
}
