using System.Net;
using System.Net.Http.Headers;
using System.Text.Json;
using Qian.Inference;

namespace Qian.Server.Tests;

// Who is let in, and what strangers learn.
public sealed class SecurityTests(ScriptedModel model) : IClassFixture<ScriptedModel>
{
    private const string Key = "sk-test-12345678", Other = "sk-other-12345678";

    private Task<TestServer> Start(ServerOptions? options = null) => TestServer.StartAsync(model.Load(), options);

    private static async Task<HttpResponseMessage> Get(TestServer server, string path, params (string Name, string Value)[] headers)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, path);
        foreach ((string name, string value) in headers)
            Assert.True(request.Headers.TryAddWithoutValidation(name, value));
        return await server.Client.SendAsync(request);
    }

    [Theory]
    [InlineData("0.0.0.0")]
    [InlineData("::")]
    [InlineData("192.0.2.1")]
    public async Task APublicAddressNeedsAKey(string host)
    {
        using Engine engine = model.Load();
        BadRequestException refusal = await Assert.ThrowsAsync<BadRequestException>(() => QianServer.StartAsync(engine, new ServerOptions { Host = host, Port = 0 }));
        Assert.Contains("key", refusal.Message, StringComparison.Ordinal);
        new ServerOptions { Host = host, Keys = [Key] }.Validate();
    }

    [Theory]
    [InlineData("127.0.0.1")]
    [InlineData("localhost")]
    [InlineData("::1")]
    public void ALocalAddressNeedsNone(string host) => new ServerOptions { Host = host }.Validate();

    [Fact]
    public void ANameIsNotResolved() => Assert.Throws<BadRequestException>(() => new ServerOptions { Host = "example.com", Keys = [Key] }.Validate());

    [Fact]
    public async Task AKeyOpensTheApiInBothDialects()
    {
        await using TestServer server = await Start(new ServerOptions { Keys = [Key, Other] });
        foreach ((string name, string value) in ((string, string)[])[("Authorization", "Bearer " + Key), ("authorization", "bearer " + Other), ("x-api-key", Key)])
            Assert.Equal(HttpStatusCode.OK, (await Get(server, "/v1/models", (name, value))).StatusCode);
        foreach ((string name, string value) in ((string, string)[])[("X-None", "1"), ("Authorization", "Bearer " + Key[..^1]), ("Authorization", Key), ("Authorization", "Bearer "), ("Authorization", "Basic " + Key), ("x-api-key", ""), ("x-api-key", Key + "9")])
        {
            using HttpResponseMessage refused = await Get(server, "/v1/models", (name, value));
            Assert.Equal(HttpStatusCode.Unauthorized, refused.StatusCode);
            Assert.Equal("invalid_api_key", TestServer.Parse(await refused.Content.ReadAsStringAsync()).GetProperty("error").GetProperty("code").GetString());
        }

        (int status, JsonElement json) = await server.PostAny("/v1/messages", new { });
        Assert.Equal((401, "authentication_error"), (status, json.GetProperty("error").GetProperty("type").GetString()));
        Assert.Equal(HttpStatusCode.Unauthorized, (await Get(server, "/metrics")).StatusCode);
        foreach (string open in (string[])["/health", "/ready"])
            Assert.Equal(HttpStatusCode.OK, (await Get(server, open)).StatusCode);
    }

    [Fact]
    public async Task AForeignNameForThisMachineIsRefused()
    {
        await using TestServer server = await Start();
        int port = server.Server.Address.Port;
        foreach (string host in (string[])[$"localhost:{port}", $"127.0.0.1:{port}", $"[::1]:{port}", "localhost"])
            Assert.Equal(HttpStatusCode.OK, (await Get(server, "/v1/models", ("Host", host))).StatusCode);
        foreach (string host in (string[])[$"rebound.example:{port}", "192.168.1.5", "localhost.example", "127.0.0.1.example"])
            Assert.Equal(HttpStatusCode.Forbidden, (await Get(server, "/v1/models", ("Host", host))).StatusCode);
    }

    [Fact]
    public async Task WebPagesComeInOnlyWhenListed()
    {
        const string listed = "https://app.example";
        await using TestServer server = await Start(new ServerOptions { AllowedOrigins = [listed] });
        using HttpResponseMessage allowed = await Get(server, "/v1/models", ("Origin", listed));
        Assert.Equal((HttpStatusCode.OK, listed), (allowed.StatusCode, Assert.Single(allowed.Headers.GetValues("Access-Control-Allow-Origin"))));
        foreach (string origin in (string[])["https://evil.example", "null", "https://app.example.evil.example", "http://app.example"])
        {
            using HttpResponseMessage refused = await Get(server, "/v1/models", ("Origin", origin));
            Assert.Equal(HttpStatusCode.Forbidden, refused.StatusCode);
            Assert.False(refused.Headers.Contains("Access-Control-Allow-Origin"));
        }

        string own = server.Server.Address.GetLeftPart(UriPartial.Authority);
        Assert.Equal(HttpStatusCode.OK, (await Get(server, "/v1/models", ("Origin", own))).StatusCode);
        using var preflight = new HttpRequestMessage(HttpMethod.Options, "/v1/chat/completions");
        preflight.Headers.Add("Origin", listed);
        preflight.Headers.Add("Access-Control-Request-Method", "POST");
        preflight.Headers.Add("Access-Control-Request-Headers", "authorization,content-type");
        using HttpResponseMessage answer = await server.Client.SendAsync(preflight);
        Assert.Equal(HttpStatusCode.NoContent, answer.StatusCode);
        Assert.Equal("authorization,content-type", Assert.Single(answer.Headers.GetValues("Access-Control-Allow-Headers")));
    }

    [Fact]
    public async Task UnknownPlacesAreSaidInTheDialect()
    {
        await using TestServer server = await Start();
        (int status, JsonElement json) = await server.PostAny("/v1/nothing", new { });
        Assert.Equal((404, "unknown_url"), (status, json.GetProperty("error").GetProperty("code").GetString()));
        (status, json) = await server.PostAny("/v1/messages/batches", new { });
        Assert.Equal((404, "not_found_error"), (status, json.GetProperty("error").GetProperty("type").GetString()));
        Assert.Equal(HttpStatusCode.MethodNotAllowed, (await Get(server, "/v1/chat/completions")).StatusCode);
        Assert.Equal(HttpStatusCode.NotFound, (await Get(server, "/v1/models/other")).StatusCode);
    }

    [Fact]
    public async Task NoReplyNamesAPlaceOfTheHost()
    {
        await using TestServer server = await Start();
        string folder = Path.GetDirectoryName(model.Path)!;
        foreach (string path in (string[])["/v1/models", "/health", "/ready", "/metrics", "/v1/models/x", "/nothing"])
        {
            using HttpResponseMessage response = await Get(server, path);
            string all = response.Headers + await response.Content.ReadAsStringAsync();
            Assert.DoesNotContain(folder, all, StringComparison.Ordinal);
            Assert.DoesNotContain(AppContext.BaseDirectory, all, StringComparison.Ordinal);
            Assert.False(response.Headers.Contains("Server"));
            Assert.Equal("nosniff", Assert.Single(response.Headers.GetValues("X-Content-Type-Options")));
        }
    }

    [Fact]
    public async Task ACompressedBodyIsRefused()
    {
        await using TestServer server = await Start();
        using var request = new HttpRequestMessage(HttpMethod.Post, "/tokenize") { Content = new ByteArrayContent([1, 2, 3]) };
        request.Content.Headers.ContentEncoding.Add("gzip");
        request.Content.Headers.ContentType = new MediaTypeHeaderValue("application/json");
        using HttpResponseMessage response = await server.Client.SendAsync(request);
        Assert.Equal(HttpStatusCode.BadRequest, response.StatusCode);
    }

    [Fact]
    public async Task ABodyWithoutALengthIsBoundedToo()
    {
        await using TestServer server = await Start(new ServerOptions { MaxBodyBytes = 4096 });
        using var request = new HttpRequestMessage(HttpMethod.Post, "/tokenize") { Content = new StreamContent(new MemoryStream([.. """{"content":" """u8, .. new byte[100_000].Select(_ => (byte)'x')])) };
        request.Headers.TransferEncodingChunked = true;
        using HttpResponseMessage response = await server.Client.SendAsync(request);
        Assert.Equal(HttpStatusCode.RequestEntityTooLarge, response.StatusCode);
    }
}
