namespace Qian.Kernels.Tests.Formats;

public class DecodeTests
{
    // One float32 rounding: half a unit in the last place is at most 2^-24 of the value.
    private const float OneRounding = 1.2e-7f;

    public static TheoryData<WeightType> AllTypes() => new(Enum.GetValues<WeightType>());

    public static TheoryData<WeightType> QuantizedTypes() => new(Enum.GetValues<WeightType>().Where(WeightFormat.IsQuantized));

    [Theory]
    [MemberData(nameof(AllTypes))]
    public void Decode_equals_the_golden_blocks(WeightType type)
    {
        if (type == WeightType.F32)
        {
            Assert.False(GoldenBlocks.Has(type)); // the values of an F32 file need no golden; see the round trip below
            return;
        }

        ReadOnlySpan<float> expected = GoldenBlocks.Values(type);
        var actual = new float[expected.Length];
        WeightFormat.Decode(type, GoldenBlocks.Blocks(type), actual);
        Assert.Equal(32 * WeightFormat.BlockValues(type), actual.Length);
        for (int index = 0; index < actual.Length; index++)
        {
            if (!(MathF.Abs(actual[index] - expected[index]) <= OneRounding * MathF.Abs(expected[index])))
                Assert.Fail($"{type} value {index}: expected {expected[index]:R}, found {actual[index]:R}");
        }
    }

    [Theory]
    [MemberData(nameof(QuantizedTypes))]
    public void Unpacked_integers_equal_the_golden_values(WeightType type)
    {
        ReadOnlySpan<float> expected = GoldenBlocks.Values(type);
        var quants = new sbyte[expected.Length];
        var scales = new float[expected.Length / 16];
        var offsets = new float[expected.Length / 16];
        Array.Fill(scales, float.NaN);
        Array.Fill(offsets, float.NaN);
        WeightFormat.UnpackInt8(type, GoldenBlocks.Blocks(type), quants, scales, offsets);
        int blockValues = WeightFormat.BlockValues(type);
        for (int index = 0; index < quants.Length; index++)
        {
            float blockPeak = 0;
            foreach (float value in expected.Slice(index / blockValues * blockValues, blockValues))
                blockPeak = MathF.Max(blockPeak, MathF.Abs(value));
            float actual = scales[index / 16] * quants[index] + offsets[index / 16];
            Assert.InRange(MathF.Abs(actual - expected[index]), 0, 1e-6f * blockPeak);
            Assert.True(type == WeightType.Q8_0 || quants[index] != -128);
        }

        Assert.Equal(WeightFormat.HasOffsets(type), offsets.Any(offset => offset != 0));
        if (!WeightFormat.HasOffsets(type))
        {
            var again = new sbyte[quants.Length];
            WeightFormat.UnpackInt8(type, GoldenBlocks.Blocks(type), again, scales, []);
            Assert.Equal(quants, again);
        }
    }
}
