namespace Qian.Agent.Tests;

// For tests whose model calls `make`, as it was trained to.
internal sealed class MakeFactAttribute : FactAttribute
{
    public MakeFactAttribute()
    {
        string[] folders = (Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator);
        if (!folders.Any(folder => File.Exists(Path.Combine(folder, "make"))))
            Skip = "this machine has no make";
    }
}
