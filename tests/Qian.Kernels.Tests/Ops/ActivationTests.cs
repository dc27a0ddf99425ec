using System.Runtime.Intrinsics;

namespace Qian.Kernels.Tests.Ops;

public unsafe class ActivationTests
{
    [Theory]
    [MemberData(nameof(Arena.FastTiers), MemberType = typeof(Arena))]
    public void ExponentialIsWithinTwoUlp(Isa isa)
    {
        for (double x = -104.5; x < 90; x += 0.00173)
        {
            float argument = (float)x;
            double exact = Math.Exp(argument);
            float actual = Exp(isa, argument);
            if (exact > float.MaxValue)
            {
                Assert.Equal(float.PositiveInfinity, actual);
                continue;
            }

            double ulp = Math.Max(MathF.BitIncrement((float)exact) - (float)exact, float.Epsilon);
            Assert.True(Math.Abs(actual - exact) <= 2 * ulp, $"e^{argument:R}: expected {exact:R}, found {actual:R}");
        }
    }

    [Theory]
    [MemberData(nameof(Arena.FastTiers), MemberType = typeof(Arena))]
    public void ExponentialSaturates(Isa isa)
    {
        Assert.Equal(1f, Exp(isa, 0));
        Assert.Equal(1f, Exp(isa, -0f));
        Assert.Equal(0f, Exp(isa, -1e4f));
        Assert.Equal(0f, Exp(isa, float.NegativeInfinity));
        Assert.Equal(float.PositiveInfinity, Exp(isa, 1e4f));
        Assert.Equal(float.PositiveInfinity, Exp(isa, float.PositiveInfinity));
        Assert.True(float.IsNaN(Exp(isa, float.NaN)));
    }

    [Fact]
    public void ScalarSoftplusIsExact()
    {
        // log(1 + e^x) by series where e^x is small, by subtraction of x where it is large: values from 40-digit arithmetic.
        Assert.Equal(0.6931471805599453, Activation.Softplus(0), 7);
        Near.Each([1.3132616875182228f, 4.5398899e-05f, 9.3576230e-14f, 20.000000002061154f, 1e4f, 0f, float.PositiveInfinity],
            [Activation.Softplus(1), Activation.Softplus(-10), Activation.Softplus(-30), Activation.Softplus(20), Activation.Softplus(1e4f),
                Activation.Softplus(float.NegativeInfinity), Activation.Softplus(float.PositiveInfinity)], 2e-7, 0);
        Assert.True(float.IsNaN(Activation.Softplus(float.NaN)));
    }

    [Theory]
    [MemberData(nameof(Arena.FastTiers), MemberType = typeof(Arena))]
    public void FastGatesAreTheScalarOnes(Isa isa)
    {
        using var arena = new Arena();
        using var team = new ThreadTeam(1);
        float[] special = [0, -0f, 1e4f, -1e4f, 88, -88, 100, -100, float.PositiveInfinity, float.NegativeInfinity, float.NaN, 1e-20f, -1e-20f];
        float[] sweep = [.. Enumerable.Range(-4000, 8001).Select(i => i / 200f)];
        FloatView x = arena.Of([.. special, .. sweep]);
        int count = (int)x.Length;
        FloatView one = arena.Of([.. Enumerable.Repeat(1f, count)]), zero = arena.Zeros(count);
        FloatView expectedG = arena.Zeros(count), expectedBeta = arena.Zeros(count), g = arena.Zeros(count), beta = arena.Zeros(count);
        DeltaGates.Apply(Isa.Scalar, x, x, one, zero, expectedG, expectedBeta, 1, count, team);
        DeltaGates.Apply(isa, x, x, one, zero, g, beta, 1, count, team);
        Near.Each(expectedG.Span, g.Span, 1e-6, 1e-37, "softplus");
        Near.Each(expectedBeta.Span, beta.Span, 1e-6, 1e-37, "sigmoid");

        FloatView expected = arena.Zeros(count), y = arena.Zeros(count);
        SwiGlu.Apply(Isa.Scalar, x, one, expected, count, team);
        SwiGlu.Apply(isa, x, one, y, count, team);
        Near.Each(expected.Span, y.Span, 1e-6, 1e-37, "silu");
    }

    private static float Exp(Isa isa, float x) => isa == Isa.Avx512
        ? Activation.Exp<Lanes512, Vector512<float>>(Vector512.Create(x)).GetElement(5)
        : Activation.Exp<Lanes256, Vector256<float>>(Vector256.Create(x)).GetElement(5);
}
