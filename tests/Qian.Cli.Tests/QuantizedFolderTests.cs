using System.Text.Json;
using Qian.Inference.Tests;
using Qian.Inference.Tests.Formats;

namespace Qian.Cli.Tests;

// Folders in published 4-bit layouts, through the verbs: described, planned, verified, converted.
public sealed class QuantizedFolderTests : IDisposable
{
    private readonly TempFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("awq", "AWQ int4 in groups of 32, with zero points", "Q8_0")]
    [InlineData("modelopt", "ModelOpt NVFP4", "NVFP4")]
    public async Task VerbsTakeThem(string format, string description, string heldAs)
    {
        string plain = _folder.File("plain"), packed = _folder.File("packed"), gguf = _folder.File("m.gguf");
        await Ok("synth", plain + "/", "--like", "tiny", "--vocab", "600", "--mtp");
        Directory.CreateDirectory(packed);
        foreach (string file in Directory.GetFiles(plain, "*.j*"))
            File.Copy(file, Path.Combine(packed, Path.GetFileName(file)));
        QuantizedFolder.Write(plain, format, packed);

        CliResult text = await Ok("inspect", packed);
        Assert.Contains(description, text.Out, StringComparison.Ordinal);
        Assert.DoesNotContain("unknown", text.Out, StringComparison.Ordinal);
        using JsonDocument expected = JsonDocument.Parse((await Ok("inspect", plain, "--json")).Out), found = JsonDocument.Parse((await Ok("inspect", packed, "--json")).Out);
        Assert.Equal(expected.RootElement.GetProperty("parameters").GetInt64(), found.RootElement.GetProperty("parameters").GetInt64());
        Assert.InRange(found.RootElement.GetProperty("weight_bytes").GetInt64(), 1, expected.RootElement.GetProperty("weight_bytes").GetInt64() * 3 / 4);

        Assert.Contains("weights", (await Ok("plan", packed, "--machine", "rtx-4090")).Out, StringComparison.Ordinal);
        Assert.Contains(", 0 outside", (await Ok("verify", packed, "--threads", "1")).OutLines[^1], StringComparison.Ordinal);
        CliResult run = await Ok("run", "--model", packed, "hello", "--max-tokens", "1", "--threads", "1");
        Assert.Contains($"are held as {heldAs}, value for value", run.Error, StringComparison.Ordinal);

        await Ok("quantize", packed, gguf, "--type", "Q4_K_M");
        Assert.Contains("Q4_K", (await Ok("inspect", gguf)).Out, StringComparison.Ordinal);
    }

    private static async Task<CliResult> Ok(params string[] arguments)
    {
        CliResult result = await CliProcess.Run(arguments);
        Assert.True(result.ExitCode == 0, $"{string.Join(' ', arguments)}: {result.Error}");
        return result;
    }
}
