namespace Qian.Kernels.Tests.Ops;

public class ConvSiluTests
{
    private static readonly SafetensorsData s_golden = new("goldens", "ops", "norms_conv.safetensors");

    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void ZeroHistoryIsTheReference(Isa isa)
    {
        using var arena = new Arena();
        using var team = new ThreadTeam(1);
        int[] shape = s_golden.Shape("conv.x");
        int channels = shape[0], rows = shape[1], kernel = s_golden.Shape("conv.weight")[1];
        FloatView u = arena.Of(Transposed(s_golden.Floats("conv.x"), channels, rows)), y = arena.Zeros(rows * channels);
        FloatView window = arena.Zeros((kernel - 1) * channels), weight = arena.Of(s_golden.Floats("conv.weight"));
        ConvSilu.Apply(isa, u, weight, window, y, rows, channels, kernel, team);
        Near.Each(Transposed(s_golden.Floats("conv.out_zero_history_silu"), channels, rows), y.Span, 2e-6, 0.1);
        Near.Bits(u.Slice((rows - 3) * channels).Span, window.Span, "window");
    }

    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void SingleStepIsTheReference(Isa isa)
    {
        // The reference's state has four columns: before the step the newest three are our window.
        using var arena = new Arena();
        using var team = new ThreadTeam(1);
        int[] shape = s_golden.Shape("conv.x");
        int channels = shape[0], rows = shape[1];
        float[] before = Transposed(s_golden.Floats("conv.state_in"), channels, 4), after = Transposed(s_golden.Floats("conv.update_step0_state"), channels, 4);
        FloatView window = arena.Of(before[channels..]), y = arena.Zeros(channels);
        FloatView u = arena.Of(Transposed(s_golden.Floats("conv.x"), channels, rows)[..channels]);
        ConvSilu.Apply(isa, u, arena.Of(s_golden.Floats("conv.weight")), window, y, 1, channels, 4, team);
        Near.Each(s_golden.Floats("conv.update_step0_out"), y.Span, 2e-6, 0.1);
        Near.Bits(after.AsSpan(channels), window.Span, "window");
    }

    [Fact]
    public void TryingLeavesTheWindow()
    {
        using var team = new ThreadTeam(2);
        using var arena = new Arena();
        const int channels = 130, kernel = 4, rows = 5;
        FloatView u = arena.Random(rows * channels, 4), weight = arena.Random(channels * kernel), start = arena.Random((kernel - 1) * channels, 4);
        FloatView window = arena.Copy(start), kept = arena.Copy(start), y = arena.Zeros(rows * channels), tried = arena.Zeros(rows * channels);
        ConvSilu.Apply(u, weight, window, y, rows, channels, kernel, team);
        ConvSilu.ApplyKeepingWindow(u, weight, kept, tried, rows, channels, kernel, team);
        Near.Bits(y.Span, tried.Span, "outputs");
        Near.Bits(start.Span, kept.Span, "window");
    }

    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void SplittingTheRowsChangesNoBit(Isa isa)
    {
        using var one = new ThreadTeam(1);
        using var three = new ThreadTeam(3);
        foreach ((int channels, int kernel, int rows) in new[] { (24, 4, 7), (1, 1, 5), (37, 2, 6), (130, 5, 3), (700, 4, 33), (3, 64, 70), (2100, 3, 9) })
        {
            using var arena = new Arena();
            FloatView u = arena.Random(rows * channels, 4), weight = arena.Random(channels * kernel), start = arena.Random((kernel - 1) * channels, 4);
            FloatView window = arena.Copy(start), y = arena.Zeros(rows * channels);
            ConvSilu.Apply(isa, u, weight, window, y, rows, channels, kernel, three);

            FloatView expected = arena.Zeros(rows * channels), expectedWindow = arena.Copy(start);
            ConvSilu.Apply(Isa.Scalar, u, weight, expectedWindow, expected, rows, channels, kernel, one);
            Near.Each(expected.Span, y.Span, 1e-5, 1, $"{channels} x {kernel}");
            Near.Bits(expectedWindow.Span, window.Span, "window");

            foreach (int cut in new[] { 1, 3 })
            {
                FloatView parts = arena.Zeros(rows * channels), carried = arena.Copy(start);
                for (int row = 0; row < rows; row += cut)
                {
                    int count = Math.Min(cut, rows - row);
                    FloatView from = u.Slice(row * channels, count * channels), to = parts.Slice(row * channels, count * channels);
                    ConvSilu.Apply(isa, from, weight, carried, to, count, channels, kernel, one);
                }

                Near.Bits(y.Span, parts.Span, $"rows by {cut}");
                Near.Bits(window.Span, carried.Span, $"window by {cut}");
            }
        }
    }

    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void ExtremesStayInTheirChannelAndTheirReach(Isa isa)
    {
        using var arena = new Arena();
        using var team = new ThreadTeam(1);
        const int Channels = 20, Rows = 8;
        FloatView u = arena.Zeros(Rows * Channels), window = arena.Zeros(3 * Channels), y = arena.Zeros(Rows * Channels);
        FloatView weight = arena.Of([.. Enumerable.Repeat(1f, Channels * 4)]);
        u.Span[Channels + 3] = float.NaN;
        u.Span[Channels + 5] = -1e4f;
        u.Span[Channels + 6] = 1e4f;
        ConvSilu.Apply(isa, u, weight, window, y, Rows, Channels, 4, team);
        for (int row = 0; row < Rows; row++)
        {
            for (int channel = 0; channel < Channels; channel++)
            {
                float value = y.Span[row * Channels + channel];
                bool reached = row is >= 1 and <= 4;
                Assert.Equal(reached && channel == 3, float.IsNaN(value));
                if (channel != 3)
                    Assert.Equal(reached && channel == 6 ? 1e4f : 0f, Math.Abs(value));
            }
        }
    }

    [Fact]
    public void BadArgumentsAreRefused()
    {
        using var arena = new Arena();
        using var team = new ThreadTeam(1);
        FloatView u = arena.Zeros(8), y = arena.Zeros(8), weight = arena.Zeros(16), window = arena.Zeros(12);
        Assert.Throws<ArgumentException>(() => ConvSilu.Apply(u, weight, window, u, 2, 4, 4, team));
        Assert.Throws<ArgumentException>(() => ConvSilu.Apply(u, weight, window.Slice(1), y, 2, 4, 4, team));
        Assert.Throws<ArgumentException>(() => ConvSilu.Apply(u, weight.Slice(1), window, y, 2, 4, 4, team));
        Assert.Throws<ArgumentOutOfRangeException>(() => ConvSilu.Apply(u, weight, window, y, 2, 4, 65, team));
    }

    private static float[] Transposed(float[] source, int rows, int columns)
    {
        float[] result = new float[source.Length];
        for (int r = 0; r < rows; r++)
        {
            for (int c = 0; c < columns; c++)
                result[c * rows + r] = source[r * columns + c];
        }

        return result;
    }
}
