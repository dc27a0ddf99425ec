using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace Qian.Kernels;

// One storage type of weights: its name, the size of its block and the way in and out of it.
// A derived class is the only place that knows its layout. What all types share stands here: which input a type
// refuses, so that a NaN or a value beyond its range never becomes a block of plausible numbers.
// Not known here: tensors, rows, files, threads.
internal abstract class BlockFormat(WeightType type, string name, int blockValues, int blockBytes)
{
    public WeightType Type { get; } = type;

    // The name that GGUF gives the type.
    public string Name { get; } = name;

    // Values in a block, the smallest piece that can be read alone.
    public int BlockValues { get; } = blockValues;

    public int BlockBytes { get; } = blockBytes;

    // The largest magnitude that any block can hold when its neighbours allow it; 0 where the type is only read.
    public virtual float LargestMagnitude => 0;

    public abstract void Decode(ReadOnlySpan<byte> source, Span<float> destination);

    // Source values are finite and within LargestMagnitude; importance is empty or a divisor of the source's length.
    public abstract void Encode(ReadOnlySpan<float> source, Span<byte> destination, ReadOnlySpan<float> importance, bool fast);

    // Index of the first value that is not finite or too large, -1 if there is none.
    public static int IndexOutside(ReadOnlySpan<float> values, float largest)
    {
        ReadOnlySpan<Vector256<float>> vectors = MemoryMarshal.Cast<float, Vector256<float>>(values);
        Vector256<float> bound = Vector256.Create(largest);
        int index = 0;
        // A NaN fails every comparison, so "all within" is the test that catches it.
        while (index < vectors.Length && Vector256.LessThanOrEqualAll(Vector256.Abs(vectors[index]), bound))
            index++;
        for (index *= Vector256<float>.Count; index < values.Length; index++)
        {
            if (!(MathF.Abs(values[index]) <= largest))
                return index;
        }

        return -1;
    }
}
