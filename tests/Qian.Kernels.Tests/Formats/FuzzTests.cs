namespace Qian.Kernels.Tests.Formats;

public class FuzzTests
{
    public static TheoryData<WeightType> AllTypes() => new(Enum.GetValues<WeightType>());

    // A file may hold any bytes. They decode to something, and both ways of reading agree bit for bit on what.
    [Theory]
    [MemberData(nameof(AllTypes))]
    public void Any_bytes_decode_and_unpack_to_the_same_values(WeightType type)
    {
        var random = new Random(5 + (int)type);
        const int BlockCount = 2000;
        var bytes = new byte[BlockCount * WeightFormat.BlockBytes(type)];
        random.NextBytes(bytes);
        var values = new float[BlockCount * WeightFormat.BlockValues(type)];
        Array.Fill(values, 1e30f);
        WeightFormat.Decode(type, bytes, values);
        if (!WeightFormat.IsQuantized(type))
            return;

        var quants = new sbyte[values.Length];
        var scales = new float[values.Length / 16];
        var offsets = new float[values.Length / 16];
        WeightFormat.UnpackInt8(type, bytes, quants, scales, offsets);
        for (int index = 0; index < values.Length; index++)
        {
            float expected = scales[index / 16] * quants[index] + offsets[index / 16];
            if (!(expected == values[index] || (float.IsNaN(expected) && float.IsNaN(values[index]))))
                Assert.Fail($"{type} value {index}: unpacked {expected:R}, decoded {values[index]:R}");
        }
    }

    // Blocks at the very edges of the code: all bits clear, all set.
    [Theory]
    [MemberData(nameof(AllTypes))]
    public void Blocks_of_equal_bytes_decode(WeightType type)
    {
        for (int value = 0; value < 256; value++)
        {
            var bytes = new byte[WeightFormat.BlockBytes(type)];
            Array.Fill(bytes, (byte)value);
            var values = new float[WeightFormat.BlockValues(type)];
            WeightFormat.Decode(type, bytes, values);
            if (value == 0)
                Assert.All(values, decoded => Assert.True(decoded == 0 || MathF.Abs(decoded) < 1e-36f)); // MXFP4's code 0 is 2^-128
        }
    }
}
