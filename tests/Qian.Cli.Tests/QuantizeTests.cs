using System.Text.Json;
using Qian.Inference.Tests;

namespace Qian.Cli.Tests;

// qian quantize and qian quality, as a shell starts them.
public sealed class QuantizeTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("qian-quantize-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public async Task FromAFolderToSmallFilesAndTheirQuality()
    {
        string folder = At("hf/"), text = At("t.txt"), matrix = At("i.gguf");
        await Ok("synth", folder, "--like", "tiny", "--vocab", "600", "--mtp");
        await File.WriteAllTextAsync(text, string.Concat(Enumerable.Range(0, 80).Select(i => $"line {i * i} of text\n")));
        await Ok("quantize", folder, At("bf16.gguf"), "--type", "BF16");
        using JsonDocument small = Json(await Ok("quantize", At("bf16.gguf"), At("q4.gguf"), "--tensor", "ffn_down=Q8_0", "--calibrate", text, "--save-importance", matrix, "--json"));
        Assert.Equal("Q4_K_M", small.RootElement.GetProperty("type").GetString());
        Assert.True(small.RootElement.GetProperty("with_importance").GetBoolean());
        Assert.Equal(new FileInfo(At("q4.gguf")).Length, small.RootElement.GetProperty("bytes").GetInt64());
        Assert.Equal("Q8_0", small.RootElement.GetProperty("tensors").EnumerateArray().Single(tensor => tensor.GetProperty("name").GetString() == "blk.1.ffn_down.weight").GetProperty("type").GetString());
        CliResult again = await Ok("quantize", At("bf16.gguf"), At("again.gguf"), "--tensor", "ffn_down=Q8_0", "--importance", matrix, "--mtp", "drop");
        Assert.Contains("ffn_down", again.Out, StringComparison.Ordinal);
        Assert.Contains("bits", again.OutLines[^1], StringComparison.Ordinal);

        using JsonDocument quality = Json(await Ok("quality", folder, At("q4.gguf"), "--text", text, "--chunk", "64", "--json", "--html", At("r.html")));
        double divergence = quality.RootElement.GetProperty("divergence").GetProperty("mean").GetDouble();
        Assert.InRange(divergence, 1e-4, 0.2);
        Assert.StartsWith("<!doctype html>", await File.ReadAllTextAsync(At("r.html")), StringComparison.Ordinal);
        await Ok("quality", folder, "--save-logits", At("l.bin"), "--text", text, "--chunk", "64");
        using JsonDocument itself = Json(await Ok("quality", folder, "--reference-logits", At("l.bin"), "--json"));
        Assert.Equal(0, itself.RootElement.GetProperty("divergence").GetProperty("mean").GetDouble());
        CliResult table = await Ok("quality", folder, At("q4.gguf"), "--text", text, "--chunk", "64", "--kv", "q8_0", "--exact");
        Assert.Contains("perplexity ratio", table.Out, StringComparison.Ordinal);
    }

    [Fact]
    public async Task ADryRunShowsTypesAndWritesNothing()
    {
        await Ok("synth", At("m.gguf"), "--like", "tiny", "--vocab", "600", "--type", "BF16");
        CliResult result = await Ok("quantize", At("m.gguf"), At("q.gguf"), "--type", "q3_k_m", "--dry-run");
        Assert.Contains("Q5_K", result.Out, StringComparison.Ordinal);
        Assert.Contains("not written", result.Out, StringComparison.Ordinal);
        Assert.Equal([At("m.gguf")], Directory.GetFileSystemEntries(_folder));
    }

    [Fact]
    public async Task CtrlCEndsAQuantisationWithoutATrace()
    {
        using CliProcess process = await Begin();
        process.Interrupt();
        CliResult result = await process.End();
        Assert.Equal(130, result.ExitCode);
        Assert.Equal([At("m.gguf")], Directory.GetFileSystemEntries(_folder));
    }

    [Fact]
    public async Task AKilledQuantisationLeavesNoModelAndTheNextOneSucceeds()
    {
        using (CliProcess process = await Begin())
            await process.Kill();
        Assert.Equal([At("m.gguf"), At("q.gguf.part")], Directory.GetFileSystemEntries(_folder).Order());
        await Ok("quantize", At("m.gguf"), At("q.gguf"), "--type", "Q2_K");
        Assert.Equal([At("m.gguf"), At("q.gguf")], Directory.GetFileSystemEntries(_folder).Order());
        await Ok("inspect", At("q.gguf"));
    }

    [Theory]
    [InlineData("--type", "Q4_K", "Q4_K_M")]
    [InlineData("--type", "IQ1_S", "read, not written")]
    [InlineData("--tensor", "nothing=Q8_0", "no matrix")]
    [InlineData("--importance", "missing.dat", "no such file")]
    [InlineData("--save-importance", "i.gguf", "--calibrate")]
    [InlineData("--threads", "0", "--threads")]
    public async Task WrongUsageIsSaidInOneLine(string option, string value, string part)
    {
        string model = Path.Combine(GoldenFolders.Goldens, "text-dense-tiny");
        CliResult result = await CliProcess.Run("quantize", model, At("q.gguf"), option, value);
        Assert.InRange(result.ExitCode, 2, 3);
        Assert.Contains(part, result.Error, StringComparison.Ordinal);
        Assert.Empty(Directory.GetFileSystemEntries(_folder));
    }

    [Fact]
    public async Task QualitySaysWhatIsMissing()
    {
        string model = Path.Combine(GoldenFolders.Goldens, "text-dense-tiny");
        foreach ((string[] arguments, string part) in ((string[], string)[])[
            (["quality", model], "two models"), (["quality", model, model], "--text"), (["quality", model, model, "--text", At("none.txt")], "none.txt"),
            (["quality", model, model, "--save-logits", At("l"), "--text", "t"], "one model"), (["quality", model, model, "--text", "t", "--chunk", "3"], "--chunk"),
            (["quality", model, "--reference-logits", At("none.bin")], "none.bin")])
        {
            CliResult result = await CliProcess.Run(arguments);
            Assert.InRange(result.ExitCode, 2, 3);
            Assert.Contains(part, result.Error, StringComparison.Ordinal);
        }
    }

    // A conversion that takes seconds on one thread, begun far enough that its file is there.
    private async Task<CliProcess> Begin()
    {
        await Ok("synth", At("m.gguf"), "--like", "tiny", "--vocab", "60000", "--type", "BF16");
        CliProcess process = CliProcess.Start("quantize", At("m.gguf"), At("q.gguf"), "--type", "Q2_K", "--threads", "1");
        using var patience = new CancellationTokenSource(TimeSpan.FromMinutes(3));
        while (!File.Exists(At("q.gguf.part")))
        {
            Assert.False(process.HasExited);
            await Task.Delay(5, patience.Token);
        }

        return process;
    }

    private string At(string name) => Path.Combine(_folder, name);

    private static JsonDocument Json(CliResult result) => JsonDocument.Parse(result.Out);

    private static async Task<CliResult> Ok(params string[] arguments)
    {
        CliResult result = await CliProcess.Run(arguments);
        Assert.True(result.ExitCode == 0, $"{string.Join(' ', arguments)}: {result.ExitCode}\n{result.Error}");
        return result;
    }
}
