using System.Numerics;

namespace Qian.Inference.Runtime;

// Working memory of one thread that samples, and the exact selection on it: Keep leaves the greatest values whose weights reach a
// target. Weight 1 makes it top-k, probabilities make it top-p. The selection is a radix descent over the bits in which
// the candidates differ: 256 buckets a level, at most 4 levels, no sort, no order of input that makes it slow.
// Sized for the worst case (every logit a candidate), so that nothing is allocated per token.

internal sealed class SamplingScratch
{
    private readonly double[] _mass = new double[256];

    public SamplingScratch(int vocabularySize)
    {
        int blockCount = LogitScan.BlockCount(vocabularySize);
        Values = new float[Math.Max(vocabularySize, blockCount)];
        Ids = new int[Values.Length];
        Weights = new float[Values.Length];
        BlockMaxima = new float[blockCount];
        BlockSums = new float[blockCount];
    }

    /// <summary>Logits of the candidates.</summary>
    public float[] Values { get; }

    /// <summary>Their token ids, rising.</summary>
    public int[] Ids { get; }

    /// <summary>Their weights.</summary>
    public float[] Weights { get; }

    /// <summary>Per block of <see cref="LogitScan.BlockSize"/> logits.</summary>
    public float[] BlockMaxima { get; }

    public float[] BlockSums { get; }

    /// <summary>
    /// Makes the <paramref name="k"/> greatest logits the candidates, the lowest ids on a tie, fewer when fewer are finite; returns how
    /// many. <see cref="BlockMaxima"/> must be those of <paramref name="logits"/>.
    /// </summary>
    public int GatherTop(ReadOnlySpan<float> logits, int k)
    {
        int count = Gather(logits, TopThreshold(LogitScan.BlockCount(logits.Length), k));
        if (count <= k)
            return count;
        Weights.AsSpan(0, count).Fill(1);
        return Keep(count, k);
    }

    /// <summary>Makes all logits of at least <paramref name="threshold"/>, which is finite, the candidates; returns how many.</summary>
    public int Gather(ReadOnlySpan<float> logits, float threshold) => LogitScan.Gather(logits, BlockMaxima, threshold, Values, Ids);

    // A bound that at least k logits reach, and few more: the k-th greatest maximum of a block.
    private float TopThreshold(int blockCount, int k)
    {
        if (k >= blockCount)
            return float.MinValue;
        BlockMaxima.AsSpan(0, blockCount).CopyTo(Values);
        Weights.AsSpan(0, blockCount).Fill(1);
        int kept = Keep(blockCount, k);
        float threshold = float.PositiveInfinity;
        for (int i = 0; i < kept; i++)
            threshold = Math.Min(threshold, Values[i]);
        return Math.Max(threshold, float.MinValue);
    }

    /// <summary>
    /// Of the first <paramref name="count"/> candidates keeps the fewest, greatest value first and lowest index on a tie, whose
    /// weights sum to <paramref name="target"/> or more; their order stays. All, if all together do not reach it.
    /// </summary>
    public int Keep(int count, double target)
    {
        ReadOnlySpan<float> values = Values.AsSpan(0, count), weights = Weights.AsSpan(0, count);
        Span<double> mass = _mass;
        uint low = uint.MaxValue, high = 0;
        foreach (float value in values)
        {
            uint key = Key(value);
            low = Math.Min(low, key);
            high = Math.Max(high, key);
        }

        // Invariant: keys above `high` are kept and weigh `above`, which is short of the target; keys below `low` are dropped.
        double above = 0;
        while (low != high)
        {
            int shift = Math.Max(0, 24 - BitOperations.LeadingZeroCount(high - low));
            mass.Clear();
            for (int i = 0; i < values.Length; i++)
            {
                uint key = Key(values[i]);
                if (unchecked(key - low) <= high - low)
                    mass[(int)((high - key) >> shift)] += weights[i];
            }

            int bucket = 0;
            while (bucket < 256 && above + mass[bucket] < target)
                above += mass[bucket++];
            if (bucket == 256)
            {
                // Short of the target, by the rounding of another order of summation or because all is too little: keep the whole range.
                high = low;
                above = double.NegativeInfinity;
                break;
            }

            high -= (uint)bucket << shift;
            low = Math.Max(low, high - Math.Min(high, (1u << shift) - 1));
        }

        int kept = 0;
        bool first = true;
        for (int i = 0; i < values.Length; i++)
        {
            uint key = Key(values[i]);
            if (key < high)
                continue;
            if (key == high)
            {
                // `first`: a target of 0 keeps one.
                if (above >= target && !first)
                    continue;
                above += weights[i];
                first = false;
            }

            Move(i, kept++);
        }

        return kept;
    }

    /// <summary>Keeps the candidates whose weight is at least <paramref name="least"/>; returns how many stay.</summary>
    public int KeepWeighty(int count, float least)
    {
        int kept = 0;
        for (int i = 0; i < count; i++)
        {
            if (Weights[i] >= least)
                Move(i, kept++);
        }

        return kept;
    }

    public double WeightSum(int count)
    {
        double sum = 0;
        for (int i = 0; i < count; i++)
            sum += Weights[i];
        return sum;
    }

    private void Move(int from, int to)
    {
        Values[to] = Values[from];
        Ids[to] = Ids[from];
        Weights[to] = Weights[from];
    }

    // Unsigned integers in the order of the floats, without a branch on the sign; adding 0 makes one zero of the two.
    private static uint Key(float value)
    {
        int bits = BitConverter.SingleToInt32Bits(value + 0f);
        return unchecked((uint)(bits ^ ((bits >> 31) | int.MinValue)));
    }
}
