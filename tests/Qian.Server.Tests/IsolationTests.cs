using System.Net.Http.Headers;
using System.Text;
using System.Text.Json;
using Qian.Inference;
using Qian.Inference.Tests;
using Qian.Server.Security;

namespace Qian.Server.Tests;

// What one key has sent makes nothing quicker for another, in memory and through a restart, unless the server is told to share.
public sealed class IsolationTests(ScriptedModel model) : IClassFixture<ScriptedModel>
{
    private static readonly EngineOptions s_options = new() { PrefixCacheBytes = 64 << 20 };

    private static (string Path, string Ann, string Bob) Keys(TempFolder folder)
    {
        string path = folder.File("keys.json");
        (ApiKey ann, string annSecret) = ApiKey.Create("ann", KeyScopes.Infer, null, null);
        (ApiKey bob, string bobSecret) = ApiKey.Create("bob", KeyScopes.Infer, null, null);
        KeyFile.Write(path, [ann, bob]);
        return (path, annSecret, bobSecret);
    }

    // Tokens of the prompt that were known, of all its tokens.
    private static async Task<(int Cached, int Prompt)> Ask(TestServer server, string key, string path = "/v1/chat/completions", params (string, object?)[] fields)
    {
        string content = string.Concat(Enumerable.Repeat("Our secret plan is this. ", 20));
        object body = path == "/v1/completions" ? new { prompt = content, max_tokens = 2 } : new { messages = new[] { new { role = "user", content } }, max_tokens = 2 };
        using var request = new HttpRequestMessage(HttpMethod.Post, path) { Content = new StringContent(TestServer.With(body, fields).ToJsonString(), Encoding.UTF8, "application/json") };
        request.Headers.Authorization = new AuthenticationHeaderValue("Bearer", key);
        using HttpResponseMessage response = await server.Client.SendAsync(request);
        string text = await response.Content.ReadAsStringAsync();
        Assert.True(response.IsSuccessStatusCode, text);
        JsonElement usage = TestServer.Parse(text).GetProperty("usage");
        if (path != "/v1/messages")
            return (usage.GetProperty("prompt_tokens_details").GetProperty("cached_tokens").GetInt32(), usage.GetProperty("prompt_tokens").GetInt32());
        int cached = usage.GetProperty("cache_read_input_tokens").GetInt32();
        return (cached, cached + usage.GetProperty("input_tokens").GetInt32());
    }

    [Theory]
    [InlineData("/v1/chat/completions")]
    [InlineData("/v1/completions")]
    [InlineData("/v1/messages")]
    public async Task OneKeyKnowsNothingOfAnother(string path)
    {
        using var folder = new TempFolder();
        (string file, string ann, string bob) = Keys(folder);
        await using TestServer server = await TestServer.StartAsync(model.Load(s_options), new ServerOptions { KeyFile = file });
        Assert.Equal(0, (await Ask(server, ann, path)).Cached);
        (int cached, int prompt) = await Ask(server, ann, path);
        Assert.InRange(cached, prompt / 2, prompt);
        Assert.Equal((0, prompt), await Ask(server, bob, path));
        Assert.Equal((cached, prompt), await Ask(server, bob, path));
        // A hint of where to look is no wall, and no door.
        Assert.Equal((cached, prompt), await Ask(server, ann, path, ("prompt_cache_key", "chat 7")));
        Assert.Equal((0, prompt), await Ask(server, ann, path, ("cache_salt", "a tenant")));
        Assert.Equal((0, prompt), await Ask(server, bob, path, ("cache_salt", "a tenant")));
        Assert.Equal((cached, prompt), await Ask(server, ann, path, ("cache_salt", "a tenant")));
    }

    [Fact]
    public async Task ARestartOpensNoDoor()
    {
        using var folder = new TempFolder();
        (string file, string ann, string bob) = Keys(folder);
        EngineOptions options = s_options with { PrefixDirectory = folder.File("prefixes") };
        (int Cached, int Prompt) known;
        await using (TestServer server = await TestServer.StartAsync(model.Load(options), new ServerOptions { KeyFile = file }))
        {
            await Ask(server, ann);
            known = await Ask(server, ann);
        }

        await using TestServer next = await TestServer.StartAsync(model.Load(options), new ServerOptions { KeyFile = file });
        Assert.Equal((0, known.Prompt), await Ask(next, bob));
        Assert.Equal(known, await Ask(next, ann));
        Assert.InRange(known.Cached, known.Prompt / 2, known.Prompt);
    }

    [Fact]
    public async Task AServerMayShare()
    {
        using var folder = new TempFolder();
        (string file, string ann, string bob) = Keys(folder);
        await using TestServer server = await TestServer.StartAsync(model.Load(s_options), new ServerOptions { KeyFile = file, SharePrefixes = true });
        await Ask(server, ann);
        (int cached, int prompt) = await Ask(server, bob);
        Assert.InRange(cached, prompt / 2, prompt);
        Assert.Equal((0, prompt), await Ask(server, bob, fields: ("cache_salt", "mine")));
    }

    [Fact]
    public async Task ASaltIsShort()
    {
        await using TestServer server = await TestServer.StartAsync(model.Load(s_options));
        (int status, JsonElement json) = await server.PostAny("/v1/completions", new { prompt = "a", cache_salt = new string('x', 257) });
        Assert.Equal((400, "cache_salt"), (status, json.GetProperty("error").GetProperty("param").GetString()));
    }
}
