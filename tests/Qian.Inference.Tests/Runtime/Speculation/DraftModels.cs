using Qian.Inference.Formats;
using Qian.Inference.Model;
using Qian.Inference.Runtime;
using Qian.Kernels;

namespace Qian.Inference.Tests.Runtime;

// Two tiny models with made-up tokenizers, one with an MTP head. Random weights hardly ever guess a random trunk's tokens, so
// runs of accepted drafts come from prompt lookup: a repetition penalty below 1 rewards repeating, which it then guesses.
public sealed class DraftModels : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("qian-tests-").FullName;

    public DraftModels()
    {
        WithMtp = Write(GoldenFolders.MtpTiny, "mtp.gguf");
        WithoutMtp = Write(GoldenFolders.TextDenseTiny, "text.gguf");
    }

    public string WithMtp { get; }

    public string WithoutMtp { get; }

    public static SamplingOptions Repetitive { get; } = new() { Temperature = 0, RepetitionPenalty = 0.1f, RepetitionWindow = 8, MaxTokens = 60, IgnoreEos = true };

    public Engine Load(bool mtp = true, EngineOptions? options = null) =>
        Engine.Load(mtp ? WithMtp : WithoutMtp, (options ?? new EngineOptions()) with { ContextLength = options?.ContextLength ?? 2048, PrefixCacheBytes = options?.PrefixCacheBytes ?? 0 });

    public static int[] Prompt(int length, int seed, int below = 256)
    {
        var random = new Random(seed);
        return [.. Enumerable.Range(0, length).Select(_ => random.Next(below))];
    }

    internal static async Task<List<GeneratedToken>> Collect(IAsyncEnumerable<GeneratedToken> tokens)
    {
        var list = new List<GeneratedToken>();
        await foreach (GeneratedToken token in tokens)
            list.Add(token);
        return list;
    }

    // The same without a session around it, so that the state can be looked at.
    internal static async Task<List<GeneratedToken>> Generate(Engine engine, Timeline timeline, SamplingOptions options, CancellationToken cancellation = default)
    {
        Generation generation = engine.NewGeneration(timeline, options, cancellation);
        engine.Submit(generation);
        return await Collect(generation.Output.Reader.ReadAllAsync(CancellationToken.None));
    }

    // All that a DeltaNet model carries from token to token, beside keys and values.
    internal static float[] LinearState(Engine engine, SequenceState state)
    {
        var floats = new List<float>();
        for (int i = 0; i < engine.Config.LayerCount - engine.Config.FullAttentionLayerCount; i++)
        {
            floats.AddRange(state.Recurrent(i).Span);
            floats.AddRange(state.Window(i).Span);
        }

        floats.AddRange(state.LastHidden.Span);
        return [.. floats];
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private string Write(string golden, string name)
    {
        string path = Path.Combine(_folder, name);
        using Checkpoint checkpoint = Checkpoint.Open(golden);
        GgufExport.Write(checkpoint, path, WeightType.Q8_0, SyntheticVocabulary.Create(checkpoint.Config.VocabularySize, paddingRowCount: 20));
        return path;
    }
}
