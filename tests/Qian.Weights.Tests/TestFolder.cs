namespace Qian.Weights.Tests;

// A folder of its own for a test, deleted after it; and the way to the data beside the tests.
internal sealed class TestFolder : IDisposable
{
    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("qian-weights-");

    public string Path => _folder.FullName;

    public static string Data(params ReadOnlySpan<string> names)
    {
        DirectoryInfo? folder = new(AppContext.BaseDirectory);
        while (folder is not null && !System.IO.File.Exists(System.IO.Path.Combine(folder.FullName, "Qian.slnx")))
            folder = folder.Parent;
        return System.IO.Path.Combine([folder!.FullName, "tests", "data", .. names]);
    }

    public string File(string name) => System.IO.Path.Combine(_folder.FullName, name);

    public void Dispose() => _folder.Delete(recursive: true);
}
