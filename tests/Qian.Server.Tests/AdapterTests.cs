using System.Net;
using System.Net.Http.Headers;
using System.Text;
using System.Text.Json;
using Qian.Inference;
using Qian.Inference.Formats;
using Qian.Inference.Model;
using Qian.Inference.Tests;
using Qian.Server.Security;

namespace Qian.Server.Tests;

// Adapters over HTTP: loaded and unloaded by an admin, chosen by anybody's request, in every dialect.
public sealed class AdapterTests(TinyModel model) : IClassFixture<TinyModel>
{
    private static readonly object s_plain = new { prompt = "The quick brown", max_tokens = 12, temperature = 0, ignore_eos = true };

    private static readonly object s_talk = new { messages = new[] { new { role = "user", content = "Hi" } }, max_tokens = 12, temperature = 0 };

    // Large random values over the feed-forward layers: another model, as far as its words go.
    private static void Write(Engine engine, string folder)
    {
        var random = new Random(7);
        float[] Values(int count, double scale) => [.. Enumerable.Range(0, count).Select(_ => (float)((random.NextDouble() * 2 - 1) * scale))];
        var targets = new List<AdapterTarget>();
        for (int layer = 0; layer < engine.Config.LayerCount; layer++)
        {
            (int rows, int columns) = TensorShapes.Of(engine.Config, TensorRole.FfnDown);
            targets.Add(new AdapterTarget(TensorRole.FfnDown, layer, 4, 64, Values(4 * columns, 0.3), Values(rows * 4, 0.1)));
        }

        PeftWriter.Write(new AdapterWeights { Name = "made", BaseModel = "tiny", UsesRsLora = false, Targets = targets }, engine.Config, folder);
    }

    private static async Task<(int Status, JsonElement Json)> Ask(TestServer server, HttpMethod method, string path, string key, object? body = null)
    {
        using var request = new HttpRequestMessage(method, path);
        request.Headers.Authorization = new AuthenticationHeaderValue("Bearer", key);
        if (body is not null)
            request.Content = new StringContent(JsonSerializer.Serialize(body), Encoding.UTF8, "application/json");
        using HttpResponseMessage response = await server.Client.SendAsync(request);
        return ((int)response.StatusCode, TestServer.Parse(await response.Content.ReadAsStringAsync()));
    }

    private static string Text(JsonElement reply) => reply.GetProperty("choices")[0].GetProperty("text").GetString()!;

    [Fact]
    public async Task AnAdminLoadsAndUnloadsAndEverybodyChooses()
    {
        using var folder = new TempFolder();
        string keys = folder.File("keys.json");
        (ApiKey adminKey, string admin) = ApiKey.Create("admin", KeyScopes.Infer | KeyScopes.Admin, null, null);
        (ApiKey userKey, string user) = ApiKey.Create("user", KeyScopes.Infer, null, null);
        KeyFile.Write(keys, [adminKey, userKey]);
        await using TestServer server = await TestServer.StartAsync(model.Load(new EngineOptions { ThreadCount = 1 }), new ServerOptions { KeyFile = keys, ModelName = "tiny" });
        Write(server.Engine, folder.File("made"));
        string before = Text((await Ask(server, HttpMethod.Post, "/v1/completions", user, s_plain)).Json);

        Assert.Equal(403, (await Ask(server, HttpMethod.Post, "/v1/adapters", user, new { path = folder.File("made") })).Status);
        (int status, JsonElement json) = await Ask(server, HttpMethod.Post, "/v1/adapters", admin, new { path = folder.File("made"), name = "style" });
        Assert.Equal((201, "style", 4, server.Engine.Config.LayerCount), (status, json.GetProperty("id").GetString(), json.GetProperty("rank").GetInt32(), json.GetProperty("target_count").GetInt32()));
        Assert.Equal("style", Assert.Single((await Ask(server, HttpMethod.Get, "/v1/adapters", user)).Json.GetProperty("data").EnumerateArray()).GetProperty("id").GetString());
        Assert.Equal(["tiny", "style"], (await Ask(server, HttpMethod.Get, "/v1/models", user)).Json.GetProperty("data").EnumerateArray().Select(entry => entry.GetProperty("id").GetString()));
        Assert.Equal("tiny", (await Ask(server, HttpMethod.Get, "/v1/models/style", user)).Json.GetProperty("parent").GetString());

        // By field or by the model's name, the same other words; the model itself stays as it was.
        JsonElement chosen = (await Ask(server, HttpMethod.Post, "/v1/completions", user, TestServer.With(s_plain, ("adapter", "style")))).Json;
        Assert.Equal("style", chosen.GetProperty("model").GetString());
        Assert.NotEqual(before, Text(chosen));
        Assert.Equal(Text(chosen), Text((await Ask(server, HttpMethod.Post, "/v1/completions", user, TestServer.With(s_plain, ("model", "style")))).Json));
        foreach ((string, object?)[] other in ((string, object?)[][])[[("model", "style"), ("adapter", "")], [("model", "tiny")], [("model", "gpt-x")], [("adapter", null)]])
            Assert.Equal(before, Text((await Ask(server, HttpMethod.Post, "/v1/completions", user, TestServer.With(s_plain, other))).Json));

        // Every dialect has the choice.
        foreach ((string path, object body) in ((string, object)[])[("/v1/chat/completions", s_talk), ("/v1/messages", s_talk), ("/v1/responses", new { input = "Hi", max_output_tokens = 12, temperature = 0 })])
            Assert.Equal("style", (await Ask(server, HttpMethod.Post, path, user, TestServer.With(body, ("adapter", "style")))).Json.GetProperty("model").GetString());

        Assert.Equal(403, (await Ask(server, HttpMethod.Delete, "/v1/adapters/style", user)).Status);
        Assert.True((await Ask(server, HttpMethod.Delete, "/v1/adapters/style", admin)).Json.GetProperty("deleted").GetBoolean());
        Assert.Equal(404, (await Ask(server, HttpMethod.Delete, "/v1/adapters/style", admin)).Status);
        Assert.Empty(server.Engine.Adapters);
        (status, json) = await Ask(server, HttpMethod.Post, "/v1/completions", user, TestServer.With(s_plain, ("adapter", "style")));
        Assert.Equal((400, "adapter"), (status, json.GetProperty("error").GetProperty("param").GetString()));
        Assert.Equal(before, Text((await Ask(server, HttpMethod.Post, "/v1/completions", user, s_plain)).Json));
    }

    [Fact]
    public async Task AReplyThatRunsOutlivesItsAdapter()
    {
        using var folder = new TempFolder();
        string keys = folder.File("keys.json");
        (ApiKey key, string admin) = ApiKey.Create("admin", KeyScopes.Infer | KeyScopes.Admin, null, null);
        KeyFile.Write(keys, [key]);
        await using TestServer server = await TestServer.StartAsync(model.Load(new EngineOptions { ThreadCount = 1 }), new ServerOptions { KeyFile = keys });
        Write(server.Engine, folder.File("made"));
        Assert.Equal(201, (await Ask(server, HttpMethod.Post, "/v1/adapters", admin, new { path = folder.File("made") })).Status);
        object body = TestServer.With(s_plain, ("adapter", "made"), ("max_tokens", 400), ("stream", true));
        using var request = new HttpRequestMessage(HttpMethod.Post, "/v1/completions") { Content = new StringContent(JsonSerializer.Serialize(body), Encoding.UTF8, "application/json") };
        request.Headers.Authorization = new AuthenticationHeaderValue("Bearer", admin);
        using HttpResponseMessage running = await server.Client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead);
        Assert.Equal(200, (await Ask(server, HttpMethod.Delete, "/v1/adapters/made", admin)).Status);
        List<StreamEvent> events = await TestServer.ReadEvents(running);
        Assert.Equal("[DONE]", events[^1].Data);
        Assert.Equal("length", events[^2].Json.GetProperty("choices")[0].GetProperty("finish_reason").GetString());
    }

    [Fact]
    public async Task NobodyWithoutAKeyLoadsAnything()
    {
        await using TestServer server = await TestServer.StartAsync(model.Load(new EngineOptions { ThreadCount = 1 }));
        (int status, JsonElement json) = await server.PostAny("/v1/adapters", new { path = "/tmp" });
        Assert.Equal((403, "permission_error"), (status, json.GetProperty("error").GetProperty("type").GetString()));
        Assert.Equal(HttpStatusCode.OK, (await server.Client.GetAsync("/v1/adapters")).StatusCode);
    }

    [Fact]
    public async Task WhatCannotBeLoadedIsSaidWithoutThePath()
    {
        using var folder = new TempFolder();
        string keys = folder.File("keys.json");
        (ApiKey key, string admin) = ApiKey.Create("admin", KeyScopes.Admin, null, null);
        KeyFile.Write(keys, [key]);
        using Engine engine = model.Load(new EngineOptions { ThreadCount = 1 });
        var log = new StringWriter();
        await using QianServer started = await QianServer.StartAsync(engine, new ServerOptions { KeyFile = keys, Port = 0 }, TextWriter.Synchronized(log));
        using var client = new HttpClient { BaseAddress = started.Address };
        client.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", admin);
        Directory.CreateDirectory(folder.File("empty"));
        foreach (string path in (string[])[folder.File("none"), folder.File("empty"), keys, model.Path, "\0", ""])
        {
            using HttpResponseMessage response = await client.PostAsync("/v1/adapters", new StringContent(JsonSerializer.Serialize(new { path }), Encoding.UTF8, "application/json"));
            string text = await response.Content.ReadAsStringAsync();
            Assert.Equal((HttpStatusCode.BadRequest, "path"), (response.StatusCode, TestServer.Parse(text).GetProperty("error").GetProperty("param").GetString()));
            Assert.DoesNotContain(folder.Path, text, StringComparison.Ordinal);
            Assert.DoesNotContain(model.Folder, text, StringComparison.Ordinal);
        }

        Assert.Contains(folder.File("none"), log.ToString(), StringComparison.Ordinal);
    }
}
