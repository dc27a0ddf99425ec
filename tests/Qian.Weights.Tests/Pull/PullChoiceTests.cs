using Qian.Inference;

namespace Qian.Weights.Tests.Pull;

// Which files a name means, on a hub and in the cache; what goes when a model is removed.
public sealed class PullChoiceTests : IDisposable
{
    private const long GiB = 1L << 30;
    private readonly PullFixture _pull = new();

    public void Dispose() => _pull.Dispose();

    private static HubListing Listing(string repo, params (string Path, double GiB)[] files) =>
        new(repo, HubServer.Commit, [.. files.Select(file => new HubFile(file.Path, (long)(file.GiB * GiB), new string('a', 64)))]);

    private static readonly HubListing s_usual = Listing(
        "Qwen/Qwen3.6-27B-GGUF",
        ("README.md", 0), ("mmproj-F16.gguf", 1), ("imatrix.gguf", 0.1),
        ("Qwen3.6-27B-Q4_K_M.gguf", 16), ("Qwen3.6-27B-UD-Q4_K_XL.gguf", 17), ("Qwen3.6-27B-UD-Q4_K_M.gguf", 16.5), ("Qwen3.6-27B-Q4_K_S.gguf", 15), ("Qwen3.6-27B-Q8_0.gguf", 28),
        ("BF16/Qwen3.6-27B-BF16-00001-of-00002.gguf", 40), ("BF16/Qwen3.6-27B-BF16-00002-of-00002.gguf", 14),
        ("Qwen3.6-27B-Q6_K-00001-of-00003.gguf", 10));

    [Theory]
    [InlineData("Q4_K_M", "Qwen3.6-27B-Q4_K_M.gguf")]
    [InlineData("q4_k_xl", "Qwen3.6-27B-UD-Q4_K_XL.gguf")]
    [InlineData("UD-Q4_K_M", "Qwen3.6-27B-UD-Q4_K_M.gguf")]
    [InlineData("bf16", "BF16/Qwen3.6-27B-BF16-00001-of-00002.gguf", "BF16/Qwen3.6-27B-BF16-00002-of-00002.gguf")]
    [InlineData("Qwen3.6-27B-Q4_K_S.gguf", "Qwen3.6-27B-Q4_K_S.gguf")]
    public void ATypeNamesItsFiles(string type, params string[] expected) =>
        Assert.Equal(expected, FileChoice.Of(s_usual, type, 8192, 0).Files.Select(file => file.Path));

    [Theory]
    [InlineData("Q4_K", "no GGUF file of the type Q4_K. It has: BF16/Qwen3.6-27B-BF16-00001-of-00002.gguf (54.00 GiB), Qwen3.6-27B-Q4_K_M.gguf (16.00 GiB)")]
    [InlineData("F16", "no GGUF file of the type F16")]
    [InlineData("UD", "has 2 GGUF files of the type UD")]
    [InlineData("Q6_K", "a set of 3 parts, of which 1 are there")]
    public void AnythingElseIsRefusedWithWhatThereIs(string type, string message) =>
        Assert.Contains(message, Assert.Throws<BadRequestException>(() => FileChoice.Of(s_usual, type, 8192, 0)).Message, StringComparison.Ordinal);

    [Theory]
    [InlineData(24, 8192, "Qwen3.6-27B-UD-Q4_K_XL.gguf")]
    [InlineData(16, 8192, "Qwen3.6-27B-Q4_K_S.gguf")]
    [InlineData(24, 131072, "Qwen3.6-27B-Q4_K_S.gguf")]
    [InlineData(32, 8192, "Qwen3.6-27B-Q8_0.gguf")]
    public void WithoutATypeTheLargestThatFitsIsTaken(int memoryGiB, int context, string expected)
    {
        FileChoice choice = FileChoice.Of(s_usual, null, context, memoryGiB * GiB);
        Assert.Equal(expected, Assert.Single(choice.Files).Path);
        Assert.Contains("the largest of 7 that fits", choice.Reason, StringComparison.Ordinal);
        Assert.Contains("shape of Qwen3.6-27B", choice.Reason, StringComparison.Ordinal);
    }

    [Fact]
    public void NothingThatFitsIsAnError() =>
        Assert.Contains("fits this machine", Assert.Throws<BadRequestException>(() => FileChoice.Of(s_usual, null, 8192, 8 * GiB)).Message, StringComparison.Ordinal);

    [Fact]
    public void ARepositoryWithoutModelsIsAnError() =>
        Assert.Contains("nothing here that could be run", Assert.Throws<BadRequestException>(() => FileChoice.Of(Listing("a/b", ("pytorch_model.bin", 1)), null, 8192, GiB)).Message, StringComparison.Ordinal);

    [Theory]
    [InlineData("Qwen")]
    [InlineData("a/b/c")]
    [InlineData("../b")]
    [InlineData("a/..")]
    [InlineData("a--b/c")]
    [InlineData("a/b:")]
    [InlineData("a/b:../x")]
    [InlineData("a/b@../x")]
    [InlineData("a/b\u001b")]
    public void ABadNameIsRefused(string name) => Assert.Throws<BadRequestException>(() => PullName.Parse(name));

    [Fact]
    public void AnUnknownNameSaysHowToGetIt() =>
        Assert.Contains("qian pull Qwen/Nothing:Q8_0", Assert.Throws<BadRequestException>(() => _pull.Cache.Find(PullName.Parse("Qwen/Nothing:Q8_0"))).Message, StringComparison.Ordinal);

    [Fact]
    public async Task TheListNamesWhatCanBeLoaded()
    {
        _pull.Server.Add("Model-Q4_K_M.gguf", 1000);
        _pull.Server.Add("Model-Q8_0.gguf", 2000);
        await _pull.Pull();
        await _pull.Pull(HubServer.Repo + ":Q8_0");
        List<CachedModel> models = CachedModels.List(_pull.Cache);
        Assert.Equal([("Org/Model-GGUF:Q4_K_M", 1000L), ("Org/Model-GGUF:Q8_0", 2000L)], models.Select(model => (model.Name, model.Bytes)));
        Assert.All(models, model => Assert.Equal(["main"], model.Revisions));
        Assert.All(models, model => Assert.True(File.Exists(_pull.Cache.Find(PullName.Parse(model.Name)))));
        Assert.Contains("Org/Model-GGUF:Q8_0", Assert.Throws<BadRequestException>(() => _pull.Cache.Find(PullName.Parse(HubServer.Repo))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task RemovingAFileLeavesWhatOthersUse()
    {
        _pull.Server.Add("Model-Q4_K_M.gguf", 1000);
        _pull.Server.Add("Model-Q8_0.gguf", 2000);
        await _pull.Pull();
        await _pull.Pull(HubServer.Repo + ":Q8_0");

        // Another revision shares the Q8_0 file, and one link goes to a file outside the model.
        string other = _pull.Cache.SnapshotPath(HubServer.Repo, new string('e', 40), "Model-Q8_0.gguf");
        Directory.CreateDirectory(Path.GetDirectoryName(other)!);
        File.CreateSymbolicLink(other, $"../../blobs/{_pull.Server.Digest("Model-Q8_0.gguf")}");
        string outside = Path.Combine(_pull.Root, "mine.gguf"), link = _pull.Snapshot("Model-Q5_K_M.gguf");
        File.WriteAllText(outside, "mine");
        File.CreateSymbolicLink(link, outside);

        Removal kept = CachedModels.Plan(_pull.Cache, PullName.Parse($"{HubServer.Repo}@main:Q8_0"));
        Assert.Equal([_pull.Snapshot("Model-Q8_0.gguf")], kept.Paths);
        Assert.Equal(0, kept.Bytes);
        Removal removal = CachedModels.Plan(_pull.Cache, PullName.Parse(PullFixture.Name));
        Assert.Equal([_pull.Snapshot(PullFixture.File), _pull.Blob(PullFixture.File)], removal.Paths);
        Assert.Equal(1000, removal.Bytes);
        CachedModels.Delete(removal);
        CachedModels.Delete(CachedModels.Plan(_pull.Cache, PullName.Parse(HubServer.Repo + ":Q5_K_M")));
        Assert.False(File.Exists(_pull.Blob(PullFixture.File)));
        Assert.True(File.Exists(_pull.Snapshot("Model-Q8_0.gguf")));
        Assert.True(File.Exists(outside));
        Removal all = CachedModels.Plan(_pull.Cache, PullName.Parse(HubServer.Repo));
        Assert.Equal(_pull.Cache.RepoFolder(HubServer.Repo), Assert.Single(all.Folders));
        CachedModels.Delete(all);
        Assert.Empty(CachedModels.List(_pull.Cache));
        Assert.Throws<BadRequestException>(() => CachedModels.Plan(_pull.Cache, PullName.Parse(HubServer.Repo)));
    }
}
