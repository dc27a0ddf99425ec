namespace Qian.Kernels.Tests.Ops;

public class RopeTests
{
    private const int RotaryDim = 64;
    private static readonly SafetensorsData s_golden = new("goldens", "ops", "rope_real_geometry.safetensors");

    // The float angles of the reference are off by up to 0.006 rad at position 262,143 and by 2e-4 below 3,000; the exact columns
    // hold to float rounding.
    [Theory]
    [InlineData("text", 1e-7, 6e-3)]
    [InlineData("mrope", 1e-7, 2e-4)]
    public void TablesAreTheExactAngles(string kind, double exactTolerance, double hfTolerance)
    {
        using var arena = new Arena();
        int[] positions = Positions(kind);
        int rows = positions.Length / 3;
        FloatView table = arena.Zeros(rows * RotaryDim);
        new RopeTable(RotaryDim, 1e7, [11, 11, 10]).Fill(positions, rows, table);

        double[] cos = s_golden.Doubles($"{kind}.cos_f64"), sin = s_golden.Doubles($"{kind}.sin_f64");
        float[] hfCos = s_golden.Floats($"{kind}.cos_hf_f32"), hfSin = s_golden.Floats($"{kind}.sin_hf_f32");
        for (int row = 0; row < rows; row++)
        {
            for (int i = 0; i < RotaryDim; i++)
            {
                float c = table.Span[row * RotaryDim + i % 32], s = table.Span[row * RotaryDim + 32 + i % 32];
                Assert.Equal(cos[row * RotaryDim + i], c, exactTolerance);
                Assert.Equal(sin[row * RotaryDim + i], s, exactTolerance);
                Assert.Equal(hfCos[row * RotaryDim + i], c, hfTolerance);
                Assert.Equal(hfSin[row * RotaryDim + i], s, hfTolerance);
            }
        }
    }

    [Fact]
    public void AxesTakeTurnsUpToTheirLimits()
    {
        // Eight frequencies, sections 3 3 2: t 0 3 6, h 1 4 7, w 2 5.
        using var arena = new Arena();
        FloatView table = arena.Zeros(16), axis = arena.Zeros(16);
        var rope = new RopeTable(16, 1e4, [3, 3, 2]);
        int[] positions = [5, 17, 29];
        rope.Fill(positions, 1, table);
        int[] owner = [0, 1, 2, 0, 1, 2, 0, 1];
        for (int i = 0; i < 8; i++)
        {
            int p = positions[owner[i]];
            rope.Fill([p, p, p], 1, axis);
            Assert.Equal(axis.Span[i], table.Span[i]);
            Assert.Equal(axis.Span[8 + i], table.Span[8 + i]);
        }
    }

    [Fact]
    public void YarnKeepsFastFrequenciesAndDividesSlowOnes()
    {
        using var arena = new Arena();
        FloatView plain = arena.Zeros(128), stretched = arena.Zeros(128);
        int[] positions = [1, 4, 1, 4, 1, 4];
        new RopeTable(64, 1e7, [11, 11, 10]).Fill(positions, 2, plain);
        new RopeTable(64, 1e7, [11, 11, 10], new YarnScaling(4, 262144)).Fill(positions, 2, stretched);
        float amplitude = (float)(0.1 * Math.Log(4) + 1);
        // The ramp runs from index 14 (32 turns: 14.2) to 22 (1 turn: 21.1).
        for (int i = 0; i <= 14; i++)
            Assert.Equal(plain.Span[32 + i] * amplitude, stretched.Span[32 + i], 1e-7);
        for (int i = 22; i < 32; i++)
            Assert.Equal(plain.Span[32 + i] * amplitude, stretched.Span[64 + 32 + i], 1e-7);
        for (int i = 15; i < 22; i++)
        {
            double divisor = 1 / ((i - 14) / 8.0 / 4 + 1 - (i - 14) / 8.0);
            Assert.Equal(Math.Sin(Math.Pow(1e7, -i / 32.0) / divisor) * amplitude, stretched.Span[32 + i], 1e-7);
        }
    }

    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void RotationIsTheReferenceWithTheReferencesTable(Isa isa)
    {
        // The reference rotates heads that are already normed, so the norm is made the identity: unit weight, and rows scaled to
        // mean square 1 and back. Its float table shows the rotation alone; the exact table is 8e-3 away at the far end.
        using var arena = new Arena();
        using var team = new ThreadTeam(1);
        foreach (string name in new[] { "q", "k" })
        {
            int[] shape = s_golden.Shape(name);
            int heads = shape[0], rows = shape[1], dim = shape[2];
            FloatView x = arena.Zeros(rows * heads * dim), y = arena.Zeros(rows * heads * dim), table = arena.Zeros(rows * RotaryDim);
            FloatView exact = arena.Zeros(rows * RotaryDim), one = arena.Of([.. Enumerable.Repeat(1f, dim)]);
            float[] source = s_golden.Floats(name), expected = s_golden.Floats($"{name}_rot");
            float[] cos = s_golden.Floats("text.cos_hf_f32"), sin = s_golden.Floats("text.sin_hf_f32");
            for (int t = 0; t < rows; t++)
            {
                for (int i = 0; i < 32; i++)
                {
                    table.Span[t * 64 + i] = cos[t * 64 + i];
                    table.Span[t * 64 + 32 + i] = sin[t * 64 + i];
                }

                for (int h = 0; h < heads; h++)
                    source.AsSpan((h * rows + t) * dim, dim).CopyTo(x.Span.Slice((t * heads + h) * dim, dim));
            }

            new RopeTable(RotaryDim, 1e7, [11, 11, 10]).Fill(Positions("text"), rows, exact);
            foreach ((FloatView angles, double tolerance) in new[] { (table, 2e-6), (exact, 2e-2) })
            {
                HeadNormRope.Apply(isa, x, heads * dim, dim, rows, heads, dim, one, 0, angles, RotaryDim, y, team);
                for (int t = 0; t < rows; t++)
                {
                    for (int h = 0; h < heads; h++)
                    {
                        Span<float> head = y.Span.Slice((t * heads + h) * dim, dim);
                        double square = 0;
                        foreach (float value in x.Span.Slice((t * heads + h) * dim, dim))
                            square += value * value;
                        float rms = (float)Math.Sqrt(square / dim);
                        foreach (ref float value in head)
                            value *= rms;
                        Near.Each(expected.AsSpan((h * rows + t) * dim, dim), head, tolerance, 1, $"{name} row {t}");
                    }
                }
            }
        }
    }

    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void ReadsQueriesBetweenTheirGates(Isa isa)
    {
        using var arena = new Arena();
        using var one = new ThreadTeam(1);
        using var three = new ThreadTeam(3);
        foreach ((int rows, int heads, int dim, int rotary) in new[] { (5, 3, 32, 8), (3, 2, 20, 12), (2, 4, 256, 64), (2, 1, 8, 0), (2, 1, 10, 10), (12, 24, 256, 64) })
        {
            int width = heads * dim;
            FloatView qGate = arena.Random(rows * width * 2, 2), weight = arena.Random(dim), packed = arena.Zeros(rows * width);
            for (int head = 0; head < rows * heads; head++)
                packed.Slice(head * dim, dim).CopyFrom(qGate.Slice(head * 2 * dim, dim));
            FloatView table = arena.Zeros(rows * rotary);
            int[] positions = [.. Enumerable.Range(0, 3 * rows).Select(i => i * 37)];
            new RopeTable(rotary, 1e6, [rotary / 2, 0, 0]).Fill(positions, rows, table);

            FloatView expected = arena.Zeros(rows * width), y = arena.Zeros(rows * width);
            HeadNormRope.Apply(Isa.Scalar, qGate, 2 * width, 2 * dim, rows, heads, dim, weight, 1e-6f, table, rotary, expected, one);
            HeadNormRope.Apply(isa, qGate, 2 * width, 2 * dim, rows, heads, dim, weight, 1e-6f, table, rotary, y, three);
            Near.Scaled(expected.Span, y.Span, 1e-6);

            // In place on packed heads, and row by row.
            for (int t = 0; t < rows; t++)
            {
                FloatView row = packed.Slice(t * width, width);
                HeadNormRope.Apply(isa, row, width, dim, 1, heads, dim, weight, 1e-6f, table.Slice(t * rotary, rotary), rotary, row, one);
            }

            Near.Bits(y.Span, packed.Span);
        }
    }

    [Fact]
    public void ImpossibleTablesAreRefused()
    {
        Assert.Throws<ArgumentException>(() => new RopeTable(7, 1e7, [1, 1, 1]));
        Assert.Throws<ArgumentException>(() => new RopeTable(8, double.NaN, [1, 1, 1]));
        Assert.Throws<ArgumentException>(() => new RopeTable(8, 1e7, [1, 1]));
        Assert.Throws<ArgumentException>(() => new RopeTable(8, 1e7, [1, -1, 1]));
        Assert.Throws<ArgumentException>(() => new RopeTable(8, 1e7, [2, 1, 1], new YarnScaling(0, 4096)));
        using var arena = new Arena();
        FloatView table = arena.Zeros(8);
        Assert.Throws<ArgumentException>(() => new RopeTable(8, 1e7, [2, 1, 1]).Fill([1, 2], 1, table));
        Assert.Throws<ArgumentException>(() => new RopeTable(8, 1e7, [2, 1, 1]).Fill([1, 2, 3, 4, 5, 6], 2, table));
    }

    private static int[] Positions(string kind)
    {
        int[] positions = [.. s_golden.Longs(kind == "text" ? "positions" : "mrope_positions").Select(p => (int)p)];
        return kind == "text" ? [.. positions, .. positions, .. positions] : positions;
    }
}
