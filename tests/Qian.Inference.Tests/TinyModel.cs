using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Inference.Tests;

// The golden text model with a made-up tokenizer, as one GGUF file: random weights, real code paths.
public sealed class TinyModel : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("qian-tests-").FullName;

    public TinyModel()
    {
        Path = System.IO.Path.Combine(_folder, "tiny.gguf");
        using Checkpoint checkpoint = Checkpoint.Open(GoldenFolders.TextDenseTiny);
        GgufExport.Write(checkpoint, Path, WeightType.Q8_0, SyntheticVocabulary.Create(checkpoint.Config.VocabularySize, paddingRowCount: 20));
    }

    public string Path { get; }

    public string Folder => _folder;

    // Without a prefix store unless one is asked for, so that what is compared was computed.
    public Engine Load(EngineOptions? options = null) =>
        Engine.Load(Path, (options ?? new EngineOptions()) with { ContextLength = options?.ContextLength ?? 2048, PrefixCacheBytes = options?.PrefixCacheBytes ?? 0 });

    public void Dispose() => Directory.Delete(_folder, recursive: true);
}
