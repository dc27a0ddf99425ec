using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Inference.Tests.Model;

// Whatever lies where the cache should be, the tokens and their probabilities are those of a load without one.
[Trait("Tier", "All")]
public sealed class PackedCacheTests : IDisposable
{
    private static readonly string s_quantized = Path.Combine(GoldenFolders.Goldens, "gguf-tiny", "Q4_K_M.gguf");

    private readonly TempFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task TheNextStartMapsTheSameWeights()
    {
        string model = Copy(s_quantized), cache = model + ".packed";
        string plain = await Answer(model, null);
        (string first, string[] notes) = await AnswerWithNotes(model, "on");
        Assert.Equal((plain, 0), (first, notes.Length));
        DateTime written = File.GetLastWriteTimeUtc(cache);
        Assert.False(File.Exists(cache + ".part"));
        (string second, notes) = await AnswerWithNotes(model, "on");
        Assert.Equal((plain, 0), (second, notes.Length));
        Assert.Equal(written, File.GetLastWriteTimeUtc(cache));

        using Engine engine = Load(model, "on");
        Assert.True(engine.Model.Weights.IsMapped);
        using Engine other = Load(model, null);
        Assert.False(other.Model.Weights.IsMapped);
    }

    [Fact]
    public async Task NanoAnswersTheSame()
    {
        string nano = Path.GetFullPath(Path.Combine(GoldenFolders.Data, "..", "..", "models", "nano"));
        var options = new EngineOptions { LoadAs = WeightType.Q8_0, ThreadCount = 1, ContextLength = 256 };
        string plain = await Answer(nano, null, options);
        Assert.Equal(plain, await Answer(nano, _folder.Path, options));
        Assert.True(File.Exists(_folder.File("nano.packed")));
        (string mapped, string[] notes) = await AnswerWithNotes(nano, _folder.Path, options);
        Assert.Equal((plain, 0), (mapped, notes.Length));
    }

    public static TheoryData<string> Damages => ["header", "magic", "weights", "short", "long", "empty"];

    [Theory]
    [MemberData(nameof(Damages))]
    public async Task ADamagedCacheIsNotedAndWrittenAnew(string damage)
    {
        string model = Copy(s_quantized), cache = model + ".packed";
        string plain = await Answer(model, "on");
        byte[] whole = File.ReadAllBytes(cache);
        byte[] bytes = damage switch
        {
            "header" => Flipped(whole, 30),
            "magic" => Flipped(whole, 0),
            "weights" => Flipped(whole, whole.Length - whole.Length / 20),
            "short" => whole[..^64],
            "long" => [.. whole, 1],
            _ => [],
        };
        File.WriteAllBytes(cache, bytes);
        (string answer, string[] notes) = await AnswerWithNotes(model, "on");
        Assert.Equal(plain, answer);
        Assert.Contains(cache, Assert.Single(notes), StringComparison.Ordinal);
        Assert.Equal(whole, File.ReadAllBytes(cache));
    }

    [Fact]
    public async Task ACacheOfAnotherModelIsNotedAndWrittenAnew()
    {
        string model = Copy(s_quantized);
        await Answer(model, _folder.File("weights.packed"));
        byte[] before = File.ReadAllBytes(_folder.File("weights.packed"));
        // The same bytes under another name and time are another file as far as anyone can tell without reading it.
        string other = _folder.File("other.gguf");
        File.Copy(model, other);
        File.SetLastWriteTimeUtc(other, File.GetLastWriteTimeUtc(model).AddSeconds(5));
        (_, string[] notes) = await AnswerWithNotes(other, _folder.File("weights.packed"));
        Assert.Contains("another", Assert.Single(notes), StringComparison.Ordinal);
        Assert.NotEqual(before, File.ReadAllBytes(_folder.File("weights.packed")));
        Assert.Empty((await AnswerWithNotes(other, _folder.File("weights.packed"))).Notes);
    }

    [Fact]
    public async Task AnotherFileIsNotOverwritten()
    {
        string precious = _folder.File("precious.txt");
        File.WriteAllText(precious, "not a packed cache");
        await Assert.ThrowsAsync<BadRequestException>(() => Answer(s_quantized, precious));
        await Assert.ThrowsAsync<BadRequestException>(() => Answer(s_quantized, " "));
        Assert.Equal("not a packed cache", File.ReadAllText(precious));
    }

    [Fact]
    public async Task AFolderThatCannotBeWrittenIsNoted()
    {
        string file = _folder.File("file");
        File.WriteAllText(file, "");
        (string answer, string[] notes) = await AnswerWithNotes(s_quantized, Path.Combine(file, "below", "cache"));
        Assert.Equal(await Answer(s_quantized, null), answer);
        Assert.Contains("not written", Assert.Single(notes), StringComparison.Ordinal);
    }

    [Fact]
    public async Task ExactArithmeticPacksNothing()
    {
        string model = Copy(s_quantized);
        await Answer(model, "on", new EngineOptions { ExactArithmetic = true });
        Assert.False(File.Exists(model + ".packed"));
    }

    private static byte[] Flipped(byte[] bytes, int index)
    {
        byte[] copy = [.. bytes];
        copy[index] ^= 0x10;
        return copy;
    }

    private string Copy(string path)
    {
        string copy = _folder.File("model.gguf");
        File.Copy(path, copy);
        return copy;
    }

    private static Engine Load(string model, string? cache, EngineOptions? options = null) =>
        Engine.Load(model, (options ?? new EngineOptions()) with { PackedCache = cache, ThreadCount = 1, ContextLength = 128 });

    private static async Task<string> Answer(string model, string? cache, EngineOptions? options = null) => (await AnswerWithNotes(model, cache, options)).Answer;

    // Greedy tokens with the exact bits of their log probabilities.
    private static async Task<(string Answer, string[] Notes)> AnswerWithNotes(string model, string? cache, EngineOptions? options = null)
    {
        using Engine engine = Load(model, cache, options);
        using Session session = engine.NewSession();
        session.Append([5, 9, 2, 7, 1]);
        var text = new List<string>();
        await foreach (GeneratedToken token in session.GenerateAsync(new SamplingOptions { Temperature = 0, MaxTokens = 12, IgnoreEos = true, LogProbs = 1 }))
            text.Add($"{token.Id} {BitConverter.SingleToInt32Bits(token.LogProbability!.Value)}");
        Assert.Equal(12, text.Count);
        return (string.Join(", ", text), [.. engine.LoadNotes]);
    }
}
