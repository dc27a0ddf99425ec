namespace Qian.Kernels.Tests.Formats;

public class WeightFormatTests
{
    [Theory]
    [InlineData(WeightType.F32, 1, 4, 32.0)]
    [InlineData(WeightType.BF16, 1, 2, 16.0)]
    [InlineData(WeightType.Q8_0, 32, 34, 8.5)]
    [InlineData(WeightType.Q5_1, 32, 24, 6.0)]
    [InlineData(WeightType.Q2_K, 256, 84, 2.625)]
    [InlineData(WeightType.Q3_K, 256, 110, 3.4375)]
    [InlineData(WeightType.Q4_K, 256, 144, 4.5)]
    [InlineData(WeightType.Q5_K, 256, 176, 5.5)]
    [InlineData(WeightType.Q6_K, 256, 210, 6.5625)]
    [InlineData(WeightType.IQ4_XS, 256, 136, 4.25)]
    [InlineData(WeightType.MXFP4, 32, 17, 4.25)]
    [InlineData(WeightType.NVFP4, 64, 36, 4.5)]
    [InlineData(WeightType.IQ1_M, 256, 56, 1.75)]
    public void Sizes_are_those_of_the_format(WeightType type, int values, int bytes, double bits)
    {
        Assert.Equal(values, WeightFormat.BlockValues(type));
        Assert.Equal(bytes, WeightFormat.BlockBytes(type));
        Assert.Equal(bits, WeightFormat.BitsPerWeight(type));
        Assert.Equal(2L * bytes, WeightFormat.RowBytes(type, 2 * values));
        Assert.Equal(0L, WeightFormat.RowBytes(type, 0));
        Assert.Throws<ArgumentException>(() => WeightFormat.RowBytes(type, -values));
        if (values > 1)
            Assert.Throws<ArgumentException>(() => WeightFormat.RowBytes(type, values + 1));
    }

    [Fact]
    public void Every_type_has_a_name_that_parses_back()
    {
        foreach (WeightType type in Enum.GetValues<WeightType>())
        {
            Assert.True(WeightFormat.IsDefined(type));
            Assert.Equal(type.ToString(), WeightFormat.Name(type));
            Assert.True(WeightFormat.TryParse(WeightFormat.Name(type).ToLowerInvariant(), out WeightType parsed));
            Assert.Equal(type, parsed);
        }
    }

    [Theory]
    [InlineData("12")]
    [InlineData("")]
    [InlineData(null)]
    [InlineData("Q4_K_M")]
    public void Other_names_do_not_parse(string? name) => Assert.False(WeightFormat.TryParse(name, out _));

    [Theory]
    [InlineData(4)]
    [InlineData(-1)]
    [InlineData(41)]
    [InlineData(int.MaxValue)]
    [InlineData(int.MinValue)]
    public void Unknown_numbers_are_refused(int number)
    {
        var type = (WeightType)number;
        Assert.False(WeightFormat.IsDefined(type));
        Assert.Throws<ArgumentException>(() => WeightFormat.BlockBytes(type));
        Assert.Throws<ArgumentException>(() => WeightFormat.Decode(type, [], []));
    }

    [Fact]
    public void Exactly_the_types_below_two_bits_are_only_read()
    {
        foreach (WeightType type in Enum.GetValues<WeightType>())
        {
            bool isOnlyRead = type is WeightType.IQ1_S or WeightType.IQ1_M;
            Assert.Equal(!isOnlyRead, WeightFormat.CanEncode(type));
            if (isOnlyRead)
                Assert.Throws<ArgumentException>(() => WeightFormat.Encode(type, [], []));
        }
    }

    [Fact]
    public void Lengths_that_do_not_fit_are_refused()
    {
        foreach (WeightType type in Enum.GetValues<WeightType>())
        {
            int values = WeightFormat.BlockValues(type);
            int bytes = WeightFormat.BlockBytes(type);
            Assert.Throws<ArgumentException>(() => WeightFormat.Decode(type, new byte[2 * bytes - 1], new float[2 * values]));
            Assert.Throws<ArgumentException>(() => WeightFormat.Decode(type, new byte[2 * bytes], new float[2 * values - 1]));
            Assert.Throws<ArgumentException>(() => WeightFormat.Decode(type, new byte[2 * bytes], new float[2 * values + 1]));
            if (WeightFormat.CanEncode(type))
            {
                Assert.Throws<ArgumentException>(() => WeightFormat.Encode(type, new float[2 * values], new byte[bytes]));
                Assert.Throws<ArgumentException>(() => WeightFormat.Encode(type, new float[2 * values], new byte[2 * bytes], new float[3 * values]));
            }

            if (!WeightFormat.IsQuantized(type))
            {
                Assert.Throws<ArgumentException>(() => WeightFormat.UnpackInt8(type, new byte[16 * bytes], new sbyte[16], new float[1], new float[1]));
                continue;
            }

            int groups = values / 16;
            Assert.Throws<ArgumentException>(() => WeightFormat.UnpackInt8(type, new byte[bytes], new sbyte[values - 1], new float[groups], new float[groups]));
            Assert.Throws<ArgumentException>(() => WeightFormat.UnpackInt8(type, new byte[bytes], new sbyte[values], new float[groups + 1], new float[groups]));
            Assert.Throws<ArgumentException>(() => WeightFormat.UnpackInt8(type, new byte[bytes], new sbyte[values], new float[groups], new float[groups + 1]));
        }
    }
}
