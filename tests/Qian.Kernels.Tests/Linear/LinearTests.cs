namespace Qian.Kernels.Tests;

public sealed class LinearTests : IDisposable
{
    // Rounding of float sums, relative to |x| |w|.
    private const double Near = 1e-5;

    private readonly ThreadTeam _team = new(2);

    public static TheoryData<WeightType, Isa> TypesAndTiers() => LinearSamples.TypesAndTiers();

    public static TheoryData<Isa> Tiers() => LinearSamples.Tiers();

    public void Dispose() => _team.Dispose();

    [Theory]
    [MemberData(nameof(TypesAndTiers))]
    public void TierAgreesWithTheDefinition(WeightType type, Isa isa)
    {
        // Odd row counts and a padded last panel; one block of columns, many, and (where the type allows) part of a block.
        int block = Math.Max(32, WeightFormat.BlockValues(type));
        foreach ((int outputs, int inputs, int rows) in new[] { (1, block, 1), (6, 2 * block, 3), (15, 512, 2), (16, 1024, 8), (17, 3 * block, 5), (48, 768, 17), (130, 256, 1) })
        {
            float[] x = LinearSamples.Activations(rows, inputs, outputs);
            using NativeBuffer bytes = LinearSamples.Weights(type, outputs, inputs, 7);
            using WeightMatrix mapped = LinearSamples.Matrix(type, outputs, inputs, bytes, WeightStorage.Mapped, _team);
            using WeightMatrix packed = LinearSamples.Matrix(type, outputs, inputs, bytes, WeightStorage.Packed, _team);
            foreach (bool exact in new[] { false, true })
            {
                float[] expected = LinearSamples.Project(Isa.Scalar, mapped, x, rows, exact, _team);
                foreach (WeightMatrix weight in new[] { mapped, packed })
                {
                    float[] actual = LinearSamples.Project(isa, weight, x, rows, exact, _team, slack: 5);
                    double distance = LinearSamples.Distance(actual, expected, x, mapped);
                    Assert.True(distance <= Near, $"{type} [{outputs}, {inputs}] x {rows}, packed {weight.IsPacked}, exact {exact}: off by {distance:E2}");
                }
            }
        }
    }

    [Theory]
    [MemberData(nameof(TypesAndTiers))]
    public void RowAloneEqualsRowInBatch(WeightType type, Isa isa)
    {
        const int Outputs = 37, Inputs = 768;
        using NativeBuffer bytes = LinearSamples.Weights(type, Outputs, Inputs, 11);
        float[] x = LinearSamples.Activations(64, Inputs, 5);
        foreach (WeightStorage storage in new[] { WeightStorage.Mapped, WeightStorage.Packed })
        {
            using WeightMatrix weight = LinearSamples.Matrix(type, Outputs, Inputs, bytes, storage, _team);
            foreach (bool exact in new[] { false, true })
            {
                float[] reference = LinearSamples.Project(isa, weight, x, 64, exact, _team);
                foreach (int rows in new[] { 1, 2, 3, 5, 8, 17 })
                {
                    float[] actual = LinearSamples.Project(isa, weight, x, rows, exact, _team);
                    AssertSameBits(reference.AsSpan(0, rows * Outputs), actual, $"{rows} rows");
                    // The same rows elsewhere in a batch: another place in a tile must not matter either.
                    int skipped = 64 - rows;
                    actual = LinearSamples.Project(isa, weight, x[(skipped * Inputs)..], rows, exact, _team);
                    AssertSameBits(reference.AsSpan(skipped * Outputs), actual, $"last {rows} rows");
                }
            }
        }
    }

    [Theory]
    [MemberData(nameof(Tiers))]
    public void AFactorOfTheWholeMatrixMultipliesItsProducts(Isa isa)
    {
        const int Outputs = 45, Inputs = 320, Rows = 19;
        const float Factor = 0.0371f;
        using NativeBuffer bytes = LinearSamples.Weights(WeightType.NVFP4, Outputs, Inputs, 13);
        int rowBytes = (int)WeightFormat.RowBytes(WeightType.NVFP4, Inputs);
        using WeightMatrix plain = LinearSamples.Matrix(WeightType.NVFP4, Outputs, Inputs, bytes, WeightStorage.Packed, _team);
        using var store = new WeightStore();
        WeightMatrix scaled = store.Take(WeightType.NVFP4, Outputs, Inputs, (row, blocks) => bytes.Span<byte>((long)row * rowBytes, rowBytes).CopyTo(blocks), Factor);
        store.Fill(_team);
        var expectedRow = new float[Inputs];
        var actualRow = new float[Inputs];
        plain.DecodeRow(Outputs - 1, expectedRow);
        scaled.DecodeRow(Outputs - 1, actualRow);
        Assert.Equal(Array.ConvertAll(expectedRow, value => value * Factor), actualRow);

        float[] x = LinearSamples.Activations(Rows, Inputs, 3);
        float[] expected = LinearSamples.Project(isa, plain, x, Rows, exact: false, _team);
        AssertSameBits(Array.ConvertAll(expected, value => value * Factor), LinearSamples.Project(isa, scaled, x, Rows, exact: false, _team, slack: 3), "integer");
        expected = LinearSamples.Project(Isa.Scalar, plain, x, Rows, exact: true, _team);
        double distance = LinearSamples.Distance(LinearSamples.Project(isa, scaled, x, Rows, exact: true, _team), Array.ConvertAll(expected, value => value * Factor), x, scaled);
        Assert.True(distance <= Near, $"exact: off by {distance:E2}");
    }

    [Theory]
    [MemberData(nameof(Tiers))]
    public void ThreadsDoNotChangeBits(Isa isa)
    {
        using var one = new ThreadTeam(1);
        using var three = new ThreadTeam(3);
        using NativeBuffer bytes = LinearSamples.Weights(WeightType.Q4_K, 1100, 512, 3);
        using WeightMatrix weight = LinearSamples.Matrix(WeightType.Q4_K, 1100, 512, bytes, WeightStorage.Packed, three);
        float[] x = LinearSamples.Activations(9, 512, 4);
        AssertSameBits(LinearSamples.Project(isa, weight, x, 9, false, one), LinearSamples.Project(isa, weight, x, 9, false, three), "threads");
    }

    // Many rows of activations: several reaches of tiles.
    [Theory]
    [MemberData(nameof(Tiers))]
    public void LongBatchAgreesWithTheDefinition(Isa isa)
    {
        const int Rows = 203, Outputs = 20, Inputs = 5120;
        float[] x = LinearSamples.Activations(Rows, Inputs, 1);
        foreach (WeightType type in new[] { WeightType.Q4_K, WeightType.BF16 })
        {
            using NativeBuffer bytes = LinearSamples.Weights(type, Outputs, Inputs, 2);
            using WeightMatrix weight = LinearSamples.Matrix(type, Outputs, Inputs, bytes, WeightStorage.Packed, _team);
            float[] expected = LinearSamples.Project(Isa.Scalar, weight, x, Rows, false, _team);
            float[] actual = LinearSamples.Project(isa, weight, x, Rows, false, _team);
            Assert.InRange(LinearSamples.Distance(actual, expected, x, weight), 0, Near);
        }
    }

    // Weights and activations at their extremes: the 16-bit sums must not saturate.
    [Theory]
    [MemberData(nameof(Tiers))]
    public void ExtremeIntegersDoNotSaturate(Isa isa)
    {
        (WeightType Type, int[] Halves)[] types =
            [
                (WeightType.Q2_K, [80, 82]), (WeightType.Q3_K, [108]), (WeightType.Q4_K, [0, 2]), (WeightType.Q5_K, [0, 2]), (WeightType.Q6_K, [208]), (WeightType.Q8_0, [0]),
                (WeightType.Q4_0, [0]), (WeightType.IQ4_NL, [0]), (WeightType.IQ4_XS, [0]), (WeightType.IQ1_S, [0]),
                (WeightType.IQ2_XXS, [0]), (WeightType.IQ2_XS, [0]), (WeightType.IQ2_S, [0]), (WeightType.IQ3_XXS, [0]), (WeightType.IQ3_S, [0]),
            ];
        foreach ((WeightType type, int[] halves) in types)
        {
            foreach (byte fill in new byte[] { 0xff, 0x7f, 0x80 })
            {
                using NativeBuffer bytes = NativeBuffer.Allocate(16 * WeightFormat.RowBytes(type, 256));
                bytes.Span<byte>(0, (int)bytes.Bytes).Fill(fill);
                for (int block = 0; block < bytes.Bytes; block += WeightFormat.BlockBytes(type))
                {
                    foreach (int at in halves)
                        bytes.Span<Half>(block + at, 1)[0] = (Half)0.01f;
                }

                using WeightMatrix weight = LinearSamples.Matrix(type, 16, 256, bytes, WeightStorage.Packed, _team);
                float[] x = new float[3 * 256];
                for (int i = 0; i < 256; i++)
                    (x[i], x[256 + i], x[512 + i]) = (1, -1, i % 2 == 0 ? 1 : -1);
                float[] expected = LinearSamples.Project(Isa.Scalar, weight, x, 3, false, _team);
                float[] actual = LinearSamples.Project(isa, weight, x, 3, false, _team);
                Assert.InRange(LinearSamples.Distance(actual, expected, x, weight), 0, Near);
            }
        }
    }

    // The definition itself, against sums written out here.
    [Fact]
    public void DefinitionRoundsActivationsPerThirtyTwo()
    {
        const int Outputs = 5, Inputs = 256;
        float[] x = LinearSamples.Activations(2, Inputs, 8);
        float[] rounded = (float[])x.Clone();
        for (int g = 0; g < rounded.Length; g += 32)
        {
            float scale = rounded.Skip(g).Take(32).Max(MathF.Abs) / 127;
            for (int i = g; i < g + 32; i++)
                rounded[i] = scale * MathF.Round(rounded[i] / scale);
        }

        foreach (WeightType type in LinearSamples.Types)
        {
            using NativeBuffer bytes = LinearSamples.Weights(type, Outputs, Inputs, 9);
            using WeightMatrix weight = LinearSamples.Matrix(type, Outputs, Inputs, bytes, WeightStorage.Mapped, _team);
            foreach (bool exact in new[] { false, true })
            {
                float[] values = exact || !WeightFormat.IsQuantized(type) ? x : rounded;
                float[] expected = new float[2 * Outputs];
                float[] row = new float[Inputs];
                for (int i = 0; i < expected.Length; i++)
                {
                    weight.DecodeRow(i % Outputs, row);
                    double sum = 0;
                    for (int k = 0; k < Inputs; k++)
                        sum += (double)row[k] * values[i / Outputs * Inputs + k];
                    expected[i] = (float)sum;
                }

                float[] actual = LinearSamples.Project(Isa.Scalar, weight, x, 2, exact, _team);
                Assert.InRange(LinearSamples.Distance(actual, expected, x, weight), 0, 1e-6);
            }
        }
    }

    [Theory]
    [MemberData(nameof(Tiers))]
    public void NotANumberStaysInItsRow(Isa isa)
    {
        const int Outputs = 20, Inputs = 512;
        foreach (WeightType type in new[] { WeightType.Q4_K, WeightType.Q6_K, WeightType.Q8_0, WeightType.Q2_K, WeightType.IQ3_S, WeightType.BF16 })
        {
            using NativeBuffer bytes = LinearSamples.Weights(type, Outputs, Inputs, 9);
            using WeightMatrix weight = LinearSamples.Matrix(type, Outputs, Inputs, bytes, WeightStorage.Packed, _team);
            foreach (float bad in new[] { float.NaN, float.PositiveInfinity })
            {
                float[] x = LinearSamples.Activations(3, Inputs, 8);
                float[] clean = LinearSamples.Project(isa, weight, x, 3, false, _team);
                x[Inputs + 77] = bad;
                float[] actual = LinearSamples.Project(isa, weight, x, 3, false, _team);
                AssertSameBits(clean.AsSpan(0, Outputs), actual.AsSpan(0, Outputs), "row before");
                AssertSameBits(clean.AsSpan(2 * Outputs), actual.AsSpan(2 * Outputs), "row after");
                Assert.All(actual[Outputs..(2 * Outputs)], value => Assert.False(float.IsFinite(value)));
            }
        }
    }

    [Theory]
    [MemberData(nameof(Tiers))]
    public void TinyAndZeroActivationsGiveFiniteResults(Isa isa)
    {
        using NativeBuffer bytes = LinearSamples.Weights(WeightType.Q8_0, 16, 64, 9);
        using WeightMatrix weight = LinearSamples.Matrix(WeightType.Q8_0, 16, 64, bytes, WeightStorage.Packed, _team);
        foreach (float value in new[] { 0, float.Epsilon, 1e-38f, 1e-34f, 1e34f })
        {
            float[] x = new float[64];
            Array.Fill(x, value);
            Assert.All(LinearSamples.Project(isa, weight, x, 1, false, _team), y => Assert.True(float.IsFinite(y)));
        }
    }

    // Columns that fill neither a vector nor a slice, which only float types can have.
    [Theory]
    [MemberData(nameof(Tiers))]
    public void FloatTypesTakeAnyColumnCount(Isa isa)
    {
        foreach (WeightType type in new[] { WeightType.F32, WeightType.F16, WeightType.BF16 })
        {
            foreach (int inputs in new[] { 1, 7, 16, 33, 513, 1031 })
            {
                using NativeBuffer bytes = LinearSamples.Weights(type, 9, inputs, 9);
                using WeightMatrix weight = LinearSamples.Matrix(type, 9, inputs, bytes, WeightStorage.Mapped, _team);
                float[] x = LinearSamples.Activations(7, inputs, 8);
                float[] expected = LinearSamples.Project(Isa.Scalar, weight, x, 7, false, _team);
                Assert.InRange(LinearSamples.Distance(LinearSamples.Project(isa, weight, x, 7, false, _team), expected, x, weight), 0, Near);
            }
        }
    }

    [Fact]
    public void SeveralWeightsInOneCallEqualSeparateCalls()
    {
        const int Inputs = 512, Rows = 3;
        (WeightType Type, int Outputs)[] shapes = [(WeightType.Q4_K, 1024), (WeightType.BF16, 48), (WeightType.Q6_K, 31), (WeightType.IQ3_S, 17), (WeightType.Q2_K, 17)];
        float[] x = LinearSamples.Activations(Rows, Inputs, 6);
        using NativeBuffer input = NativeBuffer.AllocateFloats(x.Length);
        x.CopyTo(input.AllFloats.Span);
        using var scratch = new LinearScratch(Rows, Inputs, 2);
        var projections = new Projection[shapes.Length];
        for (int i = 0; i < shapes.Length; i++)
        {
            NativeBuffer bytes = LinearSamples.Weights(shapes[i].Type, shapes[i].Outputs, Inputs, i);
            WeightMatrix weight = LinearSamples.Matrix(shapes[i].Type, shapes[i].Outputs, Inputs, bytes, WeightStorage.Packed, _team);
            projections[i] = new Projection(weight, NativeBuffer.AllocateFloats(Rows * shapes[i].Outputs).AllFloats, shapes[i].Outputs);
        }

        Qian.Kernels.Linear.Project(input.AllFloats, Inputs, Rows, projections, scratch, exact: false, _team);
        foreach (Projection projection in projections)
            AssertSameBits(LinearSamples.Project(IsaTier.Current, projection.Weight, x, Rows, false, _team), projection.Output.Span, projection.Weight.Type.ToString());
    }

    [Fact]
    public void AllocatesNothing()
    {
        using NativeBuffer bytes = LinearSamples.Weights(WeightType.Q4_K, 256, 512, 1);
        using NativeBuffer floats = LinearSamples.Weights(WeightType.BF16, 64, 512, 1);
        using WeightMatrix first = LinearSamples.Matrix(WeightType.Q4_K, 256, 512, bytes, WeightStorage.Packed, _team);
        using WeightMatrix second = LinearSamples.Matrix(WeightType.BF16, 64, 512, floats, WeightStorage.Packed, _team);
        using NativeBuffer memory = NativeBuffer.AllocateFloats(9 * (512 + 256 + 64));
        using var scratch = new LinearScratch(9, 512, 2);
        FloatView x = memory.Floats(0, 9 * 512);
        int[] rowCounts = [1, 9];
        Projection[] projections = [new(first, memory.Floats(9 * 512, 9 * 256), 256), new(second, memory.Floats(9 * 768, 9 * 64), 64)];
        long allocated = 0;
        // The last of three turns counts: by then the runtime has loaded what it loads on first use.
        for (int i = 0; i < 3; i++)
        {
            long before = GC.GetAllocatedBytesForCurrentThread();
            foreach (int rows in rowCounts)
            {
                Qian.Kernels.Linear.Project(x, 512, rows, projections, scratch, exact: false, _team);
                Qian.Kernels.Linear.Project(x, 512, rows, projections, scratch, exact: true, _team);
            }

            allocated = GC.GetAllocatedBytesForCurrentThread() - before;
        }

        Assert.Equal(0, allocated);
    }

    [Fact]
    public void MismatchedShapesAreRefused()
    {
        using NativeBuffer bytes = LinearSamples.Weights(WeightType.Q8_0, 16, 64, 1);
        using WeightMatrix weight = LinearSamples.Matrix(WeightType.Q8_0, 16, 64, bytes, WeightStorage.Packed, _team);
        using NativeBuffer memory = NativeBuffer.AllocateFloats(1024);
        using var scratch = new LinearScratch(2, 64, 2);
        FloatView x = memory.Floats(0, 128);
        FloatView y = memory.Floats(128, 48);
        void Project(FloatView input, int stride, int rows, FloatView output, int outputStride) =>
            Qian.Kernels.Linear.Project(input, stride, rows, [new(weight, output, outputStride)], scratch, false, _team);

        Project(x, 64, 2, y, 16);
        Assert.Throws<ArgumentException>(() => Project(x, 64, 3, y, 16)); // x too short
        Assert.Throws<ArgumentException>(() => Project(x, 32, 2, y, 16)); // rows overlap
        Assert.Throws<ArgumentException>(() => Project(x, 64, 2, y, 8)); // outputs overlap
        Assert.Throws<ArgumentException>(() => Project(x, 64, 2, y, 33)); // y too short
        Assert.Throws<ArgumentException>(() => Project(memory.AllFloats, 64, 9, memory.AllFloats, 16)); // scratch too small
        Assert.Throws<ArgumentOutOfRangeException>(() => Project(x, 64, -1, y, 16));
    }

    private static void AssertSameBits(ReadOnlySpan<float> expected, ReadOnlySpan<float> actual, string what)
    {
        Assert.Equal(expected.Length, actual.Length);
        for (int i = 0; i < expected.Length; i++)
            Assert.True(BitConverter.SingleToInt32Bits(expected[i]) == BitConverter.SingleToInt32Bits(actual[i]), $"{what}: value {i} is {actual[i]:R}, not {expected[i]:R}");
    }
}
