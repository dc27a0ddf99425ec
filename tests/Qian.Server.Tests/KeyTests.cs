using System.Net;
using System.Net.Http.Headers;
using System.Text;
using System.Text.Json;
using Qian.Inference;
using Qian.Inference.Tests;
using Qian.Server.Security;

namespace Qian.Server.Tests;

// Named keys from a file: what each opens, how much of it, and what happens when the file changes.
public sealed class KeyTests(ScriptedModel model) : IClassFixture<ScriptedModel>
{
    private const string Chat = """{"messages":[{"role":"user","content":"Hi"}],"max_tokens":2}""";

    private static string Add(string path, string name, KeyScopes scopes = KeyScopes.Infer, int? perMinute = null, int? concurrent = null)
    {
        (ApiKey key, string secret) = ApiKey.Create(name, scopes, perMinute, concurrent);
        KeyFile.Write(path, [.. File.Exists(path) ? KeyFile.Read(path) : [], key]);
        return secret;
    }

    private static async Task<(int Status, string Body, TimeSpan? RetryAfter)> Ask(TestServer server, HttpMethod method, string path, string key, string? body = null)
    {
        using var request = new HttpRequestMessage(method, path);
        request.Headers.Authorization = new AuthenticationHeaderValue("Bearer", key);
        if (body is not null)
            request.Content = new StringContent(body, Encoding.UTF8, "application/json");
        using HttpResponseMessage response = await server.Client.SendAsync(request);
        return ((int)response.StatusCode, await response.Content.ReadAsStringAsync(), response.Headers.RetryAfter?.Delta);
    }

    [Fact]
    public void TheFileHoldsNoSecretAndOnlyItsOwnerReadsIt()
    {
        using var folder = new TempFolder();
        string path = folder.File("keys.json");
        string secret = Add(path, "ann", KeyScopes.Infer | KeyScopes.Admin, 60, 2), other = Add(path, "bob");
        string text = File.ReadAllText(path);
        Assert.DoesNotContain(secret, text, StringComparison.Ordinal);
        Assert.DoesNotContain(secret[3..], text, StringComparison.Ordinal);
        Assert.NotEqual(secret, other);
        Assert.Equal(3 + 43, secret.Length);
        if (!OperatingSystem.IsWindows())
            Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(path));
        IReadOnlyList<ApiKey> keys = KeyFile.Read(path);
        Assert.Equal([("ann", KeyScopes.Infer | KeyScopes.Admin, 60, 2), ("bob", KeyScopes.Infer, null, (int?)null)], keys.Select(key => (key.Name, key.Scopes, key.PerMinute, key.Concurrent)));
        Assert.Equal(ApiKey.HashOf(secret), keys[0].Hash);
    }

    [Theory]
    [InlineData("")]
    [InlineData("null")]
    [InlineData("{}")]
    [InlineData("""{"version":2,"keys":[]}""")]
    [InlineData("""{"version":1,"keys":[{"name":"a","sha256":"00","scopes":[]}]}""")]
    [InlineData("""{"version":1,"keys":[{"name":"a","sha256":"zz","scopes":[]}]}""")]
    [InlineData("""{"version":1,"keys":[{"name":7,"sha256":"","scopes":[]}]}""")]
    [InlineData("""{"version":1,"keys":[{"name":"a","sha256":"0000000000000000000000000000000000000000000000000000000000000000","scopes":["root"]}]}""")]
    [InlineData("""{"version":1,"keys":[{"name":"a","sha256":"0000000000000000000000000000000000000000000000000000000000000000","scopes":["infer"],"per_minute":0}]}""")]
    public void ADamagedFileIsRefused(string text)
    {
        using var folder = new TempFolder();
        string path = folder.File("keys.json");
        File.WriteAllText(path, text);
        Assert.Contains("no file of keys", Assert.Throws<BadRequestException>(() => KeyFile.Read(path)).Message, StringComparison.Ordinal);
        Assert.Throws<BadRequestException>(() => new ServerOptions { KeyFile = path }.Validate());
    }

    [Fact]
    public async Task AKeyOpensWhatItsScopesSay()
    {
        using var folder = new TempFolder();
        string path = folder.File("keys.json");
        string user = Add(path, "user"), admin = Add(path, "admin", KeyScopes.Admin);
        await using TestServer server = await TestServer.StartAsync(model.Load(), new ServerOptions { KeyFile = path });
        foreach (string key in (string[])[user, admin])
            Assert.Equal(200, (await Ask(server, HttpMethod.Get, "/v1/adapters", key)).Status);
        Assert.Equal(200, (await Ask(server, HttpMethod.Post, "/v1/chat/completions", user, Chat)).Status);
        (int status, string body, _) = await Ask(server, HttpMethod.Post, "/v1/chat/completions", admin, Chat);
        Assert.Equal((403, "permission_error"), (status, TestServer.Parse(body).GetProperty("error").GetProperty("type").GetString()));
        // Refused before anything is looked at, however the path is written.
        foreach (string place in (string[])["/v1/adapters", "/v1/Adapters", "/v1/%61dapters", "/v1/adapters/"])
        {
            (status, body, _) = await Ask(server, HttpMethod.Post, place, user, """{"path":"/etc/passwd"}""");
            Assert.True(status is 403 or 404, $"{place}: {status} {body}");
        }

        Assert.Equal(403, (await Ask(server, HttpMethod.Delete, "/v1/adapters/x", user)).Status);
        Assert.Equal(404, (await Ask(server, HttpMethod.Delete, "/v1/adapters/x", admin)).Status);
        Assert.Equal(401, (await Ask(server, HttpMethod.Get, "/v1/adapters", user + "x")).Status);
    }

    [Fact]
    public async Task AKeyHasItsRate()
    {
        using var folder = new TempFolder();
        string path = folder.File("keys.json");
        string slow = Add(path, "slow", perMinute: 2), free = Add(path, "free");
        await using TestServer server = await TestServer.StartAsync(model.Load(), new ServerOptions { KeyFile = path });
        // What is done for the first time takes longest: not within the half minute after which the key may ask again.
        Assert.Equal(200, (await Ask(server, HttpMethod.Post, "/v1/chat/completions", free, Chat)).Status);
        for (int i = 0; i < 2; i++)
            Assert.Equal(200, (await Ask(server, HttpMethod.Post, "/v1/chat/completions", slow, Chat)).Status);
        (int status, string body, TimeSpan? retryAfter) = await Ask(server, HttpMethod.Post, "/v1/chat/completions", slow, Chat);
        Assert.Equal((429, "rate_limit_error"), (status, TestServer.Parse(body).GetProperty("error").GetProperty("type").GetString()));
        Assert.InRange(retryAfter!.Value.TotalSeconds, 1, 30);
        Assert.Equal(200, (await Ask(server, HttpMethod.Get, "/v1/models", slow)).Status);
        Assert.Equal(200, (await Ask(server, HttpMethod.Post, "/v1/chat/completions", free, Chat)).Status);
    }

    [Theory]
    [InlineData("/v1/chat/completions", "x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests")]
    [InlineData("/v1/messages", "anthropic-ratelimit-requests-limit", "anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset")]
    public async Task AKeyWithARateIsToldWhatIsLeft(string place, string limit, string remaining, string reset)
    {
        using var folder = new TempFolder();
        string path = folder.File("keys.json");
        // So slow that nothing comes back while the test runs.
        string slow = Add(path, "slow", perMinute: 2), free = Add(path, "free", concurrent: 5);
        await using TestServer server = await TestServer.StartAsync(model.Load(), new ServerOptions { KeyFile = path });
        async Task<HttpResponseMessage> Send(string key, HttpMethod method, string where)
        {
            var request = new HttpRequestMessage(method, where) { Content = method == HttpMethod.Post ? new StringContent(Chat, Encoding.UTF8, "application/json") : null };
            request.Headers.Authorization = new AuthenticationHeaderValue("Bearer", key);
            return await server.Client.SendAsync(request);
        }

        foreach ((int status, string left) in new[] { (200, "1"), (200, "0"), (429, "0") })
        {
            using HttpResponseMessage response = await Send(slow, HttpMethod.Post, place);
            Assert.Equal((status, "2", left), ((int)response.StatusCode, Assert.Single(response.Headers.GetValues(limit)), Assert.Single(response.Headers.GetValues(remaining))));
            string when = Assert.Single(response.Headers.GetValues(reset));
            if (place == "/v1/messages")
                Assert.InRange(DateTimeOffset.Parse(when, System.Globalization.CultureInfo.InvariantCulture), DateTimeOffset.UtcNow, DateTimeOffset.UtcNow.AddSeconds(62));
            else
                Assert.Matches(@"^(\d{1,2}s|1m0s)$", when);
        }

        using HttpResponseMessage unlimited = await Send(free, HttpMethod.Post, place), looking = await Send(slow, HttpMethod.Get, "/v1/models");
        Assert.Equal((200, 200), ((int)unlimited.StatusCode, (int)looking.StatusCode));
        Assert.DoesNotContain(unlimited.Headers.Concat(looking.Headers), header => header.Key.Contains("ratelimit", StringComparison.OrdinalIgnoreCase));
    }

    [Fact]
    public async Task AKeyHasSoManyRequestsAtATime()
    {
        using var folder = new TempFolder();
        string path = folder.File("keys.json");
        string one = Add(path, "one", concurrent: 1), free = Add(path, "free");
        await using TestServer server = await TestServer.StartAsync(model.Load(), new ServerOptions { KeyFile = path });
        const string endless = """{"prompt":"a","max_tokens":1900,"ignore_eos":true,"stream":true,"logprobs":20,"n":4,"temperature":1}""";
        using (var request = new HttpRequestMessage(HttpMethod.Post, "/v1/completions") { Content = new StringContent(endless, Encoding.UTF8, "application/json") })
        {
            request.Headers.Authorization = new AuthenticationHeaderValue("Bearer", one);
            using HttpResponseMessage running = await server.Client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead);
            Assert.Equal(HttpStatusCode.OK, running.StatusCode);
            (int status, _, TimeSpan? retryAfter) = await Ask(server, HttpMethod.Post, "/tokenize", one, """{"content":"x"}""");
            Assert.Equal((429, true), (status, retryAfter is not null));
            Assert.Equal(200, (await Ask(server, HttpMethod.Post, "/tokenize", free, """{"content":"x"}""")).Status);
        }

        // The client left: its place is free again as soon as the server has seen it.
        await Until(async () => (await Ask(server, HttpMethod.Post, "/tokenize", one, """{"content":"x"}""")).Status == 200);
    }

    [Fact]
    public async Task AChangedFileHoldsWithoutARestart()
    {
        using var folder = new TempFolder();
        string path = folder.File("keys.json");
        string first = Add(path, "first");
        await using TestServer server = await TestServer.StartAsync(model.Load(), new ServerOptions { KeyFile = path });
        string second = Add(path, "second");
        await Until(async () => (await Ask(server, HttpMethod.Get, "/v1/models", second)).Status == 200);
        KeyFile.Write(path, KeyFile.Read(path).Where(key => key.Name == "second"));
        await Until(async () => (await Ask(server, HttpMethod.Get, "/v1/models", first)).Status == 401);
        Assert.Equal(200, (await Ask(server, HttpMethod.Get, "/v1/models", second)).Status);
        // With the last key gone the door is shut, not open.
        KeyFile.Write(path, []);
        await Until(async () => (await Ask(server, HttpMethod.Get, "/v1/models", second)).Status == 401);
        using HttpResponseMessage without = await server.Client.GetAsync("/v1/models");
        Assert.Equal(HttpStatusCode.Unauthorized, without.StatusCode);
    }

    [Fact]
    public async Task OneKeysResponsesAreNotAnothers()
    {
        using var folder = new TempFolder();
        string path = folder.File("keys.json");
        string first = Add(path, "first"), second = Add(path, "second");
        await using TestServer server = await TestServer.StartAsync(model.Load(), new ServerOptions { KeyFile = path });
        (int status, string body, _) = await Ask(server, HttpMethod.Post, "/v1/responses", first, """{"input":"a secret","max_output_tokens":2}""");
        Assert.Equal(200, status);
        JsonElement reply = TestServer.Parse(body);
        string id = reply.GetProperty("id").GetString()!, item = reply.GetProperty("output")[0].GetProperty("id").GetString()!;
        Assert.Equal(200, (await Ask(server, HttpMethod.Get, $"/v1/responses/{id}", first)).Status);
        Assert.Equal(404, (await Ask(server, HttpMethod.Get, $"/v1/responses/{id}", second)).Status);
        Assert.Equal(404, (await Ask(server, HttpMethod.Delete, $"/v1/responses/{id}", second)).Status);
        Assert.Equal(400, (await Ask(server, HttpMethod.Post, "/v1/responses", second, $$"""{"input":"x","previous_response_id":"{{id}}"}""")).Status);
        Assert.Equal(400, (await Ask(server, HttpMethod.Post, "/v1/responses", second, $$"""{"input":[{"type":"item_reference","id":"{{item}}"}]}""")).Status);
        Assert.Equal(200, (await Ask(server, HttpMethod.Post, "/v1/responses", first, $$"""{"input":"x","previous_response_id":"{{id}}","max_output_tokens":2}""")).Status);
    }

    private static async Task Until(Func<Task<bool>> holds)
    {
        using var patience = new CancellationTokenSource(TimeSpan.FromMinutes(3));
        while (!await holds())
            await Task.Delay(50, patience.Token);
    }
}
