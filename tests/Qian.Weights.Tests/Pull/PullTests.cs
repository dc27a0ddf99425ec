using Qian.Inference;

namespace Qian.Weights.Tests.Pull;

// A pull when everything goes well: what is fetched, where it lies, what is not fetched again.
public sealed class PullTests : IDisposable
{
    private readonly PullFixture _pull = new();

    public void Dispose() => _pull.Dispose();

    [Fact]
    public async Task AFileIsFetchedInPiecesAndLinked()
    {
        _pull.Server.Add(PullFixture.File, 1_234_567);
        _pull.Server.Add("Model-Q8_0.gguf", 50_000);
        PullResult result = await _pull.Pull();
        _pull.AssertPulled(PullFixture.File);
        Assert.Equal(_pull.Snapshot(PullFixture.File), result.Path);
        Assert.Equal($"../../blobs/{_pull.Server.Digest(PullFixture.File)}", new FileInfo(result.Path).LinkTarget);
        Assert.Equal(13, _pull.Server.ContentRequests.Length);
        Assert.All(_pull.Server.ContentRequests, request => Assert.NotNull(request.Range));
        Assert.Equal(result.Path, _pull.Cache.Find(PullName.Parse(PullFixture.Name)));
        Assert.Equal(result.Path, _pull.Cache.Find(PullName.Parse(HubServer.Repo.ToUpperInvariant())));
    }

    [Fact]
    public async Task TheTokenStaysWithTheHub()
    {
        _pull.Server.Add(PullFixture.File, 300_000);
        _pull.Settings = _pull.Settings with { Token = "hf_secret" };
        await _pull.Pull();
        Assert.NotEmpty(_pull.Server.ContentRequests);
        Assert.All(_pull.Server.Requests, request => Assert.Equal(request.IsContentHost ? null : "Bearer hf_secret", request.Authorization));
        Assert.All(_pull.Server.ContentRequests, request => Assert.DoesNotContain(request.Headers.Values, value => value.Contains("hf_secret", StringComparison.Ordinal)));
    }

    [Fact]
    public async Task ASafetensorsModelComesWithItsCompanions()
    {
        string[] wanted = ["config.json", "generation_config.json", "tokenizer.json", "chat_template.jinja", "model.safetensors.index.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
        foreach (string path in wanted.Concat(["README.md", "consolidated.safetensors", "other/model.safetensors", "pytorch_model.bin"]))
            _pull.Server.Add(path, 1000 + path.Length);
        _pull.Server.Files["generation_config.json"] = [];
        PullResult result = await _pull.Pull(HubServer.Repo);
        _pull.AssertPulled(wanted);
        Assert.Equal(_pull.Cache.SnapshotFolder(HubServer.Repo, HubServer.Commit), result.Path);
        Assert.Equal(result.Path, _pull.Cache.Find(PullName.Parse(HubServer.Repo)));
    }

    [Fact]
    public async Task ASplitSetIsFetchedWhole()
    {
        string[] parts = ["Q4_K_M/Model-Q4_K_M-00001-of-00002.gguf", "Q4_K_M/Model-Q4_K_M-00002-of-00002.gguf"];
        foreach (string part in parts)
            _pull.Server.Add(part, 150_000 + part[^15]);
        PullResult result = await _pull.Pull(HubServer.Repo + ":q4_k_m");
        _pull.AssertPulled(parts);
        Assert.Equal(_pull.Snapshot(parts[0]), result.Path);
        File.Delete(_pull.Snapshot(parts[1]));
        Assert.Contains("1 of 2 parts", Assert.Throws<BadRequestException>(() => _pull.Cache.Find(PullName.Parse(PullFixture.Name))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task WhatIsThereIsNotFetchedAgain()
    {
        byte[] content = _pull.Server.Add(PullFixture.File, 300_000);
        Directory.CreateDirectory(Path.GetDirectoryName(_pull.Blob(PullFixture.File))!);
        File.WriteAllBytes(_pull.Blob(PullFixture.File), content);
        PullResult result = await _pull.Pull();
        Assert.Equal((0, 300_000), (result.FetchedBytes, result.PresentBytes));
        await _pull.Pull();
        Assert.Empty(_pull.Server.ContentRequests);
        _pull.AssertPulled(PullFixture.File);
    }

    [Fact]
    public async Task WithoutLinksTheSnapshotHoldsTheFile()
    {
        byte[] content = _pull.Server.Add(PullFixture.File, 300_000);
        _pull.Cache = new HubCache(_pull.Cache.Root, canLink: false);
        PullResult result = await _pull.Pull();
        Assert.Null(new FileInfo(result.Path).LinkTarget);
        Assert.Equal(content, File.ReadAllBytes(_pull.Cache.Find(PullName.Parse(PullFixture.Name))));
        int before = _pull.Server.ContentRequests.Length;
        await _pull.Pull();
        Assert.Equal(before, _pull.Server.ContentRequests.Length);
    }

    [Fact]
    public async Task AListingWithoutDigestsIsCompletedFromTheHeaders()
    {
        _pull.Server.ListsBlobs = false;
        _pull.Server.Add("config.json", 500);
        _pull.Server.Add("model.safetensors", 250_000);
        await _pull.Pull(HubServer.Repo);
        _pull.AssertPulled("config.json", "model.safetensors");
        Assert.Equal(2, _pull.Server.Requests.Count(request => request.Method == "HEAD"));
    }

    [Fact]
    public async Task ARevisionHasItsOwnName()
    {
        _pull.Server.Add(PullFixture.File, 1000);
        await _pull.Pull(HubServer.Repo + "@refs/pr/7:Q4_K_M");
        Assert.Contains(_pull.Server.Requests, request => request.Path == $"/api/models/{HubServer.Repo}/revision/refs%2Fpr%2F7" && request.Query == "?blobs=true");
        Assert.Equal(HubServer.Commit, _pull.Cache.Refs(HubServer.Repo)["refs/pr/7"]);
        Assert.Equal(_pull.Snapshot(PullFixture.File), _pull.Cache.Find(PullName.Parse(HubServer.Repo + "@refs/pr/7")));
        Assert.Throws<BadRequestException>(() => _pull.Cache.Find(PullName.Parse(HubServer.Repo + "@other")));
    }

    // Stopped at some byte, then again: together the two ask for each byte once, whatever was on disk.
    [Theory]
    [InlineData(1)]
    [InlineData(99_999)]
    [InlineData(430_000)]
    [InlineData(990_000)]
    public async Task AnInterruptedPullGoesOnAtItsByte(int stopAfter)
    {
        _pull.Server.Add(PullFixture.File, 1_000_000);
        using var stop = new CancellationTokenSource();
        long done = 0;
        var reporting = new Lock();
        var progress = new Reports(report =>
        {
            // Several connections report.
            lock (reporting)
                done = Math.Max(done, report.BytesDone);
            if (report.BytesDone >= stopAfter)
                stop.Cancel();
        });
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => _pull.Pull(progress: progress, cancellation: stop.Token));
        _pull.AssertNothingPulled();
        Assert.True(done > 0);
        int before = _pull.Server.ContentRequests.Length;
        PullResult result = await _pull.Pull();
        _pull.AssertPulled(PullFixture.File);
        // By piece: the server may hear of a request of the first pull, for a piece that was cut, only now.
        long again = _pull.Server.ContentRequests[before..].Select(request => request.Range ?? (0, 999_999)).GroupBy(range => range.To).Sum(piece => piece.Min(range => range.To - range.From + 1));
        Assert.Equal(1_000_000 - done, again);
    }

    [Fact]
    public async Task AMapThatDoesNotFitIsSetAside()
    {
        _pull.Server.Add(PullFixture.File, 250_000);
        Directory.CreateDirectory(Path.GetDirectoryName(_pull.Blob(PullFixture.File))!);
        File.WriteAllBytes(FileDownload.PartPath(_pull.Blob(PullFixture.File)), new byte[250_000]);
        File.WriteAllText(FileDownload.MapPath(_pull.Blob(PullFixture.File)), "not a map");
        await _pull.Pull();
        _pull.AssertPulled(PullFixture.File);
    }

    // A map that lies (marks what was never fetched) is found out by the digest.
    [Fact]
    public async Task AMapThatLiesIsFoundOut()
    {
        _pull.Server.Add(PullFixture.File, 250_000);
        string blob = _pull.Blob(PullFixture.File);
        Directory.CreateDirectory(Path.GetDirectoryName(blob)!);
        File.WriteAllBytes(FileDownload.PartPath(blob), new byte[250_000]);
        using (PieceMap map = PieceMap.Open(FileDownload.MapPath(blob), _pull.Server.Digest(PullFixture.File), 250_000, 100_000, dataIsThere: true))
            map.Mark(1, 100_000);
        await _pull.Pull();
        _pull.AssertPulled(PullFixture.File);
    }

    [Fact]
    public async Task TwoPullsOfOneFileDoNotMix()
    {
        _pull.Server.Add(PullFixture.File, 250_000);
        string part = FileDownload.PartPath(_pull.Blob(PullFixture.File));
        Directory.CreateDirectory(Path.GetDirectoryName(part)!);
        using var other = new FileStream(part, FileMode.Create, FileAccess.ReadWrite, FileShare.None);
        IOException error = await Assert.ThrowsAsync<IOException>(() => _pull.Pull());
        Assert.Contains("another pull", error.Message, StringComparison.Ordinal);
        Assert.Empty(_pull.Server.ContentRequests);
    }

    [Fact]
    public async Task AFullDiskIsSeenBefore()
    {
        _pull.Server.Add(PullFixture.File, 1_000_000);
        _pull.Settings = _pull.Settings with { FreeBytes = _ => 1_000_000 };
        IOException error = await Assert.ThrowsAsync<IOException>(() => _pull.Pull());
        Assert.Contains("976.6 KiB are to be fetched", error.Message, StringComparison.Ordinal);
        Assert.Empty(_pull.Server.ContentRequests);
    }

    private sealed class Reports(Action<PullProgress> action) : IProgress<PullProgress>
    {
        private readonly Lock _lock = new();

        public void Report(PullProgress value)
        {
            lock (_lock)
                action(value);
        }
    }
}
