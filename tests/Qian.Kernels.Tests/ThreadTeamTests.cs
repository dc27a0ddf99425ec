namespace Qian.Kernels.Tests;

public sealed class ThreadTeamTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(5)]
    public void EveryChunkRunsOnceWhetherWorkersSpinOrSleep(int threadCount)
    {
        using var team = new ThreadTeam(threadCount);
        var counts = new int[37];
        for (int region = 0; region < 300; region++)
        {
            // Pauses long enough to let the workers park, in some regions.
            if (region % 10 == 0)
                Thread.Sleep(3);
            Array.Clear(counts);
            var job = new CountJob(counts);
            team.Run(ref job, counts.Length);
            Assert.All(counts, count => Assert.Equal(1, count));
        }
    }

    [Fact]
    public void ARegionAllocatesNothing()
    {
        using var team = new ThreadTeam(2);
        var job = new CountJob(new int[8]);
        team.Run(ref job, 8);
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 100; i++)
            team.Run(ref job, 8);
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
    }

    private readonly struct CountJob(int[] counts) : IChunkedJob
    {
        public void Run(int chunkIndex) => Interlocked.Increment(ref counts[chunkIndex]);
    }
}
