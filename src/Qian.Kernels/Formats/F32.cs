using System.Runtime.InteropServices;

namespace Qian.Kernels;

// The plain float.
internal sealed class F32() : BlockFormat(WeightType.F32, "F32", 1, 4)
{
    public override float LargestMagnitude => float.MaxValue;

    public override void Decode(ReadOnlySpan<byte> source, Span<float> destination) =>
        source.CopyTo(MemoryMarshal.AsBytes(destination));

    public override void Encode(ReadOnlySpan<float> source, Span<byte> destination, ReadOnlySpan<float> importance, bool fast) =>
        MemoryMarshal.AsBytes(source).CopyTo(destination);
}
