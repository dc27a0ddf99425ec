namespace Qian.Training.Tests;

// A folder of its own for one test, gone afterwards.
internal sealed class TempFolder : IDisposable
{
    public string Path { get; } = Directory.CreateTempSubdirectory("qian-test-").FullName;

    public void Dispose() => Directory.Delete(Path, recursive: true);
}
