namespace Qian.Kernels.Tests.Ops;

public class NormTests
{
    private static readonly SafetensorsData s_golden = new("goldens", "ops", "norms_conv.safetensors");

    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void RmsNormIsTheReference(Isa isa)
    {
        using var arena = new Arena();
        using var team = new ThreadTeam(1);
        int[] shape = s_golden.Shape("rmsnorm.x");
        FloatView x = arena.Of(s_golden.Floats("rmsnorm.x"));
        FloatView weight = arena.Of([.. s_golden.Floats("rmsnorm.weight").Select(w => 1 + w)]);
        FloatView y = arena.Zeros(shape[0] * shape[1]);
        RmsNorm.Apply(isa, x, weight, 1e-6f, y, shape[0], shape[1], team);
        Near.Scaled(s_golden.Floats("rmsnorm.out"), y.Span, 5e-7);

        RmsNorm.Apply(isa, x, weight, 1e-6f, x, shape[0], shape[1], team);
        Near.Bits(y.Span, x.Span);
    }

    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void GatedNormIsTheReference(Isa isa)
    {
        using var arena = new Arena();
        using var team = new ThreadTeam(1);
        int[] shape = s_golden.Shape("gated.x");
        FloatView o = arena.Of(s_golden.Floats("gated.x")), z = arena.Of(s_golden.Floats("gated.gate"));
        FloatView y = arena.Zeros(shape[0] * shape[1]);
        GatedNorm.Apply(isa, o, z, arena.Of(s_golden.Floats("gated.weight")), 1e-6f, y, shape[0], 1, shape[1], team);
        Near.Scaled(s_golden.Floats("gated.out"), y.Span, 5e-7);
    }

    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void L2NormIsTheReference(Isa isa)
    {
        using var arena = new Arena();
        using var team = new ThreadTeam(1);
        int[] shape = s_golden.Shape("l2norm.x");
        FloatView x = arena.Of(s_golden.Floats("l2norm.x"));
        L2Norm.Apply(isa, x, shape[1], 0, shape[0], 1, shape[1], 1e-6f, 1, team);
        Near.Scaled(s_golden.Floats("l2norm.out"), x.Span, 5e-7);
    }

    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void L2NormAddsEpsilonUnderTheRootAndLeavesTheRestAlone(Isa isa)
    {
        using var arena = new Arena();
        using var team = new ThreadTeam(1);
        // Rows [1 | head 0 (3) | head 1 (3) | 9]; the second head is short enough for epsilon to count.
        FloatView x = arena.Of(1, 3, 0, 4, 1e-3f, 0, 0, 9, 1, 0, 0, 0, 0, 2, 0, 9);
        L2Norm.Apply(isa, x, 8, 1, 2, 2, 3, 1e-6f, 0.5f, team);
        Near.Each([1, 0.3f, 0, 0.4f, 0.35355339f, 0, 0, 9, 1, 0, 0, 0, 0, 0.5f, 0, 9], x.Span, 2e-6, 0);
    }

    [Theory]
    [MemberData(nameof(Arena.FastTiers), MemberType = typeof(Arena))]
    public void FastTiersAreTheScalarOneAtOddSizes(Isa isa)
    {
        using var arena = new Arena();
        using var team = new ThreadTeam(2);
        foreach (int width in new[] { 1, 3, 8, 15, 16, 17, 33, 63, 64, 65, 100, 127, 130, 257, 5120 })
        {
            const int Rows = 7;
            int count = Rows * width;
            FloatView x = arena.Random(count, 3), z = arena.Random(count, 6), weight = arena.Random(width);
            FloatView expected = arena.Zeros(count), y = arena.Zeros(count);
            RmsNorm.Apply(Isa.Scalar, x, weight, 1e-6f, expected, Rows, width, team);
            RmsNorm.Apply(isa, x, weight, 1e-6f, y, Rows, width, team);
            Near.Each(expected.Span, y.Span, 1e-5, 1e-30, $"rms {width}");

            GatedNorm.Apply(Isa.Scalar, x, z, weight, 1e-6f, expected, Rows, 1, width, team);
            GatedNorm.Apply(isa, x, z, weight, 1e-6f, y, Rows, 1, width, team);
            Near.Each(expected.Span, y.Span, 1e-5, 1e-30, $"gated {width}");

            expected.CopyFrom(x);
            y.CopyFrom(x);
            L2Norm.Apply(Isa.Scalar, expected, width, 0, Rows, 1, width, 1e-6f, 0.7f, team);
            L2Norm.Apply(isa, y, width, 0, Rows, 1, width, 1e-6f, 0.7f, team);
            Near.Each(expected.Span, y.Span, 1e-5, 1e-30, $"l2 {width}");
        }
    }

    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void ARowIsTheSameAloneAndInACrowd(Isa isa)
    {
        // 40 x 1100 floats is enough work to be cut into chunks.
        const int Rows = 40, Heads = 11, HeadDim = 100, Width = Heads * HeadDim;
        using var arena = new Arena();
        using var one = new ThreadTeam(1);
        using var three = new ThreadTeam(3);
        FloatView x = arena.Random(Rows * Width), z = arena.Random(Rows * Width), weight = arena.Random(Width);
        FloatView rms = arena.Zeros(Rows * Width), gated = arena.Zeros(Rows * Width), l2 = arena.Copy(x), row = arena.Zeros(Width);
        RmsNorm.Apply(isa, x, weight, 1e-6f, rms, Rows, Width, three);
        GatedNorm.Apply(isa, x, z, weight, 1e-6f, gated, Rows, Heads, HeadDim, three);
        L2Norm.Apply(isa, l2, Width, 0, Rows, Heads, HeadDim, 1e-6f, 1, three);
        for (int t = 0; t < Rows; t++)
        {
            FloatView xt = x.Slice(t * Width, Width), zt = z.Slice(t * Width, Width);
            RmsNorm.Apply(isa, xt, weight, 1e-6f, row, 1, Width, one);
            Near.Bits(rms.Slice(t * Width, Width).Span, row.Span, "rms");
            GatedNorm.Apply(isa, xt, zt, weight, 1e-6f, row, 1, Heads, HeadDim, one);
            Near.Bits(gated.Slice(t * Width, Width).Span, row.Span, "gated");
            row.CopyFrom(xt);
            L2Norm.Apply(isa, row, Width, 0, 1, Heads, HeadDim, 1e-6f, 1, one);
            Near.Bits(l2.Slice(t * Width, Width).Span, row.Span, "l2");
        }
    }

    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void ExtremeInputs(Isa isa)
    {
        using var arena = new Arena();
        using var team = new ThreadTeam(1);
        const int Width = 40;
        FloatView weight = arena.Of([.. Enumerable.Repeat(1f, Width)]), x = arena.Zeros(Width), y = arena.Zeros(Width);
        RmsNorm.Apply(isa, x, weight, 1e-6f, y, 1, Width, team);
        Assert.All(y.Span.ToArray(), v => Assert.Equal(0f, v));

        x.Span.Fill(-1e4f);
        RmsNorm.Apply(isa, x, weight, 1e-6f, y, 1, Width, team);
        Assert.All(y.Span.ToArray(), v => Assert.Equal(-1f, v, 6));

        x.Span[39] = float.PositiveInfinity;
        RmsNorm.Apply(isa, x, weight, 1e-6f, y, 1, Width, team);
        Assert.True(float.IsNaN(y.Span[39]));
        Assert.Equal(0f, y.Span[0]);

        x.Span[39] = float.NaN;
        RmsNorm.Apply(isa, x, weight, 1e-6f, y, 1, Width, team);
        Assert.All(y.Span.ToArray(), v => Assert.True(float.IsNaN(v)));
    }

    [Fact]
    public void ShortViewsAreRefused()
    {
        using var arena = new Arena();
        using var team = new ThreadTeam(1);
        FloatView eight = arena.Zeros(8), seven = arena.Zeros(7);
        ArgumentException error = Assert.Throws<ArgumentException>(() => RmsNorm.Apply(eight, seven, 1e-6f, eight, 1, 8, team));
        Assert.StartsWith("weight: expected at least 8 floats, found 7", error.Message);
        Assert.Throws<ArgumentException>(() => RmsNorm.Apply(eight, eight, 1e-6f, seven, 1, 8, team));
        Assert.Throws<ArgumentException>(() => L2Norm.Apply(eight, 4, 2, 2, 1, 3, 1e-6f, 1, team));
        Assert.Throws<ArgumentOutOfRangeException>(() => RmsNorm.Apply(eight, eight, 1e-6f, eight, -1, 8, team));
    }
}
