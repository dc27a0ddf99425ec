namespace Qian.Kernels.Tests.Ops;

public class NormBackwardTests
{
    // Large, so that its derivative counts.
    private const float Epsilon = 0.01f;

    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void RmsNormIsTheDifference(Isa isa)
    {
        using var team = new ThreadTeam(1);
        foreach ((int rows, int width) in new[] { (1, 1), (3, 7), (4, 40), (2, 65) })
        {
            using var arena = new Arena(width);
            int count = rows * width;
            FloatView x = arena.Random(count, 2), weight = arena.Random(width), dy = arena.Random(count), dx = arena.Random(count), dWeight = arena.Random(width);
            double[] xs = x.Doubles(), ws = weight.Doubles(), dys = dy.Doubles();
            double Loss()
            {
                double loss = 0;
                for (int i = 0; i < count; i++)
                    loss += dys[i] * xs[i] * ws[i % width] * Slope.InverseRms(xs, i / width * width, width, Epsilon);
                return loss;
            }

            float[] weightBefore = dWeight.Span.ToArray();
            RmsNorm.Backward(isa, x, weight, Epsilon, dy, dx, dWeight, rows, width, add: false, team);
            // Against 1: in a row of one float the two terms all but cancel.
            Near.Each(Slope.Of(xs, Loss), dx.Span, 1e-6, 1, $"dx {rows} x {width}");
            Near.Scaled(Slope.Of(ws, Loss), Slope.Gained(weightBefore, dWeight), 3e-6, $"dw {rows} x {width}");

            FloatView residual = arena.Random(count);
            float[] sum = [.. residual.Span.ToArray().Zip(dx.Span.ToArray(), (before, gradient) => before + gradient)];
            RmsNorm.Backward(isa, x, weight, Epsilon, dy, residual, default, rows, width, add: true, team);
            Near.Bits(sum, residual.Span, "added");
        }
    }

    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void L2NormIsTheDifferenceAndLeavesTheRestAlone(Isa isa)
    {
        const int Rows = 3, Heads = 2, Offset = 5, Stride = 60;
        using var team = new ThreadTeam(1);
        foreach (int headDim in new[] { 1, 4, 17, 26 })
        {
            using var arena = new Arena(headDim);
            int length = (Rows - 1) * Stride + Offset + Heads * headDim;
            FloatView x = arena.Random(length, 0.5f), dy = arena.Random(length), dx = arena.Copy(dy);
            double[] xs = x.Doubles(), dys = dy.Doubles();
            bool InHead(int i) => i % Stride >= Offset && i % Stride < Offset + Heads * headDim;
            double Loss()
            {
                double loss = 0;
                for (int i = 0; i < length; i++)
                {
                    if (!InHead(i))
                        continue;
                    int start = i - (i % Stride - Offset) % headDim;
                    // Σ = mean · count: the ε under a mean is ε / count.
                    loss += dys[i] * 0.7 * xs[i] * Slope.InverseRms(xs, start, headDim, Epsilon / (double)headDim) / Math.Sqrt(headDim);
                }

                return loss;
            }

            float[] expected = Slope.Of(xs, Loss);
            for (int i = 0; i < length; i++)
                expected[i] = InHead(i) ? expected[i] : dy.Span[i];
            L2Norm.Backward(isa, x, Stride, Offset, Rows, Heads, headDim, Epsilon, 0.7f, dy, dx, team);
            L2Norm.Backward(isa, x, Stride, Offset, Rows, Heads, headDim, Epsilon, 0.7f, dy, dy, team);
            Near.Scaled(expected, dy.Span, 3e-6, $"{headDim}");
            for (int i = 0; i < length; i++)
                Assert.Equal(dy.Span[i], dx.Span[i]);
        }
    }

    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void GatedNormIsTheDifference(Isa isa)
    {
        using var team = new ThreadTeam(1);
        foreach ((int rows, int heads, int headDim) in new[] { (1, 1, 1), (2, 3, 5), (3, 2, 20), (1, 2, 35) })
        {
            using var arena = new Arena(headDim);
            int count = rows * heads * headDim;
            FloatView o = arena.Random(count, 2), z = arena.Random(count, 4), weight = arena.Random(headDim), dWeight = arena.Random(headDim);
            FloatView dy = arena.Random(count), dO = arena.Random(count), dz = arena.Random(count);
            double[] os = o.Doubles(), zs = z.Doubles(), ws = weight.Doubles(), dys = dy.Doubles();
            double Loss()
            {
                double loss = 0;
                for (int i = 0; i < count; i++)
                    loss += dys[i] * ws[i % headDim] * os[i] * Slope.InverseRms(os, i / headDim * headDim, headDim, Epsilon) * Slope.Silu(zs[i]);
                return loss;
            }

            float[] weightBefore = dWeight.Span.ToArray();
            GatedNorm.Backward(isa, o, z, weight, Epsilon, dy, dO, dz, dWeight, rows, heads, headDim, team);
            Near.Scaled(Slope.Of(os, Loss), dO.Span, 3e-6, "dO");
            Near.Scaled(Slope.Of(zs, Loss), dz.Span, 3e-6, "dz");
            Near.Scaled(Slope.Of(ws, Loss), Slope.Gained(weightBefore, dWeight), 3e-6, "dw");

            // In place, and with the weight frozen.
            GatedNorm.Backward(isa, o, z, weight, Epsilon, dy, dy, z, default, rows, heads, headDim, team);
            Near.Bits(dO.Span, dy.Span, "in place");
            Near.Bits(dz.Span, z.Span, "in place");
        }
    }

    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void HeadNormRopeIsTheDifferenceThroughStrides(Isa isa)
    {
        using var team = new ThreadTeam(1);
        foreach ((int headDim, int rotary) in new[] { (2, 2), (24, 8), (9, 0), (40, 40), (21, 18) })
        {
            const int Rows = 3, Heads = 2;
            using var arena = new Arena(headDim);
            int headStride = 2 * headDim, rowStride = Heads * headStride + 3, half = rotary / 2;
            int length = (Rows - 1) * rowStride + (Heads - 1) * headStride + headDim;
            FloatView x = arena.Random(length, 2), weight = arena.Random(headDim), dWeight = arena.Random(headDim);
            FloatView dy = arena.Random(Rows * Heads * headDim), dx = arena.Random(length), table = arena.Random(Rows * rotary);
            double[] xs = x.Doubles(), ws = weight.Doubles(), dys = dy.Doubles(), cosSin = table.Doubles();
            double Loss()
            {
                double loss = 0;
                for (int head = 0; head < Rows * Heads; head++)
                {
                    int row = head / Heads, at = row * rowStride + head % Heads * headStride;
                    double inverse = Slope.InverseRms(xs, at, headDim, Epsilon);
                    double Normed(int i) => xs[at + i] * inverse * ws[i];
                    for (int i = 0; i < headDim; i++)
                    {
                        double y = Normed(i);
                        if (i < half)
                            y = y * cosSin[row * rotary + i] - Normed(i + half) * cosSin[row * rotary + half + i];
                        else if (i < rotary)
                            y = y * cosSin[row * rotary + i - half] + Normed(i - half) * cosSin[row * rotary + i];
                        loss += dys[head * headDim + i] * y;
                    }
                }

                return loss;
            }

            float[] before = dx.Span.ToArray(), weightBefore = dWeight.Span.ToArray(), expected = Slope.Of(xs, Loss);
            HeadNormRope.Backward(isa, x, rowStride, headStride, Rows, Heads, headDim, weight, Epsilon, table, rotary, dy, dx, dWeight, team);
            for (int i = 0; i < length; i++)
            {
                bool inHead = i % rowStride < Heads * headStride && i % rowStride % headStride < headDim;
                expected[i] = inHead ? expected[i] : before[i];
            }

            Near.Scaled(expected, dx.Span, 3e-6, $"dx {headDim}");
            Near.Scaled(Slope.Of(ws, Loss), Slope.Gained(weightBefore, dWeight), 3e-6, $"dw {headDim}");

            // Contiguous heads, in place of dy.
            FloatView packed = arena.Random(Rows * Heads * headDim), apart = arena.Zeros(Rows * Heads * headDim);
            int width = Heads * headDim;
            HeadNormRope.Backward(isa, packed, width, headDim, Rows, Heads, headDim, weight, Epsilon, table, rotary, dy, apart, default, team);
            HeadNormRope.Backward(isa, packed, width, headDim, Rows, Heads, headDim, weight, Epsilon, table, rotary, dy, dy, default, team);
            Near.Bits(apart.Span, dy.Span, "in place");
        }
    }

    [Theory]
    [MemberData(nameof(Arena.FastTiers), MemberType = typeof(Arena))]
    public void FastTiersAreTheScalarOneOverManyRows(Isa isa)
    {
        using var team = new ThreadTeam(2);
        foreach ((int rows, int heads, int headDim) in new[] { (70, 1, 2), (300, 3, 33), (130, 5, 128), (1200, 2, 64), (9, 20, 256) })
        {
            using var arena = new Arena(headDim);
            int width = heads * headDim, count = rows * width, rotary = headDim / 4 * 2;
            FloatView x = arena.Random(count, 3), z = arena.Random(count, 6), dy = arena.Random(count), weight = arena.Random(width), table = arena.Random(rows * rotary);
            FloatView expected = arena.Zeros(count), expected2 = arena.Zeros(count), dx = arena.Zeros(count), dx2 = arena.Zeros(count);
            FloatView expectedSums = arena.Zeros(width), sums = arena.Zeros(width);

            RmsNorm.Backward(Isa.Scalar, x, weight, 1e-6f, dy, expected, expectedSums, rows, width, add: false, team);
            RmsNorm.Backward(isa, x, weight, 1e-6f, dy, dx, sums, rows, width, add: false, team);
            Near.Scaled(expected.Span, dx.Span, 2e-6, $"rms {width}");
            Near.Scaled(expectedSums.Span, sums.Span, 3e-6, $"rms weight {width}");

            GatedNorm.Backward(Isa.Scalar, x, z, weight, 1e-6f, dy, expected, expected2, expectedSums, rows, heads, headDim, team);
            GatedNorm.Backward(isa, x, z, weight, 1e-6f, dy, dx, dx2, sums, rows, heads, headDim, team);
            Near.Scaled(expected.Span, dx.Span, 2e-6, $"gated o {width}");
            Near.Scaled(expected2.Span, dx2.Span, 2e-6, $"gated z {width}");
            Near.Scaled(expectedSums.Span, sums.Span, 3e-6, $"gated weight {width}");

            HeadNormRope.Backward(Isa.Scalar, x, width, headDim, rows, heads, headDim, weight, 1e-6f, table, rotary, dy, expected, expectedSums, team);
            HeadNormRope.Backward(isa, x, width, headDim, rows, heads, headDim, weight, 1e-6f, table, rotary, dy, dx, sums, team);
            Near.Scaled(expected.Span, dx.Span, 2e-6, $"head {width}");
            Near.Scaled(expectedSums.Span, sums.Span, 3e-6, $"head weight {width}");

            L2Norm.Backward(Isa.Scalar, x, width, 0, rows, heads, headDim, 1e-6f, 0.7f, dy, expected, team);
            L2Norm.Backward(isa, x, width, 0, rows, heads, headDim, 1e-6f, 0.7f, dy, dx, team);
            Near.Scaled(expected.Span, dx.Span, 2e-6, $"l2 {width}");
        }
    }

    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void ThreadsChangeNoBit(Isa isa)
    {
        // Many blocks of rows, and for the shared weights many partial sums.
        const int Rows = 1100, Heads = 3, HeadDim = 100, Width = Heads * HeadDim, Rotary = 20;
        using var arena = new Arena();
        FloatView x = arena.Random(Rows * Width, 3), z = arena.Random(Rows * Width, 6), dy = arena.Random(Rows * Width), weight = arena.Random(Width);
        FloatView table = arena.Random(Rows * Rotary);
        float[] alone = Results(1);
        Near.Bits(alone, Results(2));
        Near.Bits(alone, Results(3));

        float[] Results(int threads)
        {
            using var inner = new Arena();
            using var team = new ThreadTeam(threads);
            var results = new List<float>();
            FloatView dx = inner.Zeros(Rows * Width), dz = inner.Zeros(Rows * Width), dWeight = inner.Zeros(Width);
            RmsNorm.Backward(isa, x, weight, 1e-6f, dy, dx, dWeight, Rows, Width, add: false, team);
            results.AddRange([.. dx.Span, .. dWeight.Span]);
            GatedNorm.Backward(isa, x, z, weight, 1e-6f, dy, dx, dz, dWeight, Rows, Heads, HeadDim, team);
            results.AddRange([.. dx.Span, .. dz.Span, .. dWeight.Span]);
            HeadNormRope.Backward(isa, x, Width, HeadDim, Rows, Heads, HeadDim, weight, 1e-6f, table, Rotary, dy, dx, dWeight, team);
            results.AddRange([.. dx.Span, .. dWeight.Span]);
            L2Norm.Backward(isa, x, Width, 0, Rows, Heads, HeadDim, 1e-6f, 1, dy, dx, team);
            results.AddRange(dx.Span);
            return [.. results];
        }
    }

    [Fact]
    public void BadArgumentsAreRefused()
    {
        using var arena = new Arena();
        using var team = new ThreadTeam(1);
        FloatView a = arena.Zeros(8), b = arena.Zeros(8), c = arena.Zeros(8), d = arena.Zeros(8), seven = arena.Zeros(7);
        ArgumentException error = Assert.Throws<ArgumentException>(() => RmsNorm.Backward(a, b, 1e-6f, c, seven, d, 1, 8, team));
        Assert.StartsWith("dx: expected at least 8 floats, found 7", error.Message);
        error = Assert.Throws<ArgumentException>(() => RmsNorm.BackwardAdd(a, b, 1e-6f, c, d, seven, 1, 8, team));
        Assert.StartsWith("dWeight: expected at least 8 floats, found 7", error.Message);
        Assert.Throws<ArgumentException>(() => RmsNorm.Backward(a, b, 1e-6f, c, c, default, 1, 8, team));
        Assert.Throws<ArgumentException>(() => RmsNorm.Backward(a, b, 1e-6f, c, a, default, 1, 8, team));
        Assert.Throws<ArgumentOutOfRangeException>(() => RmsNorm.Backward(a, b, 1e-6f, c, d, default, -1, 8, team));

        error = Assert.Throws<ArgumentException>(() => GatedNorm.Backward(a, b, c, 1e-6f, d, d, seven, default, 1, 1, 8, team));
        Assert.StartsWith("dz: expected at least 8 floats, found 7", error.Message);
        Assert.Throws<ArgumentException>(() => GatedNorm.Backward(a, b, c, 1e-6f, d, a, b, default, 1, 1, 8, team));
        Assert.Throws<ArgumentException>(() => GatedNorm.Backward(a, b, c, 1e-6f, d, d, a, default, 1, 1, 8, team));

        error = Assert.Throws<ArgumentException>(() => HeadNormRope.Backward(a, 8, 8, 1, 1, 8, b, 1e-6f, c, 4, seven, d, default, team));
        Assert.StartsWith("dy: expected at least 8 floats, found 7", error.Message);
        Assert.Throws<ArgumentException>(() => HeadNormRope.Backward(a, 8, 8, 1, 1, 8, b, 1e-6f, c, 4, d, a, default, team));
        Assert.Throws<ArgumentException>(() => HeadNormRope.Backward(a, 8, 4, 1, 2, 3, b, 1e-6f, c, 2, d, d, default, team));

        error = Assert.Throws<ArgumentException>(() => L2Norm.Backward(a, 8, 0, 1, 1, 8, 1e-6f, 1, b, seven, team));
        Assert.StartsWith("dx: expected at least 8 floats, found 7", error.Message);
        Assert.Throws<ArgumentException>(() => L2Norm.Backward(a, 4, 2, 2, 1, 3, 1e-6f, 1, b, c, team));
    }
}
