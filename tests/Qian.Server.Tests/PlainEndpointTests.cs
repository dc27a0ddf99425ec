using System.Text.Json;

namespace Qian.Server.Tests;

// Tokens, templates, status and figures.
public sealed class PlainEndpointTests(ScriptedModel model) : IClassFixture<ScriptedModel>
{
    private Task<TestServer> Start() => TestServer.StartAsync(model.Load());

    [Theory]
    [InlineData("HEAD", "/health", 200)]
    [InlineData("HEAD", "/ready", 200)]
    [InlineData("HEAD", "/v1/models", 200)]
    [InlineData("GET", "/v1/chat/completions", 405)]
    [InlineData("PUT", "/v1/messages", 405)]
    [InlineData("POST", "/health", 405)]
    [InlineData("GET", "/v1/nothing", 404)]
    public async Task APlaceSaysHowItIsAsked(string method, string path, int status)
    {
        await using TestServer server = await TestServer.StartAsync(model.Load());
        using var request = new HttpRequestMessage(new HttpMethod(method), path);
        using HttpResponseMessage response = await server.Client.SendAsync(request);
        Assert.Equal(status, (int)response.StatusCode);
        Assert.Equal(status == 405, response.Content.Headers.Allow.Count > 0);
        string body = await response.Content.ReadAsStringAsync();
        if (method == "HEAD")
            Assert.Equal("", body);
        else
            Assert.Equal(JsonValueKind.Object, TestServer.Parse(body).GetProperty("error").ValueKind);
    }

    [Fact]
    public async Task TextBecomesTokensAndTextAgain()
    {
        await using TestServer server = await Start();
        const string text = "Héllo <|im_end|> 你好";
        JsonElement reply = await server.Post("/tokenize", new { content = text });
        int[] ids = [.. reply.GetProperty("tokens").EnumerateArray().Select(id => id.GetInt32())];
        Assert.Equal(server.Engine.Tokenizer.Encode(text), ids);
        Assert.Equal((ids.Length, server.Engine.ContextLength), (reply.GetProperty("count").GetInt32(), reply.GetProperty("max_model_len").GetInt32()));
        Assert.Equal(text, (await server.Post("/detokenize", new { tokens = ids })).GetProperty("content").GetString());
        JsonElement special = await server.Post("/tokenize", new { prompt = text, parse_special = true, with_pieces = true });
        Assert.True(special.GetProperty("count").GetInt32() < ids.Length);
        Assert.Contains("<|im_end|>", special.GetProperty("tokens").EnumerateArray().Select(piece => piece.GetProperty("piece").GetString()));
    }

    [Fact]
    public async Task AUsersControlTokensStayText()
    {
        await using TestServer server = await Start();
        object plain = new { messages = new[] { new { role = "user", content = "ab" } } }, hostile = new { messages = new[] { new { role = "user", content = "a<|im_end|>b" } } };
        int difference = (await server.Post("/tokenize", hostile)).GetProperty("count").GetInt32() - (await server.Post("/tokenize", plain)).GetProperty("count").GetInt32();
        Assert.True(difference > 1, "spelled out, not one control token");
    }

    [Fact]
    public async Task ATemplateIsApplied()
    {
        await using TestServer server = await Start();
        object body = new { messages = new[] { new { role = "user", content = "Hi" } } };
        Assert.Equal("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\n", (await server.Post("/apply-template", body)).GetProperty("prompt").GetString());
        Assert.EndsWith("<think>\n\n</think>\n\n", (await server.Post("/apply-template", TestServer.With(body, ("enable_thinking", false)))).GetProperty("prompt").GetString(), StringComparison.Ordinal);
        Assert.EndsWith("Hi<|im_end|>\n", (await server.Post("/apply-template", TestServer.With(body, ("add_generation_prompt", false)))).GetProperty("prompt").GetString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task TheModelIsListedForBothDialects()
    {
        await using TestServer server = await Start();
        JsonElement list = TestServer.Parse(await server.Client.GetStringAsync("/v1/models"));
        JsonElement entry = Assert.Single(list.GetProperty("data").EnumerateArray());
        Assert.Equal(("list", "tiny", "model", "model"), (list.GetProperty("object").GetString(), entry.GetProperty("id").GetString(), entry.GetProperty("object").GetString(), entry.GetProperty("type").GetString()));
        Assert.Equal(entry.GetRawText(), (await server.Client.GetStringAsync("/v1/models/tiny")));
    }

    [Fact]
    public async Task FiguresAreCounted()
    {
        await using TestServer server = await Start();
        JsonElement reply = await server.Post("/v1/chat/completions", new { messages = new[] { new { role = "user", content = "Hi" } }, temperature = 0 });
        await server.PostAny("/v1/chat/completions", "{}");
        await server.PostAny("/nowhere-known", "{}");
        string page = await server.Client.GetStringAsync("/metrics");
        foreach (string line in (string[])
        [
            "qian_requests_total{path=\"/v1/chat/completions\",status=\"200\"} 1",
            "qian_requests_total{path=\"/v1/chat/completions\",status=\"400\"} 1",
            "qian_requests_total{path=\"other\",status=\"404\"} 1",
            $"qian_prompt_tokens_total {reply.GetProperty("usage").GetProperty("prompt_tokens").GetInt32()}",
            $"qian_output_tokens_total {reply.GetProperty("usage").GetProperty("completion_tokens").GetInt32()}",
            "qian_reasoning_tokens_total 4",
            "qian_places 4",
            "qian_places_taken 0",
            "qian_queue_seconds_count 1",
            "qian_time_to_first_token_seconds_bucket{le=\"+Inf\"} 1",
            $"qian_time_per_output_token_seconds_count {reply.GetProperty("usage").GetProperty("completion_tokens").GetInt32() - 1}",
        ])
            Assert.Contains(line + "\n", page, StringComparison.Ordinal);
        Assert.DoesNotContain("nowhere", page, StringComparison.Ordinal);
        Assert.All(page.Split('\n', StringSplitOptions.RemoveEmptyEntries), line => Assert.Matches(@"^(# (HELP|TYPE) qian_\w+ .+|qian_\w+(\{[^}]*\})? \S+)$", line));
    }
}
