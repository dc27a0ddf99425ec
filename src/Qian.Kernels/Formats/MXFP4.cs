namespace Qian.Kernels;

// 32 values: one byte e for a power of two, 16 bytes of codes as in Q4_0. Value = 2^(e − 128) * doubled E2M1 level.
internal sealed class MXFP4() : QuantFormat(WeightType.MXFP4, "MXFP4", Values, CodesAt + Values / 2)
{
    private const int Values = 32;
    private const int CodesAt = 1;
    private const int Bias = 128;

    // 255 is the format's NaN.
    private const int HighestExponent = 254;

    // The largest level is 12, just under 2^4; the exponents around the one that puts the peak there are all tried.
    private const int PeakBits = 3;
    private const int TrialsBelow = 2;
    private const int TrialsAbove = 1;

    // The largest value of this grid that a float holds: 1.5 * 2^127.
    public override float LargestMagnitude => MathF.ScaleB(12, 124);

    protected override void UnpackBlock(ReadOnlySpan<byte> block, Span<sbyte> quants, Span<float> scales, Span<float> offsets)
    {
        scales[..2].Fill(PowerOfTwo(block[0]));
        LevelTable.Unpack(block[CodesAt..], FloatE2M1.Table, quants);
    }

    protected override void EncodeBlock(ReadOnlySpan<float> values, ReadOnlySpan<float> weights, bool fast, Span<byte> block)
    {
        float peak = MathF.Abs(ScaleSearch.Peak(values));
        if (peak == 0)
            return;

        // Exponents reach over the whole range of a float, whose squares do not fit: search on a copy with its peak near 1.
        int peakExponent = Math.ILogB(peak);
        Span<float> reduced = stackalloc float[Values];
        for (int index = 0; index < Values; index++)
            reduced[index] = MathF.ScaleB(values[index], -peakExponent);
        int centre = peakExponent + Bias - PeakBits;
        int best = Math.Clamp(centre, 0, HighestExponent);
        float bestError = float.PositiveInfinity;
        for (int trial = centre - TrialsBelow; trial <= centre + TrialsAbove; trial++)
        {
            int exponent = Math.Clamp(trial, 0, HighestExponent);
            float error = ScaleSearch.Error<FloatE2M1>(reduced, weights, MathF.ScaleB(1, exponent - Bias - peakExponent));
            if (error < bestError)
            {
                bestError = error;
                best = exponent;
            }
        }

        Span<sbyte> levels = stackalloc sbyte[Values];
        ScaleSearch.Quantize<FloatE2M1>(reduced, MathF.ScaleB(1, best - Bias - peakExponent), levels);
        block[0] = (byte)best;
        LevelTable.Pack(levels, FloatE2M1.Table, block[CodesAt..]);
    }

    // Exact, subnormal results included.
    private static float PowerOfTwo(byte exponent) => BitConverter.UInt32BitsToSingle(exponent < 2 ? 0x00200000u << exponent : (uint)(exponent - 1) << 23);
}
