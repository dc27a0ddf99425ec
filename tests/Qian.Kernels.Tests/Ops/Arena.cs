namespace Qian.Kernels.Tests.Ops;

/// <summary>
/// Native floats for a test. Every view is fenced by NaN: a kernel that reads past an end shows NaN in its result,
/// one that writes past it fails <see cref="Dispose"/>.
/// </summary>
internal sealed class Arena : IDisposable
{
    private const int FenceFloats = 80;

    private readonly List<(NativeBuffer Buffer, int Count)> _views = [];
    private readonly Random _random;

    public Arena(int seed = 1) => _random = new Random(seed);

    public static TheoryData<Isa> Tiers => [.. IsaTier.Available];

    public static TheoryData<Isa> FastTiers => [.. IsaTier.Available.Where(isa => isa != Isa.Scalar)];

    public FloatView Zeros(int count)
    {
        NativeBuffer buffer = NativeBuffer.AllocateFloats(count + FenceFloats);
        buffer.AllFloats.Slice(count).Span.Fill(float.NaN);
        _views.Add((buffer, count));
        return buffer.Floats(0, count);
    }

    public FloatView Of(params float[] values)
    {
        FloatView view = Zeros(values.Length);
        values.CopyTo(view.Span);
        return view;
    }

    public FloatView Copy(FloatView source) => Of(source.Span.ToArray());

    /// <summary>Uniform between −scale and scale.</summary>
    public FloatView Random(int count, float scale = 1)
    {
        FloatView view = Zeros(count);
        foreach (ref float value in view.Span)
            value = (_random.NextSingle() * 2 - 1) * scale;
        return view;
    }

    public void Dispose()
    {
        foreach ((NativeBuffer buffer, int count) in _views)
        {
            foreach (float fence in buffer.AllFloats.Slice(count).Span)
                Assert.True(float.IsNaN(fence), "written past the end of a view");
            buffer.Dispose();
        }
    }
}

internal static class Near
{
    /// <summary>Every |actual − expected| within tolerance · max(|expected|, floor).</summary>
    public static void Each(ReadOnlySpan<float> expected, ReadOnlySpan<float> actual, double tolerance, double floor, string what = "")
    {
        Assert.Equal(expected.Length, actual.Length);
        for (int i = 0; i < expected.Length; i++)
        {
            if (float.IsNaN(expected[i]) ? float.IsNaN(actual[i]) : expected[i] == actual[i])
                continue;
            double bound = tolerance * Math.Max(Math.Abs(expected[i]), floor);
            if (!(Math.Abs((double)actual[i] - expected[i]) <= bound))
                Assert.Fail($"{what}[{i}]: expected {expected[i]:R}, found {actual[i]:R}");
        }
    }

    /// <summary>Every |actual − expected| within tolerance of the largest |expected|.</summary>
    public static void Scaled(ReadOnlySpan<float> expected, ReadOnlySpan<float> actual, double tolerance, string what = "")
    {
        float largest = 0;
        foreach (float value in expected)
            largest = Math.Max(largest, Math.Abs(value));
        Each(expected, actual, tolerance, largest, what);
    }

    public static void Bits(ReadOnlySpan<float> expected, ReadOnlySpan<float> actual, string what = "")
    {
        Assert.Equal(expected.Length, actual.Length);
        for (int i = 0; i < expected.Length; i++)
        {
            if (BitConverter.SingleToInt32Bits(expected[i]) != BitConverter.SingleToInt32Bits(actual[i]))
                Assert.Fail($"{what}[{i}]: expected {expected[i]:R}, found {actual[i]:R}");
        }
    }
}
