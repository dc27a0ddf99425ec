namespace Qian.Kernels.Tests.Ops;

public class ConvSiluSamplesTests
{
    // Channels, filter length, borders: single rows, an empty sample, samples shorter than the filter.
    private static readonly (int Channels, int Kernel, int[] Borders)[] s_cases =
    [
        (1, 1, [0, 5]), (5, 4, [0, 1, 2, 2, 5, 12]), (37, 2, [0, 6]), (19, 4, [0, 9, 10]), (3, 7, [0, 3, 11]), (1100, 4, [0, 20, 33]), (2, 64, [0, 70, 71]),
    ];

    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void SamplesAreWhatEachIsAlone(Isa isa)
    {
        using var one = new ThreadTeam(1);
        using var three = new ThreadTeam(3);
        foreach ((int channels, int kernel, int[] borders) in s_cases)
        {
            using var arena = new Arena(channels);
            FloatView u = arena.Random(borders[^1] * channels, 4), weight = arena.Random(channels * kernel);
            FloatView y = arena.Zeros(borders[^1] * channels), expected = arena.Zeros(borders[^1] * channels);
            ConvSilu.ApplySamples(isa, u, weight, y, borders, channels, kernel, three);
            for (int s = 0; s + 1 < borders.Length; s++)
            {
                int rows = borders[s + 1] - borders[s], at = borders[s] * channels;
                FloatView window = arena.Zeros((kernel - 1) * channels);
                ConvSilu.Apply(isa, u.Slice(at, rows * channels), weight, window, expected.Slice(at, rows * channels), rows, channels, kernel, one);
            }

            Near.Bits(expected.Span, y.Span, $"{channels} x {kernel}");
        }
    }

    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void TheGradientIsTheDifference(Isa isa)
    {
        using var team = new ThreadTeam(1);
        foreach ((int channels, int kernel, int[] borders) in s_cases.Where(c => c.Channels < 100))
        {
            using var arena = new Arena(channels);
            int rows = borders[^1], count = rows * channels;
            FloatView u = arena.Random(count, 2), weight = arena.Random(channels * kernel), dy = arena.Random(count), du = arena.Random(count);
            FloatView dWeight = arena.Random(channels * kernel);
            double[] us = u.Doubles(), ws = weight.Doubles(), dys = dy.Doubles();
            double Loss()
            {
                double loss = 0;
                for (int s = 0; s + 1 < borders.Length; s++)
                {
                    for (int t = borders[s]; t < borders[s + 1]; t++)
                    {
                        for (int c = 0; c < channels; c++)
                        {
                            double sum = 0;
                            for (int j = 0; j < kernel; j++)
                            {
                                int from = t - kernel + 1 + j;
                                sum += from < borders[s] ? 0 : ws[c * kernel + j] * us[from * channels + c];
                            }

                            loss += dys[t * channels + c] * Slope.Silu(sum);
                        }
                    }
                }

                return loss;
            }

            float[] before = dWeight.Span.ToArray();
            ConvSilu.Backward(isa, u, weight, dy, du, dWeight, borders, channels, kernel, team);
            Near.Scaled(Slope.Of(us, Loss), du.Span, 3e-6, $"du {channels} x {kernel}");
            Near.Scaled(Slope.Of(ws, Loss), Slope.Gained(before, dWeight), 3e-6, $"dw {channels} x {kernel}");

            ConvSilu.Backward(isa, u, weight, dy, dy, default, borders, channels, kernel, team);
            Near.Bits(du.Span, dy.Span, "in place");
        }
    }

    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void ManyRowsAreTheScalarOnesAndThreadsChangeNoBit(Isa isa)
    {
        const int Channels = 150, Kernel = 4, Rows = 1300;
        int[] borders = [0, 700, 701, Rows];
        using var arena = new Arena();
        using var one = new ThreadTeam(1);
        using var two = new ThreadTeam(2);
        FloatView u = arena.Random(Rows * Channels, 2), weight = arena.Random(Channels * Kernel), dy = arena.Random(Rows * Channels);
        FloatView expected = arena.Zeros(Rows * Channels), expectedWeight = arena.Zeros(Channels * Kernel);
        FloatView alone = arena.Zeros(Rows * Channels), aloneWeight = arena.Zeros(Channels * Kernel);
        FloatView du = arena.Zeros(Rows * Channels), dWeight = arena.Zeros(Channels * Kernel);
        ConvSilu.Backward(Isa.Scalar, u, weight, dy, expected, expectedWeight, borders, Channels, Kernel, one);
        ConvSilu.Backward(isa, u, weight, dy, alone, aloneWeight, borders, Channels, Kernel, one);
        ConvSilu.Backward(isa, u, weight, dy, du, dWeight, borders, Channels, Kernel, two);
        Near.Scaled(expected.Span, alone.Span, 2e-6, "du");
        Near.Scaled(expectedWeight.Span, aloneWeight.Span, 2e-6, "dw");
        Near.Bits(alone.Span, du.Span, "du");
        Near.Bits(aloneWeight.Span, dWeight.Span, "dw");
    }

    [Fact]
    public void BadArgumentsAreRefused()
    {
        using var arena = new Arena();
        using var team = new ThreadTeam(1);
        FloatView u = arena.Zeros(8), y = arena.Zeros(8), weight = arena.Zeros(16), short7 = arena.Zeros(7);
        ArgumentException error = Assert.Throws<ArgumentException>(() => ConvSilu.ApplySamples(u, weight, short7, [0, 2], 4, 4, team));
        Assert.StartsWith("y: expected at least 8 floats, found 7", error.Message);
        error = Assert.Throws<ArgumentException>(() => ConvSilu.Backward(u, weight, y, short7, default, [0, 2], 4, 4, team));
        Assert.StartsWith("du: expected at least 8 floats, found 7", error.Message);
        error = Assert.Throws<ArgumentException>(() => ConvSilu.Backward(u, weight, y, y, short7, [0, 2], 4, 4, team));
        Assert.StartsWith("dWeight: expected at least 16 floats, found 7", error.Message);
        Assert.Throws<ArgumentException>(() => ConvSilu.ApplySamples(u, weight, u, [0, 2], 4, 4, team));
        Assert.Throws<ArgumentException>(() => ConvSilu.Backward(u, weight, y, u, default, [0, 2], 4, 4, team));
        Assert.Throws<ArgumentException>(() => ConvSilu.ApplySamples(u, weight, y, [], 4, 4, team));
        Assert.Throws<ArgumentException>(() => ConvSilu.ApplySamples(u, weight, y, [1, 2], 4, 4, team));
        Assert.Throws<ArgumentException>(() => ConvSilu.ApplySamples(u, weight, y, [0, 2, 1], 4, 4, team));
        Assert.Throws<ArgumentOutOfRangeException>(() => ConvSilu.ApplySamples(u, weight, y, [0, 0], 4, 65, team));
    }
}
