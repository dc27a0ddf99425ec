using Qian.Inference;

namespace Qian.Agent.Tests;

// The embedded model, on one thread.
internal static class Embedded
{
    public static Engine Load() => Engine.Load(Folder(), new EngineOptions { ContextLength = 16_384, ThreadCount = 1 });

    private static string Folder()
    {
        string at = AppContext.BaseDirectory;
        while (!File.Exists(Path.Combine(at, "Qian.slnx")))
            at = Path.GetDirectoryName(at) ?? throw new InvalidOperationException("the tests run outside the repository");
        return Path.Combine(at, "models", "nano");
    }
}
