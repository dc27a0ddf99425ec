using System.Text.Json;
using Qian.Inference.Tests;

namespace Qian.Cli.Tests;

// A cache as another tool left it: listed, loaded by name, deleted only when that is confirmed.
public sealed class ModelsTests : IClassFixture<TinyModel>, IDisposable
{
    private const string Name = "Org/Tiny-GGUF:F32";
    private readonly DirectoryInfo _home = Directory.CreateTempSubdirectory("qian-models-");

    public ModelsTests(TinyModel model)
    {
        string repo = Path.Combine(_home.FullName, "hub", "models--Org--Tiny-GGUF"), commit = new('a', 40), blob = new('b', 64);
        foreach (string folder in (string[])["blobs", "refs", Path.Combine("snapshots", commit)])
            Directory.CreateDirectory(Path.Combine(repo, folder));
        File.Copy(model.Path, Path.Combine(repo, "blobs", blob));
        File.WriteAllText(Path.Combine(repo, "refs", "main"), commit);
        File.CreateSymbolicLink(Path.Combine(repo, "snapshots", commit, "Tiny-F32.gguf"), $"../../blobs/{blob}");
    }

    public void Dispose() => _home.Delete(recursive: true);

    [Fact]
    public async Task APulledNameIsListedLoadedAndDeleted()
    {
        CliResult list = await Run("models", "--json");
        Assert.Equal((0, ""), (list.ExitCode, list.Error));
        JsonElement model = Assert.Single(JsonDocument.Parse(list.Out).RootElement.EnumerateArray());
        Assert.Equal(Name, model.GetProperty("name").GetString());
        CliResult table = await Run("models");
        Assert.Contains(Name, table.Out, StringComparison.Ordinal);

        CliResult answer = await Run("run", "-m", Name, "--tokens", "1 2 3", "-n", "2");
        Assert.Equal(0, answer.ExitCode);
        Assert.NotEmpty(answer.Out);
        Assert.Equal(0, (await Run("inspect", "Org/Tiny-GGUF")).ExitCode);
        Assert.Equal(0, (await Run("tokenize", "-m", Name, "hi")).ExitCode);

        CliResult other = await Run("run", "-m", "Org/Tiny-GGUF:Q4_K_M", "hi");
        Assert.Equal(2, other.ExitCode);
        Assert.Contains("qian pull Org/Tiny-GGUF:Q4_K_M", other.Error, StringComparison.Ordinal);

        CliResult refused = await Run("models", "rm", Name);
        Assert.Equal(2, refused.ExitCode);
        Assert.Contains("add --yes", refused.Error, StringComparison.Ordinal);
        Assert.Equal(0, (await Run("models", "rm", Name, "--yes")).ExitCode);
        Assert.Empty(JsonDocument.Parse((await Run("models", "--json")).Out).RootElement.EnumerateArray());
        Assert.Empty(Directory.GetFiles(_home.FullName, "*.gguf", SearchOption.AllDirectories));
    }

    private Task<CliResult> Run(params string[] arguments) => CliProcess.RunWith(null, ("HF_HOME", _home.FullName), arguments);
}
