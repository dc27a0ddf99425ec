using System.Text;
using Qian.Inference;

namespace Qian.Weights.Tests.Pull;

// What networks and servers do to a pull: each fault ends in the whole verified file, or in an error that says what to do, and then
// there is no file.
public sealed class PullFaultTests : IDisposable
{
    private readonly PullFixture _pull = new();
    private int _count;

    public void Dispose() => _pull.Dispose();

    private HubServer Server => _pull.Server;

    // True for the first so many calls.
    private bool First(int count) => Interlocked.Increment(ref _count) <= count;

    [Theory]
    [InlineData(500, false)]
    [InlineData(503, true)]
    [InlineData(429, true)]
    [InlineData(408, false)]
    public async Task ABusyServerIsAskedAgain(int status, bool isContentHost)
    {
        Server.Add(PullFixture.File, 450_000);
        Server.Fault = request => request.IsContentHost == isContentHost && First(3) ? HubReply.Error(status, ("Retry-After", "7")) : null;
        await _pull.Pull();
        _pull.AssertPulled(PullFixture.File);
        Assert.Equal(Enumerable.Repeat(TimeSpan.FromSeconds(7), 3), _pull.Waits);
    }

    [Fact]
    public async Task WaitsDoubleWithJitterAndEnd()
    {
        Server.Add(PullFixture.File, 1000);
        Server.Fault = request => HubReply.Error(502);
        IOException error = await Assert.ThrowsAsync<IOException>(() => _pull.Pull());
        Assert.Contains("127.0.0.1 answers 502 (the server has a fault) (8 attempts)", error.Message, StringComparison.Ordinal);
        TimeSpan[] waits = [.. _pull.Waits];
        Assert.Equal(7, waits.Length);
        for (int i = 0; i < waits.Length; i++)
            Assert.InRange(waits[i].TotalSeconds, Math.Min(60, 1 << i) / 2.0, Math.Min(60, 1 << i));
        _pull.AssertNothingPulled();
    }

    [Fact]
    public async Task AServerThatWantsHoursIsNotWaitedFor()
    {
        Server.Add(PullFixture.File, 1000);
        Server.Fault = request => HubReply.Error(429, ("Retry-After", "7200"));
        IOException error = await Assert.ThrowsAsync<IOException>(() => _pull.Pull());
        Assert.Contains("asks to wait 120 minutes", error.Message, StringComparison.Ordinal);
        Assert.Empty(_pull.Waits);
    }

    [Theory]
    [InlineData(false, 0)]
    [InlineData(false, 70_001)]
    [InlineData(true, 1)]
    [InlineData(true, 50_000)]
    public async Task ABrokenConnectionIsContinued(bool reset, int after)
    {
        Server.Add(PullFixture.File, 450_000);
        Server.Fault = request => request.IsContentHost && First(5) && Server.Content(request) is var whole ? whole with { CutAfter = Math.Min(after, whole.Body.Length), Reset = reset } : null;
        await _pull.Pull();
        _pull.AssertPulled(PullFixture.File);
        Assert.NotEmpty(_pull.Waits);
    }

    [Fact]
    public async Task ASilentConnectionCountsAsBroken()
    {
        Server.Add(PullFixture.File, 250_000);
        _pull.Settings = _pull.Settings with { StallTime = TimeSpan.FromSeconds(5) };
        Server.Fault = request => request.IsContentHost && First(1) ? Server.Content(request) with { CutAfter = 10_000, Stall = true } : null;
        await _pull.Pull();
        _pull.AssertPulled(PullFixture.File);
        Assert.NotEmpty(_pull.Waits);
    }

    // A server that never gives more than a few bytes makes an end of it.
    [Fact]
    public async Task ATrickleIsGivenUp()
    {
        Server.Add(PullFixture.File, 450_000);
        Server.Fault = request => request.IsContentHost ? Server.Content(request) with { CutAfter = 3 } : null;
        IOException error = await Assert.ThrowsAsync<IOException>(() => _pull.Pull());
        Assert.Contains("What arrived is kept", error.Message, StringComparison.Ordinal);
        _pull.AssertNothingPulled();
        Server.Fault = null;
        await _pull.Pull();
        _pull.AssertPulled(PullFixture.File);
    }

    [Fact]
    public async Task BytesThatChangedOnTheWayAreFetchedAgain()
    {
        Server.Add(PullFixture.File, 450_000);
        Server.Fault = request => request.IsContentHost && First(1) ? Corrupt(Server.Content(request)) : null;
        await _pull.Pull();
        _pull.AssertPulled(PullFixture.File);
        Assert.Equal(10, Server.ContentRequests.Length);
    }

    [Theory]
    [InlineData(PullFixture.File)]
    [InlineData("config.json")]
    public async Task BytesThatAreAlwaysWrongAreThrownAway(string path)
    {
        Server.Add(path, 450_000);
        if (path == "config.json")
            Server.Add("model.safetensors", 500_000);
        Server.Fault = request => request.IsContentHost || request.Path.EndsWith(".json", StringComparison.Ordinal)
            ? Corrupt(request.IsContentHost ? Server.Content(request) : new HubReply(200, Server.Files[path]))
            : null;
        IOException error = await Assert.ThrowsAsync<IOException>(() => _pull.Pull(path == "config.json" ? HubServer.Repo : PullFixture.Name));
        Assert.Contains($"{path}: what arrived twice does not have the digest", error.Message, StringComparison.Ordinal);
        Assert.Empty(Directory.GetFiles(_pull.Root, "*", SearchOption.AllDirectories));
    }

    [Fact]
    public async Task AnExpiredLinkIsReplaced()
    {
        Server.Add(PullFixture.File, 900_000);
        _pull.Settings = _pull.Settings with { ConnectionCount = 1 };
        Server.Fault = request =>
        {
            if (request.IsContentHost && First(100) && _count == 4)
                Server.OldestLink = Server.LinkCount + 1;
            return null;
        };
        await _pull.Pull();
        _pull.AssertPulled(PullFixture.File);
        Assert.Equal(2, Server.LinkCount);
    }

    [Theory]
    [InlineData(401, null, "set HF_TOKEN")]
    [InlineData(403, null, "Accept its licence on its page")]
    [InlineData(403, "hf_x", "the account of HF_TOKEN has no access")]
    public async Task AGatedModelSaysWhatToDo(int status, string? token, string message)
    {
        Server.Add(PullFixture.File, 1000);
        _pull.Settings = _pull.Settings with { Token = token };
        Server.Fault = request => request.Path.Contains("/resolve/", StringComparison.Ordinal) ? HubReply.Error(status, ("X-Error-Code", "GatedRepo"), ("X-Error-Message", "Access is \u001b[2Jrestricted")) : null;
        var error = await Assert.ThrowsAsync<UnauthorizedAccessException>(() => _pull.Pull());
        Assert.Contains(message, error.Message, StringComparison.Ordinal);
        Assert.DoesNotContain(error.Message, char.IsControl);
        _pull.AssertNothingPulled();
    }

    [Theory]
    [InlineData(401, "RepoNotFound", "there is no such model")]
    [InlineData(404, "RepoNotFound", "there is no such model")]
    [InlineData(404, "RevisionNotFound", "there is no such revision")]
    public async Task WhatDoesNotExistIsNamed(int status, string code, string message)
    {
        Server.Fault = request => HubReply.Error(status, ("X-Error-Code", code));
        var error = await Assert.ThrowsAsync<BadRequestException>(() => _pull.Pull());
        Assert.Contains(message, error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task AnotherSizeIsRefused(bool ranges)
    {
        Server.Add(PullFixture.File, 450_000);
        Server.Fault = request => !request.IsContentHost ? null : ranges
            ? Server.Content(request).Saying("Content-Range", $"bytes {request.Range!.Value.From}-{request.Range.Value.To}/450001")
            : new HubReply(200, new byte[449_999]);
        IOException error = await Assert.ThrowsAsync<IOException>(() => _pull.Pull());
        Assert.Contains("the hub lists 450000 bytes, the server has", error.Message, StringComparison.Ordinal);
        _pull.AssertNothingPulled();
    }

    [Fact]
    public async Task AnotherRangeThanAskedForIsNotWritten()
    {
        Server.Add(PullFixture.File, 450_000);
        Server.Fault = request => request.IsContentHost && First(2) ? Server.Content(request).Saying("Content-Range", "bytes 5-100/450000") : null;
        await _pull.Pull();
        _pull.AssertPulled(PullFixture.File);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(200_000)]
    public async Task AServerWithoutRangesIsReadFromTheBeginning(int cutAfter)
    {
        Server.Add(PullFixture.File, 450_000);
        Server.HasRanges = false;
        Server.Fault = request => request.IsContentHost && request.Range is null && First(2) && cutAfter > 0 ? Server.Content(request) with { CutAfter = cutAfter } : null;
        await _pull.Pull();
        _pull.AssertPulled(PullFixture.File);
        Assert.Equal(cutAfter > 0 ? 3 : 1, Server.ContentRequests.Count(request => request.Range is null));
    }

    [Theory]
    [InlineData("../../.ssh/authorized_keys")]
    [InlineData("/etc/passwd")]
    [InlineData("a\\..\\b.gguf")]
    [InlineData("a/./b.gguf")]
    [InlineData("a//b.gguf")]
    [InlineData("b\u001b[2J.gguf")]
    [InlineData("b\u202Efugg.gguf")]
    [InlineData("b\n.gguf")]
    [InlineData("")]
    public async Task AHostileNameIsRefused(string path)
    {
        Server.Add(PullFixture.File, 1000);
        Server.Add(path, 10);
        IOException error = await Assert.ThrowsAsync<IOException>(() => _pull.Pull());
        Assert.Contains("which is refused", error.Message, StringComparison.Ordinal);
        Assert.DoesNotContain(error.Message, char.IsControl);
        Assert.Empty(Directory.GetFiles(_pull.Root, "*", SearchOption.AllDirectories));
    }

    [Theory]
    [InlineData("{}")]
    [InlineData("[]")]
    [InlineData("{\"sha\":7,\"siblings\":[]}")]
    [InlineData("{\"sha\":\"../../x\",\"siblings\":[]}")]
    [InlineData("{\"sha\":\"COMMIT\",\"siblings\":{}}")]
    [InlineData("{\"sha\":\"COMMIT\",\"siblings\":[{\"rfilename\":\"a.gguf\",\"size\":-1}]}")]
    [InlineData("{\"sha\":\"COMMIT\",\"siblings\":[{\"rfilename\":\"a.gguf\",\"size\":1e300}]}")]
    [InlineData("{\"sha\":\"COMMIT\",\"siblings\":[{\"rfilename\":\"\\ud800\"}]}")]
    [InlineData("{\"sha\":\"COMMIT\",\"siblings\":[{\"rfilename\":\"a\"},{\"rfilename\":\"a\"}]}")]
    [InlineData("<html>")]
    public async Task ABadListingIsRefused(string json)
    {
        Server.Fault = request => new HubReply(200, Encoding.UTF8.GetBytes(json.Replace("COMMIT", HubServer.Commit, StringComparison.Ordinal)));
        await Assert.ThrowsAsync<IOException>(() => _pull.Pull());
        Assert.Empty(Directory.GetFiles(_pull.Root, "*", SearchOption.AllDirectories));
    }

    [Theory]
    [InlineData("file:///etc/passwd", "which is not followed")]
    [InlineData("/loop", "more than 8 redirects")]
    public async Task ABadRedirectIsRefused(string location, string message)
    {
        Server.Add(PullFixture.File, 1000);
        Server.Fault = request => request.Path.StartsWith("/api", StringComparison.Ordinal) ? null : HubReply.Error(302, ("Location", location));
        IOException error = await Assert.ThrowsAsync<IOException>(() => _pull.Pull());
        Assert.Contains(message, error.Message, StringComparison.Ordinal);
        _pull.AssertNothingPulled();
    }

    [Fact]
    public async Task AnotherCommitIsRefused()
    {
        Server.Add("config.json", 100);
        Server.Add("model.safetensors", 1000);
        Server.Fault = request => request.Path.EndsWith("config.json", StringComparison.Ordinal) ? new HubReply(200, Server.Files["config.json"]) { Headers = { ["X-Repo-Commit"] = new string('d', 40) } } : null;
        IOException error = await Assert.ThrowsAsync<IOException>(() => _pull.Pull(HubServer.Repo));
        Assert.Contains("answered with commit", error.Message, StringComparison.Ordinal);
        _pull.AssertNothingPulled();
    }

    [Fact]
    public async Task AHubThatIsNotThereIsNamed()
    {
        Server.Dispose();
        IOException error = await Assert.ThrowsAsync<IOException>(() => _pull.Pull());
        Assert.Contains("127.0.0.1", error.Message, StringComparison.Ordinal);
    }

    private static HubReply Corrupt(HubReply reply)
    {
        byte[] body = [.. reply.Body];
        body[body.Length / 2] ^= 1;
        return reply with { Body = body };
    }
}
