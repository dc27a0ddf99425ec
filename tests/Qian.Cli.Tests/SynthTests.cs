using System.Text.Json;

namespace Qian.Cli.Tests;

// qian synth writes what the other verbs read.
public sealed class SynthTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("qian-synth-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Theory]
    [InlineData("tiny.gguf", "tiny", "Q4_K_M")]
    [InlineData("moe/", "tiny-moe", "BF16")]
    public async Task AModelOfRandomWeightsRuns(string name, string shape, string type)
    {
        string path = Path.Combine(_folder, name);
        CliResult written = await CliProcess.Run("synth", path, "--like", shape, "--vocab", "600", "--json");
        Assert.Equal((0, ""), (written.ExitCode, written.Error));
        using JsonDocument json = JsonDocument.Parse(written.Out);
        Assert.Equal((type, 600), (json.RootElement.GetProperty("type").GetString(), json.RootElement.GetProperty("vocabulary").GetInt32()));
        CliResult answer = await CliProcess.Run("run", "-m", path, "Hello", "--no-think", "-n", "4", "-c", "256");
        Assert.Equal(0, answer.ExitCode);
        CliResult again = await CliProcess.Run("synth", path, "--like", shape, "--vocab", "600");
        Assert.Equal(2, again.ExitCode);
        Assert.Contains("--force", again.Error, StringComparison.Ordinal);
    }
}
