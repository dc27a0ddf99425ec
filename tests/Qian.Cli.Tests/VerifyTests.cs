using System.Text.Json;
using Qian.Inference.Tests;

namespace Qian.Cli.Tests;

public sealed class VerifyTests
{
    [Fact]
    public async Task EachQuantityIsPrintedWithValueAndBound()
    {
        CliResult result = await CliProcess.Run("verify", Path.Combine(GoldenFolders.Goldens, "mtp-tiny"), Path.Combine(GoldenFolders.Goldens, "blocks"));
        Assert.Equal(0, result.ExitCode);
        Assert.Contains(result.OutLines, line => line.Contains("value", StringComparison.Ordinal) && line.Contains("bound", StringComparison.Ordinal));
        Assert.Contains(result.OutLines, line => line.Contains("e-", StringComparison.Ordinal) && line.TrimEnd().EndsWith("ok", StringComparison.Ordinal));
        Assert.DoesNotContain("FAIL", result.Out, StringComparison.Ordinal);
        Assert.Matches(@"^\d+ within bounds, 0 outside, on (scalar|avx2|avx512|vnni)$", result.OutLines[^1]);
    }

    [Fact]
    public async Task WithoutAPathTheEmbeddedModelIsChecked()
    {
        CliResult result = await CliProcess.Run("verify", "--file-only", "--json", "--threads", "1");
        Assert.Equal(0, result.ExitCode);
        using JsonDocument json = JsonDocument.Parse(result.Out);
        Assert.All(json.RootElement.GetProperty("results").EnumerateArray(), r => Assert.Equal("nano", r.GetProperty("subject").GetString()));
        Assert.Contains(json.RootElement.GetProperty("results").EnumerateArray(), r => r.GetProperty("quantity").GetString() == "faults of the tokenizer");
    }

    [Fact]
    public async Task JsonHoldsTheSame()
    {
        CliResult result = await CliProcess.Run("verify", "--json", Path.Combine(GoldenFolders.Goldens, "ops"));
        Assert.Equal(0, result.ExitCode);
        using JsonDocument json = JsonDocument.Parse(result.Out);
        Assert.Equal(0, json.RootElement.GetProperty("failed").GetInt32());
        JsonElement[] results = [.. json.RootElement.GetProperty("results").EnumerateArray()];
        Assert.Equal(json.RootElement.GetProperty("passed").GetInt32(), results.Length);
        Assert.NotEmpty(results);
        Assert.All(results, r => Assert.True(r.GetProperty("passed").GetBoolean() && r.GetProperty("value").GetDouble() <= r.GetProperty("bound").GetDouble()));
    }

    [Fact]
    public async Task GradientsAreComparedToo()
    {
        CliResult result = await CliProcess.Run("verify", Path.Combine(GoldenFolders.Goldens, "gradients"));
        Assert.Equal(0, result.ExitCode);
        Assert.Contains("gradient of linear_attn.A_log", result.Out, StringComparison.Ordinal);
        Assert.DoesNotContain("not covered", result.Out, StringComparison.Ordinal);
    }

    [Fact]
    public async Task ReferenceNumbersThatDifferAreAFailure()
    {
        string source = Path.Combine(GoldenFolders.Goldens, "mtp-tiny"), doctored = Directory.CreateTempSubdirectory("qian-doctored-").FullName;
        try
        {
            foreach (string file in Directory.GetFiles(source))
                File.Copy(file, Path.Combine(doctored, Path.GetFileName(file)));
            NegateLargestTensor(Path.Combine(doctored, "outputs.safetensors"));
            CliResult text = await CliProcess.Run("verify", doctored), json = await CliProcess.Run("verify", "--json", doctored);
            Assert.Equal((1, 1), (text.ExitCode, json.ExitCode));
            Assert.Contains("FAIL", text.Out, StringComparison.Ordinal);
            Assert.Matches(@"[1-9]\d* outside", text.OutLines[^1]);
            using JsonDocument results = JsonDocument.Parse(json.Out);
            Assert.NotEqual(0, results.RootElement.GetProperty("failed").GetInt32());
        }
        finally
        {
            Directory.Delete(doctored, recursive: true);
        }
    }

    // Flips every sign of the largest float32 tensor of a safetensors file.
    private static void NegateLargestTensor(string path)
    {
        byte[] bytes = File.ReadAllBytes(path);
        int headerLength = (int)BitConverter.ToInt64(bytes);
        using JsonDocument header = JsonDocument.Parse(bytes.AsMemory(8, headerLength));
        (int start, int end) = header.RootElement.EnumerateObject()
            .Where(tensor => tensor.Value.TryGetProperty("dtype", out JsonElement type) && type.GetString() == "F32")
            .Select(tensor => tensor.Value.GetProperty("data_offsets"))
            .Select(offsets => (offsets[0].GetInt32(), offsets[1].GetInt32()))
            .MaxBy(range => range.Item2 - range.Item1);
        for (int i = start; i < end; i += 4)
            bytes[8 + headerLength + i + 3] ^= 0x80;
        File.WriteAllBytes(path, bytes);
    }
}
