using Qian.Inference.Measurement;

namespace Qian.Inference.Tests.Measurement;

public sealed class BenchLockTests
{
    [Fact]
    public void TheSecondIsToldWhoIsFirst()
    {
        using var folder = new TempFolder();
        using (BenchLock.Take(folder.Path))
        {
            IOException error = Assert.Throws<IOException>(() => BenchLock.Take(folder.Path));
            Assert.Contains($"process {Environment.ProcessId} since", error.Message, StringComparison.Ordinal);
        }

        BenchLock.Take(folder.Path).Dispose();
    }
}
