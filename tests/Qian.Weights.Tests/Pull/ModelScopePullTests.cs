using Qian.Inference;

namespace Qian.Weights.Tests.Pull;

// The other hub: its listing, its addresses and its ways, into the same cache.
public sealed class ModelScopePullTests : IDisposable
{
    private readonly PullFixture _hub = new();

    public ModelScopePullTests()
    {
        _hub.Server.IsModelScope = true;
        _hub.Settings = _hub.Settings with { Kind = HubKind.ModelScope };
    }

    public void Dispose() => _hub.Dispose();

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task AFileComesInPiecesAndIsFoundByItsName(bool saysOkToRanges)
    {
        _hub.Server.SaysOkToRanges = saysOkToRanges;
        byte[] content = _hub.Server.Add(PullFixture.File, 350_001);
        _hub.Server.Add("README.md", 100);
        PullResult result = await _hub.Pull();
        Assert.Equal(content, File.ReadAllBytes(result.Path));
        Assert.Equal(40, result.Commit.Length);
        Assert.Equal(350_001, result.FetchedBytes);
        Assert.True(_hub.Server.ContentRequests.Length >= 4);
        Assert.Equal(result.Path, _hub.Cache.Find(PullName.Parse(PullFixture.Name)));
        Assert.Equal(result.Commit, File.ReadAllText(Path.Combine(_hub.Cache.RepoFolder(HubServer.Repo), "refs", "master")));

        PullResult again = await _hub.Pull();
        Assert.Equal((result.Commit, 0L), (again.Commit, again.FetchedBytes));
    }

    // Small files are in the cache under their SHA-256, which is what this hub publishes for all.
    [Fact]
    public async Task AFolderComesWhole()
    {
        foreach ((string path, int bytes) in new[] { ("config.json", 700), ("tokenizer.json", 5000), ("model.safetensors", 230_000), ("assets/picture.png", 9) })
            _hub.Server.Add(path, bytes);
        PullResult result = await _hub.Pull(HubServer.Repo + "@v1");
        Assert.Equal(["config.json", "model.safetensors", "tokenizer.json"], result.Files.Select(file => file.Path).Order());
        foreach (HubFile file in result.Files)
            Assert.Equal(_hub.Server.Files[file.Path], File.ReadAllBytes(Path.Combine(result.Path, file.Path)));
        Assert.All(_hub.Server.Requests.Where(request => !request.IsContentHost), request => Assert.Contains("Revision=v1", request.Query, StringComparison.Ordinal));
    }

    // Another content under the same branch is another snapshot, and a listing that no longer holds fails the digest.
    [Fact]
    public async Task WhatChangesIsAnotherSnapshot()
    {
        _hub.Server.Add(PullFixture.File, 1000);
        PullResult first = await _hub.Pull();
        _hub.Server.Files[PullFixture.File] = [.. _hub.Server.Files[PullFixture.File].Reverse()];
        PullResult second = await _hub.Pull();
        Assert.NotEqual(first.Commit, second.Commit);
        Assert.Equal(_hub.Server.Files[PullFixture.File], File.ReadAllBytes(_hub.Cache.Find(PullName.Parse(PullFixture.Name))));
    }

    [Fact]
    public async Task BytesThatAreNotTheListedOnesAreRefused()
    {
        byte[] content = _hub.Server.Add(PullFixture.File, 1000);
        _hub.Server.Fault = request => request.IsContentHost ? new HubReply(200, [.. content.Reverse()]) : null;
        IOException error = await Assert.ThrowsAsync<IOException>(() => _hub.Pull());
        Assert.Contains("digest", error.Message, StringComparison.Ordinal);
        _hub.AssertNothingPulled();
    }

    [Fact]
    public async Task TheTokenStaysWithTheHub()
    {
        _hub.Server.Add(PullFixture.File, 1000);
        _hub.Settings = _hub.Settings with { Token = "ms-secret" };
        await _hub.Pull();
        Assert.All(_hub.Server.Requests, request => Assert.Equal(request.IsContentHost ? null : "Bearer ms-secret", request.Authorization));
        Assert.All(_hub.Server.ContentRequests, request => Assert.False(request.Headers.ContainsKey("cookie")));
    }

    [Fact]
    public async Task RefusalsNameTheVariableOfThisHub()
    {
        await Assert.ThrowsAsync<BadRequestException>(() => _hub.Pull(HubServer.Repo + "@nowhere:Q4_K_M"));
        _hub.Server.Fault = _ => HubReply.Error(401);
        UnauthorizedAccessException gated = await Assert.ThrowsAsync<UnauthorizedAccessException>(() => _hub.Pull());
        Assert.Contains("MODELSCOPE_API_TOKEN", gated.Message, StringComparison.Ordinal);
        // An error may come with the status of an answer.
        _hub.Server.Fault = _ => new HubReply(200, """{"Code":10010205001,"Message":"no such thing","Success":false,"Data":null}"""u8.ToArray());
        BadRequestException said = await Assert.ThrowsAsync<BadRequestException>(() => _hub.Pull());
        Assert.Contains("no such thing", said.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("""{"Code":200}""")]
    [InlineData("""{"Code":200,"Data":{"Files":[{"Type":"blob","Path":"../x.gguf","Size":1,"Sha256":""}]}}""")]
    [InlineData("""{"Code":200,"Data":{"Files":[{"Type":"blob","Path":"x.gguf","Size":-1,"Sha256":""}]}}""")]
    [InlineData("""{"Code":200,"Data":{"Files":[{"Type":"blob","Path":"x","Size":1},{"Type":"blob","Path":"x","Size":1}]}}""")]
    [InlineData("""<html>""")]
    public async Task AListingThatIsNoneIsRefused(string body)
    {
        _hub.Server.Fault = _ => new HubReply(200, System.Text.Encoding.UTF8.GetBytes(body));
        await Assert.ThrowsAsync<IOException>(() => _hub.Pull());
        _hub.AssertNothingPulled();
    }
}
