namespace Qian.Inference.Tests.Constraint;

// The model in the repository: a real tokenizer and template, weights that can call tools, small enough to sample from at random.
public sealed class NanoModel : IDisposable
{
    private readonly Lazy<Engine> _engine = new(() => Engine.Load(Folder(), new EngineOptions { ContextLength = 2048, ThreadCount = 1 }));

    public Engine Engine => _engine.Value;

    public void Dispose()
    {
        if (_engine.IsValueCreated)
            _engine.Value.Dispose();
    }

    private static string Folder()
    {
        string at = AppContext.BaseDirectory;
        while (!File.Exists(Path.Combine(at, "Qian.slnx")))
            at = Path.GetDirectoryName(at) ?? throw new InvalidOperationException("the tests run outside the repository");
        return Path.Combine(at, "models", "nano");
    }
}
