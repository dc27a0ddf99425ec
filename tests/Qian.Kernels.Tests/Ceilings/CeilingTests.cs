namespace Qian.Kernels.Tests.Ceilings;

// The ceilings do the work they claim; how fast is nobody's business here.
public sealed class CeilingTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    public void EveryByteOfAWholeChunkIsRead(int threadCount)
    {
        const long bytes = (3L << 20) + 512;   // three chunks and a rest that is not read
        using var team = new ThreadTeam(threadCount);
        using NativeBuffer buffer = NativeBuffer.Allocate(bytes);
        Span<long> words = buffer.Span<long>(0, (int)(bytes / sizeof(long)));
        long expected = 0;
        for (int i = 0; i < words.Length; i++)
        {
            words[i] = (long)i * 0x9E3779B97F4A7C1 ^ (long)i << 40;
            if (i * 8L < ReadCeiling.ReadBytes(bytes))
                expected = unchecked(expected + words[i]);
        }

        Assert.Equal(3L << 20, ReadCeiling.ReadBytes(bytes));
        Assert.Equal(expected, ReadCeiling.Read(buffer, team));
    }

    [Fact]
    public void ABufferWithoutAChunkIsRefused()
    {
        using var team = new ThreadTeam(1);
        using NativeBuffer buffer = NativeBuffer.Allocate(4096);
        Assert.Throws<ArgumentException>(() => ReadCeiling.Read(buffer, team));
    }

    [Fact]
    public void EveryFormOfProductsCountsWhatItMultiplies()
    {
        using var team = new ThreadTeam(2);
        foreach (ProductCeiling form in ProductCeiling.Int8.Concat(ProductCeiling.Float32).Concat(ProductCeiling.BFloat16))
        {
            long one = form.Run(1, team);
            Assert.True(one > 0, form.Form);
            Assert.Equal(10 * one, form.Run(10, team));
            Assert.NotEmpty(form.Form);
        }

        Assert.Throws<ArgumentOutOfRangeException>(() => ProductCeiling.Int8[0].Run(0, team));
    }
}
