using System.Runtime.InteropServices;
using System.Security.Cryptography;

namespace Qian.Kernels.Tests.Formats;

public class EncodeTests
{
    private const int ColumnCount = 512;

    public static TheoryData<WeightType> WritableTypes() => new(Enum.GetValues<WeightType>().Where(WeightFormat.CanEncode));

    public static TheoryData<WeightType> SearchedTypes() =>
        new(Enum.GetValues<WeightType>().Where(type => WeightFormat.CanEncode(type) && WeightFormat.IsQuantized(type)));

    // Relative rms error of the search over 65536 values, measured once per type, plus 1 %: gaussian and Student t (4 degrees
    // of freedom), as they are and with log-normal importance per column (sigma 1.5).
    [Theory]
    [MemberData(nameof(SearchedTypes))]
    public void Errors_stay_below_the_measured_bounds_and_plain_rounding(WeightType type)
    {
        float[] importance = SampleData.Importance(ColumnCount);
        foreach ((string name, float[] values) in new[] { ("gaussian", SampleData.Gaussian(1 << 16)), ("student", SampleData.Student(1 << 16)) })
        {
            double plain = RelativeError(values, PlainRounding.Apply(type, values), default);
            double searched = RelativeError(values, RoundTrip(type, values, default), default);
            double weighted = RelativeError(values, RoundTrip(type, values, importance), importance);
            double unweighted = RelativeError(values, RoundTrip(type, values, default), importance);
            double bound = name == "gaussian" ? s_bounds[type].Gaussian : s_bounds[type].Student;
            double weightedBound = name == "gaussian" ? s_bounds[type].WeightedGaussian : s_bounds[type].WeightedStudent;
            string report = $"{type} {name}: plain {plain:F5}, searched {searched:F5}, weighted {weighted:F5}, unweighted by weights {unweighted:F5}";
            Assert.True(searched < plain, report);
            Assert.True(weighted < unweighted, report);
            Assert.True(searched < 1.01 * bound, report);
            Assert.True(weighted < 1.01 * weightedBound, report);
        }
    }

    private static readonly Dictionary<WeightType, (double Gaussian, double Student, double WeightedGaussian, double WeightedStudent)> s_bounds = new()
    {
        [WeightType.Q8_0] = (0.00479, 0.00668, 0.00386, 0.00532),
        [WeightType.Q4_0] = (0.08128, 0.11190, 0.06880, 0.09379),
        [WeightType.Q4_1] = (0.06941, 0.08413, 0.05412, 0.06460),
        [WeightType.Q5_0] = (0.04021, 0.05654, 0.03376, 0.04764),
        [WeightType.Q5_1] = (0.03378, 0.04086, 0.02660, 0.03183),
        [WeightType.Q2_K] = (0.25900, 0.28513, 0.18431, 0.20149),
        [WeightType.Q3_K] = (0.14368, 0.17599, 0.11610, 0.14336),
        [WeightType.Q4_K] = (0.06996, 0.08495, 0.05469, 0.06549),
        [WeightType.Q5_K] = (0.03455, 0.04184, 0.02769, 0.03321),
        [WeightType.Q6_K] = (0.01645, 0.02163, 0.01263, 0.01705),
        [WeightType.IQ4_NL] = (0.07345, 0.09044, 0.05909, 0.07323),
        [WeightType.IQ4_XS] = (0.07389, 0.09117, 0.05971, 0.07416),
        [WeightType.MXFP4] = (0.11111, 0.12763, 0.11005, 0.12308),
        [WeightType.NVFP4] = (0.08128, 0.08325, 0.06407, 0.06667),
        [WeightType.IQ3_S] = (0.12915, 0.15097, 0.08982, 0.11243),
        [WeightType.IQ3_XXS] = (0.17567, 0.19507, 0.11198, 0.13095),
        [WeightType.IQ2_S] = (0.23970, 0.28851, 0.17805, 0.21494),
        [WeightType.IQ2_XS] = (0.28395, 0.31573, 0.19385, 0.22437),
        [WeightType.IQ2_XXS] = (0.32657, 0.37205, 0.22709, 0.26991),
    };

    // Without the search: no worse than plain rounding, and importance counts; the search is better.
    [Theory]
    [InlineData(WeightType.Q2_K)]
    [InlineData(WeightType.Q3_K)]
    [InlineData(WeightType.Q4_K)]
    [InlineData(WeightType.Q5_K)]
    [InlineData(WeightType.Q6_K)]
    public void Fast_encoding_lies_between_plain_rounding_and_the_search(WeightType type)
    {
        float[] importance = SampleData.Importance(ColumnCount);
        foreach (float[] values in new[] { SampleData.Gaussian(1 << 16), SampleData.Student(1 << 16) })
        {
            var bytes = new byte[WeightFormat.RowBytes(type, values.Length)];
            WeightFormat.Encode(type, values, bytes, fast: true);
            double fast = RelativeError(values, Decode(type, bytes), default);
            Assert.InRange(fast, RelativeError(values, RoundTrip(type, values, default), default), RelativeError(values, PlainRounding.Apply(type, values), default));
            WeightFormat.Encode(type, values, bytes, importance, fast: true);
            Assert.True(RelativeError(values, Decode(type, bytes), importance) < fast);
        }
    }

    // Blocks without a range, and scales at either end of what a half holds.
    [Theory]
    [MemberData(nameof(SearchedTypes))]
    public void Fast_encoding_takes_what_the_search_takes(WeightType type)
    {
        foreach (float size in new[] { 0, 1e-40f, 1e-7f, 1, 1000 })
        {
            float[] values = SampleData.Gaussian(512);
            for (int index = 0; index < values.Length; index++)
                values[index] = index < 256 ? size * Math.Clamp(values[index], -2, 2) : size;
            var bytes = new byte[WeightFormat.RowBytes(type, values.Length)];
            WeightFormat.Encode(type, values, bytes, fast: true);
            float[] decoded = Decode(type, bytes);
            for (int index = 0; index < values.Length; index++)
                Assert.True(MathF.Abs(decoded[index] - values[index]) <= 2 * size, $"{type} at {size}: {values[index]:R} became {decoded[index]:R}");
        }
    }

    [Theory]
    [MemberData(nameof(WritableTypes))]
    public void Encoding_is_deterministic_and_blocks_do_not_depend_on_each_other(WeightType type)
    {
        float[] values = SampleData.Student(8 * 256);
        byte[] once = Encode(type, values, default);
        Assert.Equal(once, Encode(type, values, default));
        Assert.Equal(once[(once.Length / 2)..], Encode(type, values[(values.Length / 2)..], default));
        var equal = new float[256];
        Array.Fill(equal, 2f);
        Assert.Equal(once, Encode(type, values, equal));
    }

    // The bytes of every machine and tier, plain and with importance. A change of a search changes them, and has to say what it did to the errors above.
    [Theory]
    [InlineData(WeightType.IQ4_NL, "A89982340A829C3E")]
    [InlineData(WeightType.IQ4_XS, "64312A0CC70D3EDA")]
    [InlineData(WeightType.IQ3_S, "61DAAAC2C3262E63")]
    [InlineData(WeightType.IQ3_XXS, "697484182C28B308")]
    [InlineData(WeightType.IQ2_S, "1A15C4C0D72954E0")]
    [InlineData(WeightType.IQ2_XS, "BEF73ED60E57F5E1")]
    [InlineData(WeightType.IQ2_XXS, "841DBFF3FBAC8CBB")]
    public void Every_machine_writes_the_same_bytes(WeightType type, string hash)
    {
        // No function of the platform: sums of whole numbers, which grow from block to block so that scales of all sizes occur.
        var values = new float[64 * 256];
        var importance = new float[512];
        uint state = 1;
        for (int index = 0; index < values.Length; index++)
            values[index] = MathF.ScaleB(Next() + Next() + Next() - 3 * 32768, index / 256 - 58);
        for (int index = 0; index < importance.Length; index++)
            importance[index] = Next() * Next();
        byte[] bytes = [.. Encode(type, values, default), .. Encode(type, values, importance)];
        Assert.Equal(hash, Convert.ToHexString(SHA256.HashData(bytes))[..16]);

        float Next() => (state = state * 1664525 + 1013904223) >> 16;
    }

    [Theory]
    [MemberData(nameof(WritableTypes))]
    public void Zero_blocks_encode_to_zeros(WeightType type)
    {
        var zeros = new float[512];
        for (int index = 0; index < zeros.Length; index += 3)
            zeros[index] = type is WeightType.F32 or WeightType.F16 or WeightType.BF16 ? 0 : -0f;
        byte[] bytes = Encode(type, zeros, default);
        Assert.All(bytes, value => Assert.Equal(0, value));
        Assert.All(Decode(type, bytes), value => Assert.Equal(0f, value));
    }

    [Theory]
    [MemberData(nameof(WritableTypes))]
    public void Values_that_are_not_finite_are_refused_by_index(WeightType type)
    {
        foreach (float bad in new[] { float.NaN, float.PositiveInfinity, float.NegativeInfinity })
        {
            foreach (int index in new[] { 0, 300, 511 })
            {
                float[] values = SampleData.Gaussian(512);
                values[index] = bad;
                var bytes = new byte[WeightFormat.RowBytes(type, 512)];
                var error = Assert.Throws<ArgumentException>(() => WeightFormat.Encode(type, values, bytes));
                Assert.Contains($"Value {index} ", error.Message, StringComparison.Ordinal);
            }
        }
    }

    [Theory]
    [MemberData(nameof(SearchedTypes))]
    public void Weights_that_are_negative_or_not_finite_are_refused_by_index(WeightType type)
    {
        foreach (float bad in new[] { float.NaN, float.PositiveInfinity, -1f })
        {
            float[] importance = SampleData.Importance(512);
            importance[77] = bad;
            var bytes = new byte[WeightFormat.RowBytes(type, 512)];
            var error = Assert.Throws<ArgumentException>(() => WeightFormat.Encode(type, new float[512], bytes, importance));
            Assert.Contains("Weight 77 ", error.Message, StringComparison.Ordinal);
        }
    }

    // Whatever the scale of the data, what comes back is finite and not further away than the largest value; an unimportant
    // value may take the other sign.
    [Theory]
    [MemberData(nameof(SearchedTypes))]
    public void Any_magnitude_is_encoded_or_refused(WeightType type)
    {
        bool wasRefused = false;
        for (int exponent = -149; exponent <= 127; exponent++)
        {
            float[] values = SampleData.Gaussian(256);
            for (int index = 0; index < values.Length; index++)
                values[index] = MathF.ScaleB(Math.Clamp(values[index], -1.9f, 1.9f), exponent);
            float peak = values.Max(MathF.Abs);
            bool isWeighted = exponent % 2 != 0;
            float[] decoded;
            try
            {
                decoded = RoundTrip(type, values, isWeighted ? SampleData.Importance(256) : default);
            }
            catch (ArgumentException)
            {
                wasRefused = true;
                continue;
            }

            Assert.False(wasRefused && type != WeightType.MXFP4, $"{type}: 2^{exponent} is encoded although smaller values were refused");
            for (int index = 0; index < values.Length; index++)
                Assert.True(MathF.Abs(decoded[index] - values[index]) <= (isWeighted ? 2 : 1) * peak, $"{type} at 2^{exponent}: {values[index]:R} became {decoded[index]:R}");
            // A half scale ends at 2^-24, its steps are fine from 2^-10 on; the 8-bit scale of NVFP4 ends at 2^-9.
            if (exponent >= (type == WeightType.NVFP4 ? 0 : 2))
                Assert.True(RelativeError(values, decoded, default) < 0.6);
        }

        Assert.True(wasRefused);
    }

    [Theory]
    [InlineData(WeightType.Q8_0)]
    [InlineData(WeightType.Q4_0)]
    [InlineData(WeightType.Q5_0)]
    [InlineData(WeightType.MXFP4)]
    [InlineData(WeightType.NVFP4)]
    public void Representable_values_return_exactly(WeightType type)
    {
        // Decoded blocks of a first encoding: their levels reach the ends that a trial of the search looks for.
        float[] values = RoundTrip(type, SampleData.Gaussian(1 << 14), default);
        Assert.Equal(values, RoundTrip(type, values, default));
        Assert.Equal(values, RoundTrip(type, values, SampleData.Importance(ColumnCount)));
    }

    [Theory]
    [InlineData(WeightType.F16)]
    [InlineData(WeightType.BF16)]
    [InlineData(WeightType.F32)]
    public void Float_types_return_all_their_finite_values(WeightType type)
    {
        var bits = new ushort[65536];
        for (int index = 0; index < bits.Length; index++)
            bits[index] = (ushort)index;
        byte[] bytes = MemoryMarshal.AsBytes(bits.AsSpan()).ToArray();
        float[] values = Decode(type, bytes);
        for (int index = 0; index < values.Length; index++)
        {
            float expected = type switch
            {
                WeightType.F16 => (float)BitConverter.UInt16BitsToHalf((ushort)index),
                WeightType.BF16 => BitConverter.UInt32BitsToSingle((uint)index << 16),
                _ => BitConverter.ToSingle(bytes, 4 * index),
            };
            // The cast of a Half makes NaNs quiet; which NaN does not matter.
            Assert.True(BitConverter.SingleToUInt32Bits(expected) == BitConverter.SingleToUInt32Bits(values[index])
                || (float.IsNaN(expected) && float.IsNaN(values[index])));
        }

        float[] finite = values.Where(float.IsFinite).ToArray();
        Assert.Equal(finite.Select(BitConverter.SingleToUInt32Bits), RoundTrip(type, finite, default).Select(BitConverter.SingleToUInt32Bits));
    }

    [Fact]
    public void Float_types_round_to_nearest_even()
    {
        var random = new Random(11);
        var values = new float[4096 + 5];
        for (int index = 0; index < values.Length; index++)
        {
            // Half of the numbers are exact ties of BF16 (low half 0x8000); F16 gets its own below.
            uint bits = (uint)random.Next(0x38000000, 0x47000000) | (uint)random.Next(2) << 31;
            values[index] = BitConverter.UInt32BitsToSingle(index % 2 == 0 ? bits : (bits & 0xFFFF0000) | 0x8000);
        }

        float[] rounded = RoundTrip(WeightType.BF16, values, default);
        for (int index = 0; index < values.Length; index++)
        {
            uint down = BitConverter.SingleToUInt32Bits(values[index]) & 0xFFFF0000;
            double below = Math.Abs((double)values[index] - BitConverter.UInt32BitsToSingle(down));
            double above = Math.Abs((double)values[index] - BitConverter.UInt32BitsToSingle(down + 0x10000));
            bool up = above < below || (above == below && (down & 0x10000) != 0);
            Assert.Equal(BitConverter.UInt32BitsToSingle(up ? down + 0x10000 : down), rounded[index]);
        }

        Assert.Equal([2048f, 2052f, 0f, 1 / 16777216f], RoundTrip(WeightType.F16, [2049f, 2051f, 1 / 33554432f, 1.5f / 33554432f], default));
        Assert.Throws<ArgumentException>(() => RoundTrip(WeightType.F16, [65520f], default));
        Assert.Equal([65504f], RoundTrip(WeightType.F16, [65519f], default));
    }

    private static float[] RoundTrip(WeightType type, float[] values, ReadOnlySpan<float> importance) => Decode(type, Encode(type, values, importance));

    private static byte[] Encode(WeightType type, float[] values, ReadOnlySpan<float> importance)
    {
        var bytes = new byte[WeightFormat.RowBytes(type, values.Length)];
        Array.Fill(bytes, (byte)0xA5); // what lay there before must not shine through
        WeightFormat.Encode(type, values, bytes, importance);
        return bytes;
    }

    private static float[] Decode(WeightType type, byte[] bytes)
    {
        var values = new float[bytes.Length / WeightFormat.BlockBytes(type) * WeightFormat.BlockValues(type)];
        WeightFormat.Decode(type, bytes, values);
        return values;
    }

    private static double RelativeError(float[] expected, float[] actual, ReadOnlySpan<float> importance)
    {
        double error = 0;
        double square = 0;
        for (int index = 0; index < expected.Length; index++)
        {
            double weight = importance.IsEmpty ? 1 : importance[index % importance.Length];
            error += weight * Math.Pow((double)expected[index] - actual[index], 2);
            square += weight * Math.Pow(expected[index], 2);
        }

        return Math.Sqrt(error / square);
    }
}
