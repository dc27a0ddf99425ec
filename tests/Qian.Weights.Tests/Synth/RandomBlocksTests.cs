using Qian.Kernels;

namespace Qian.Weights.Tests.Synth;

public sealed class RandomBlocksTests
{
    // As small as the published shapes need (17408 inputs, 64 layers), and large.
    private const double SmallDeviation = 0.00067;

    private const int ValueCount = 1 << 20;

    public static TheoryData<WeightType> Types => [.. Enum.GetValues<WeightType>()];

    [Theory]
    [MemberData(nameof(Types))]
    public void ValuesHaveTheWantedDeviationAndMeanZero(WeightType type)
    {
        foreach (double deviation in (double[])[SmallDeviation, 0.02, 1])
        {
            (double mean, double found, float largest) = Statistics(type, deviation);
            double factor = type == WeightType.NVFP4 ? RandomBlocks.Nvfp4Factor(deviation) : 1;
            // Half floats near 0 are coarse: 5 % there, else what 2^20 values leave to chance and the table to rounding.
            double tolerance = deviation == SmallDeviation ? 0.05 : 0.01;
            Assert.InRange(found * factor, deviation * (1 - tolerance), deviation * (1 + tolerance));
            Assert.InRange(mean * factor, -0.02 * deviation, 0.02 * deviation);
            Assert.InRange(largest * factor, deviation, 8 * deviation);
        }
    }

    [Theory]
    [MemberData(nameof(Types))]
    public void AKeyDecidesTheBytes(WeightType type)
    {
        var blocks = new RandomBlocks(type, 0.02);
        var first = new byte[1000 * WeightFormat.BlockBytes(type)];
        var again = new byte[first.Length];
        var other = new byte[first.Length];
        blocks.Fill(7, first);
        new RandomBlocks(type, 0.02).Fill(7, again);
        blocks.Fill(8, other);
        Assert.True(first.AsSpan().SequenceEqual(again));
        Assert.InRange(first.AsSpan().CommonPrefixLength(other), 0, 16);
        // A longer piece begins like a shorter one, whatever remains after the last whole vector.
        for (int count = 1; count < 20; count++)
        {
            var part = new byte[count * WeightFormat.BlockBytes(type)];
            blocks.Fill(7, part);
            Assert.True(first.AsSpan(0, part.Length).SequenceEqual(part), $"{count} blocks");
        }
    }

    [Fact]
    public void AQ8BlockNeverHoldsTheLowestByte()
    {
        var bytes = new byte[4096 * 34];
        new RandomBlocks(WeightType.Q8_0, 1).Fill(3, bytes);
        for (int at = 0; at < bytes.Length; at += 34)
            Assert.DoesNotContain((byte)0x80, bytes.AsSpan(at + 2, 32).ToArray());
    }

    [Theory]
    [InlineData(WeightType.Q4_K)]
    [InlineData(WeightType.Q2_K)]
    [InlineData(WeightType.Q4_1)]
    public void MinimaVaryFromBlockToBlock(WeightType type)
    {
        int size = WeightFormat.BlockBytes(type);
        var bytes = new byte[256 * size];
        new RandomBlocks(type, 1).Fill(3, bytes);
        int minimumOffset = type == WeightType.Q2_K ? 82 : 2;
        Assert.InRange(Enumerable.Range(0, 256).Select(block => BitConverter.ToUInt16(bytes, block * size + minimumOffset)).Distinct().Count(), 64, 256);
    }

    [Fact]
    public void StreamsOfNeighbouringKeysShareNothing()
    {
        var seen = new HashSet<ulong>();
        for (ulong seed = 0; seed < 4; seed++)
        {
            for (ulong layer = 0; layer < 16; layer++)
            {
                for (ulong chunk = 0; chunk < 16; chunk++)
                    Assert.True(seen.Add(RandomBytes.Key(seed, 5, layer, chunk)));
            }
        }
    }

    [Fact]
    public void BytesAreSpreadEvenly()
    {
        var bytes = new byte[1 << 20];
        new RandomBytes(11).Fill(bytes);
        var counts = new int[256];
        foreach (byte value in bytes)
            counts[value]++;
        // Chi-squared of 255 degrees: mean 255, deviation 22.6.
        double expected = bytes.Length / 256.0;
        Assert.InRange(counts.Sum(count => (count - expected) * (count - expected) / expected), 140, 370);
    }

    private static (double Mean, double Deviation, float Largest) Statistics(WeightType type, double deviation)
    {
        var bytes = new byte[ValueCount / WeightFormat.BlockValues(type) * WeightFormat.BlockBytes(type)];
        var values = new float[ValueCount];
        new RandomBlocks(type, deviation).Fill(42, bytes);
        WeightFormat.Decode(type, bytes, values);
        double sum = 0;
        double squares = 0;
        float largest = 0;
        foreach (float value in values)
        {
            sum += value;
            squares += (double)value * value;
            largest = Math.Max(largest, Math.Abs(value));
        }

        Assert.True(double.IsFinite(squares));
        double mean = sum / ValueCount;
        return (mean, Math.Sqrt(squares / ValueCount - mean * mean), largest);
    }
}
