using System.Text.Json;
using Qian.Inference.Tests;

namespace Qian.Cli.Tests;

public sealed class InspectTests(TinyModel model) : IClassFixture<TinyModel>
{
    [Fact]
    public async Task AFileIsDescribed()
    {
        CliResult result = await CliProcess.Run("inspect", model.Path);
        Assert.Equal((0, ""), (result.ExitCode, result.Error));
        foreach (string word in (string[])["architecture", "Gated DeltaNet", "vocabulary", "q8_0", "FFN down", "memory, KV in f16", "fits", "available on this machine"])
            Assert.Contains(word, result.Out, StringComparison.OrdinalIgnoreCase);
        Assert.DoesNotContain("blk.0", result.Out, StringComparison.Ordinal);
        Assert.DoesNotContain('\e', result.Out);
    }

    [Fact]
    public async Task TensorsAreListedOnePerLine()
    {
        CliResult result = await CliProcess.Run("inspect", "--tensors", "-c", "100", "-c", "200", model.Path);
        Assert.Equal(0, result.ExitCode);
        Assert.Contains(result.OutLines, line => line.StartsWith("token_embd.weight  Q8_0  [", StringComparison.Ordinal));
        Assert.Contains(result.OutLines, line => line.TrimStart().StartsWith("200 ", StringComparison.Ordinal));
        Assert.DoesNotContain(result.OutLines, line => line.TrimStart().StartsWith("4096 ", StringComparison.Ordinal));
    }

    [Fact]
    public async Task JsonHoldsEverything()
    {
        CliResult result = await CliProcess.Run("inspect", "--json", "--tensors", "--kv", "q8_0", model.Path);
        Assert.Equal((0, ""), (result.ExitCode, result.Error));
        using JsonDocument json = JsonDocument.Parse(result.Out);
        JsonElement root = json.RootElement;
        Assert.Equal(512, root.GetProperty("config").GetProperty("vocabulary_size").GetInt32());
        Assert.True(root.GetProperty("parameters").GetInt64() > 1_000_000);
        JsonElement[] tensors = [.. root.GetProperty("tensors").EnumerateArray()];
        Assert.Equal(root.GetProperty("classes").EnumerateArray().Sum(row => row.GetProperty("count").GetInt32()), tensors.Length);
        Assert.Equal(root.GetProperty("weight_bytes").GetInt64(), tensors.Sum(tensor => tensor.GetProperty("bytes").GetInt64()));
        Assert.All(root.GetProperty("memory").EnumerateArray(), plan => Assert.True(plan.GetProperty("total_bytes").GetInt64() > plan.GetProperty("kv_bytes").GetInt64()));
    }

    [Fact]
    public async Task AFolderIsDescribedToo()
    {
        CliResult result = await CliProcess.Run("inspect", GoldenFolders.TextDenseTiny);
        Assert.Equal((0, ""), (result.ExitCode, result.Error));
        Assert.Contains("Hugging Face", result.Out, StringComparison.Ordinal);
        Assert.Contains("none of its own", result.Out, StringComparison.Ordinal);
    }
}
