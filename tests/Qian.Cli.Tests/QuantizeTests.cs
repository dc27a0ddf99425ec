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
        using JsonDocument kv = Json(await Ok("quality", folder, "--text", text, "--chunk", "64", "--kv", "q8_0", "--json"));
        Assert.True(kv.RootElement.GetProperty("divergence").GetProperty("mean").GetDouble() > 0);
        await File.WriteAllTextAsync(At("p.jsonl"), """{"messages":[{"role":"user","content":"Hi"}],"tools":[{"name":"x"}]}""");
        CliResult tools = await Ok("quality", folder, At("q4.gguf"), "--tools-from", At("p.jsonl"), "--html", At("r.html"));
        Assert.Contains("of 1", tools.Out, StringComparison.Ordinal);
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

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task AnInterruptedOrKilledQuantisationGoesOnToTheSameBytes(bool isKilled)
    {
        await Ok("synth", At("m.gguf"), "--like", "tiny", "--vocab", "60000", "--type", "BF16");
        await Ok("quantize", At("m.gguf"), At("whole.gguf"), "--type", "Q2_K");
        string[] command = ["quantize", At("m.gguf"), At("q.gguf"), "--type", "Q2_K", "--threads", "1"];
        using (CliProcess process = CliProcess.Start(command))
        {
            // The embedding, first and largest, is whole.
            while (!File.Exists(At("q.gguf.journal.part")) || new FileInfo(At("q.gguf.journal.part")).Length < 300)
            {
                Assert.False(process.HasExited);
                await Task.Delay(1);
            }

            if (isKilled)
            {
                await process.Kill();
            }
            else
            {
                process.Interrupt();
                CliResult interrupted = await process.End();
                Assert.Equal(130, interrupted.ExitCode);
                Assert.Contains("the same command goes on", interrupted.Error, StringComparison.Ordinal);
            }
        }

        Assert.Equal([At("m.gguf"), At("q.gguf.journal.part"), At("q.gguf.part"), At("whole.gguf")], Directory.GetFileSystemEntries(_folder).Order(StringComparer.Ordinal));
        CliResult other = await Ok([.. command[..^3], "Q3_K_M", "--dry-run"]);
        Assert.Contains("not written", other.Out, StringComparison.Ordinal);
        CliResult rest = await Ok(command);
        Assert.Contains("going on with what an earlier run left", rest.Error, StringComparison.Ordinal);
        Assert.Equal([At("m.gguf"), At("q.gguf"), At("whole.gguf")], Directory.GetFileSystemEntries(_folder).Order(StringComparer.Ordinal));
        Assert.True(File.ReadAllBytes(At("whole.gguf")).AsSpan().SequenceEqual(File.ReadAllBytes(At("q.gguf"))));
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
            (["quality", model, "--reference-logits", At("none.bin")], "none.bin"),
            (["quality", model, model, "--tools-from", At("none.jsonl")], "none.jsonl"), (["quality", model, "--reference-logits", At("l"), "--tools"], "--tools"),
            (["quality", model, "--adapter", At("none"), "--text", "t"], "t: no such file")])
        {
            CliResult result = await CliProcess.Run(arguments);
            Assert.InRange(result.ExitCode, 2, 3);
            Assert.Contains(part, result.Error, StringComparison.Ordinal);
        }
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
