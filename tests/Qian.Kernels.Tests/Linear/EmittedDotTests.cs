namespace Qian.Kernels.Tests;

// The emitted products against the C# form of the same tier: not near it but the same bits, so that either may stand in for the other.
public sealed class EmittedDotTests : IDisposable
{
    private readonly ThreadTeam _team = new(2);

    public static TheoryData<WeightType> QuantizedTypes => [.. LinearSamples.Types.Where(WeightFormat.IsQuantized)];

    public void Dispose() => _team.Dispose();

    [Theory]
    [MemberData(nameof(QuantizedTypes))]
    public void EveryColumnCountGivesTheBitsOfTheIntrinsics(WeightType type)
    {
        if (!IsaTier.IsSupported(Isa.Vnni))
            return;
        // Odd panels, a padded one, and (where the type allows) a block of K that is not full.
        const int Outputs = 16 * 4 + 5;
        int inputs = WeightFormat.BlockValues(type) <= 32 ? 512 + 96 : 512;
        using NativeBuffer bytes = LinearSamples.Weights(type, Outputs, inputs, 21);
        float[] x = LinearSamples.Activations(131, inputs, 22);
        foreach (WeightStorage storage in new[] { WeightStorage.Mapped, WeightStorage.Packed })
        {
            using WeightMatrix weight = LinearSamples.Matrix(type, Outputs, inputs, bytes, storage, _team);
            foreach (int rows in Enumerable.Range(1, 17).Concat([64, 65, 128, 131]))
            {
                float[] expected = LinearSamples.Project(Isa.Avx512, weight, x, rows, false, _team);
                AssertSameBits(expected, LinearSamples.Project(Isa.Vnni, weight, x, rows, false, _team), $"{rows} rows, {storage}");
            }
        }
    }

    // Long enough rows that K goes in segments, enough rows of weights for every size of chunk.
    [Theory]
    [InlineData(WeightType.Q4_K)]
    [InlineData(WeightType.Q6_K)]
    [InlineData(WeightType.Q8_0)]
    public void SegmentsAndChunksDoNotChangeBits(WeightType type)
    {
        if (!IsaTier.IsSupported(Isa.Vnni))
            return;
        const int Inputs = 6144, Rows = 136;
        float[] x = LinearSamples.Activations(Rows, Inputs, 31);
        using var one = new ThreadTeam(1);
        foreach (int outputs in new[] { 33, 530, 2070 })
        {
            using NativeBuffer row = LinearSamples.Weights(type, 7, Inputs, 32);
            using NativeBuffer bytes = NativeBuffer.Allocate(outputs * WeightFormat.RowBytes(type, Inputs));
            int rowBytes = (int)WeightFormat.RowBytes(type, Inputs);
            for (int r = 0; r < outputs; r++)
                row.Span<byte>(r % 7 * (long)rowBytes, rowBytes).CopyTo(bytes.Span<byte>(r * (long)rowBytes, rowBytes));
            using WeightMatrix weight = LinearSamples.Matrix(type, outputs, Inputs, bytes, WeightStorage.Packed, _team);
            float[] actual = LinearSamples.Project(Isa.Vnni, weight, x, Rows, false, one);
            AssertSameBits(LinearSamples.Project(Isa.Avx512, weight, x, Rows, false, _team), actual, $"{outputs} outputs");
            float[] last = LinearSamples.Project(Isa.Vnni, weight, x[((Rows - 1) * Inputs)..], 1, false, _team);
            AssertSameBits(last, actual.AsSpan((Rows - 1) * outputs), $"the last row of {outputs} outputs alone");
        }
    }

    // The code is given raw pointers and runs with preemption on: collections at any moment must not matter to it.
    [Fact]
    public void CollectionsDoNotDisturbTheCode()
    {
        if (!IsaTier.IsSupported(Isa.Vnni))
            return;
        const int Outputs = 256, Inputs = 1024, Rows = 11;
        using NativeBuffer bytes = LinearSamples.Weights(WeightType.Q6_K, Outputs, Inputs, 41);
        using WeightMatrix weight = LinearSamples.Matrix(WeightType.Q6_K, Outputs, Inputs, bytes, WeightStorage.Packed, _team);
        float[] x = LinearSamples.Activations(Rows, Inputs, 42);
        float[] expected = LinearSamples.Project(Isa.Avx512, weight, x, Rows, false, _team);
        bool stop = false;
        int collections = 0;
        var collector = new Thread(() =>
        {
            while (!Volatile.Read(ref stop))
            {
                GC.Collect(collections++ % 3, GCCollectionMode.Forced);
                Thread.Yield();
            }
        });
        collector.Start();
        try
        {
            for (int i = 0; i < 300 || Volatile.Read(ref collections) < 50; i++)
            {
                int rows = i % Rows + 1;
                AssertSameBits(expected.AsSpan(0, rows * Outputs), LinearSamples.Project(Isa.Vnni, weight, x, rows, false, _team), $"round {i}");
            }
        }
        finally
        {
            Volatile.Write(ref stop, true);
            collector.Join();
        }
    }

    [Fact]
    public void ATierIsForcedByNameOrRefused()
    {
        Assert.Equal(IsaTier.Offered[0], IsaTier.Choose(null));
        foreach (Isa isa in Enum.GetValues<Isa>())
        {
            string name = isa.ToString().ToLowerInvariant();
            if (IsaTier.Offered.Contains(isa))
                Assert.Equal(isa, IsaTier.Choose(name));
            else
                Assert.Throws<PlatformNotSupportedException>(() => IsaTier.Choose(name));
        }

        Assert.Throws<ArgumentException>(() => IsaTier.Choose("avx10"));
        Assert.Throws<ArgumentException>(() => IsaTier.Choose("3"));
        // The other operations know widths only.
        Assert.Contains(IsaTier.Current, IsaTier.Available);
        Assert.DoesNotContain(Isa.Vnni, IsaTier.Available);
        Assert.DoesNotContain(Isa.AvxVnni, IsaTier.Available);
    }

    [Fact]
    public void TheCodeExistsWhereTheCpuHasTheInstruction()
    {
        if (!OperatingSystem.IsLinux())
            return;
        bool listed = File.ReadAllText("/proc/cpuinfo").Contains("avx512_vnni", StringComparison.Ordinal);
        Assert.Equal(listed && IsaTier.IsSupported(Isa.Avx512), EmittedDot.IsSupported);
        Assert.Equal(EmittedDot.IsSupported, IsaTier.IsSupported(Isa.Vnni));
    }

    private static void AssertSameBits(ReadOnlySpan<float> expected, ReadOnlySpan<float> actual, string what)
    {
        Assert.Equal(expected.Length, actual.Length);
        for (int i = 0; i < expected.Length; i++)
            Assert.True(BitConverter.SingleToInt32Bits(expected[i]) == BitConverter.SingleToInt32Bits(actual[i]), $"{what}: value {i} is {actual[i]:R}, not {expected[i]:R}");
    }
}
