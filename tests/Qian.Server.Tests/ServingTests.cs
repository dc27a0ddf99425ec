using System.Globalization;
using System.Net.Http.Json;
using System.Text.Json;
using System.Text.Json.Nodes;
using Qian.Inference;

namespace Qian.Server.Tests;

// What a request may say about how it is served, in every dialect: drafts, the guard against loops, how urgent it is; and what
// replies and figures say of it.
public sealed class ServingTests(ScriptedModel model) : IClassFixture<ScriptedModel>
{
    private const string Chat = "/v1/chat/completions", Completions = "/v1/completions", Responses = "/v1/responses", Messages = "/v1/messages";

    // A list of ones that takes more tokens than any of these replies may have.
    private static readonly JsonNode s_endless = JsonNode.Parse("""{"type":"array","items":{"const":1},"minItems":1000,"maxItems":1000}""")!;

    private static JsonObject Circling(string path, int maxTokens) => JsonSerializer.SerializeToNode(path switch
    {
        Chat => new { messages = new[] { new { role = "user", content = "Hi" } }, reasoning_effort = "none", temperature = 0, max_tokens = maxTokens, guided_json = s_endless },
        Completions => new { prompt = "Hi", temperature = 0, max_tokens = maxTokens, guided_json = s_endless },
        Responses => (object)new { input = "Hi", reasoning = new { effort = "none" }, temperature = 0, max_output_tokens = maxTokens, text = new { format = new { type = "json_schema", name = "x", schema = s_endless } } },
        _ => new { messages = new[] { new { role = "user", content = "Hi" } }, temperature = 0, max_tokens = maxTokens, output_config = new { format = new { type = "json_schema", schema = s_endless } } },
    })!.AsObject();

    // The official reason, the true one, and the tokens.
    private static (string? Official, string? Detail, int Count) EndOf(string path, JsonElement reply)
    {
        JsonElement usage = reply.GetProperty("usage");
        JsonElement ends = path switch { Responses => reply.GetProperty("incomplete_details"), Messages => reply, _ => reply.GetProperty("choices")[0] };
        string official = path switch { Responses => "reason", Messages => "stop_reason", _ => "finish_reason" };
        return (ends.GetProperty(official).GetString(), ends.TryGetProperty("finish_detail", out JsonElement detail) ? detail.GetString() : null, usage.GetProperty(path is Responses or Messages ? "output_tokens" : "completion_tokens").GetInt32());
    }

    private static async Task<long> Figure(TestServer server, string name)
    {
        string page = await server.Client.GetStringAsync("/metrics");
        string? line = page.Split('\n').FirstOrDefault(line => line.StartsWith(name + " ", StringComparison.Ordinal));
        return line is null ? 0 : long.Parse(line[(name.Length + 1)..], CultureInfo.InvariantCulture);
    }

    [Theory]
    [InlineData(Chat, "length")]
    [InlineData(Completions, "length")]
    [InlineData(Responses, "max_output_tokens")]
    [InlineData(Messages, "max_tokens")]
    public async Task AReplyThatCirclesEndsAndSaysWhy(string path, string official)
    {
        await using TestServer server = await TestServer.StartAsync(model.Load());
        (string? reason, string? detail, int count) = EndOf(path, await server.Post(path, Circling(path, 700)));
        Assert.Equal((official, "repetition"), (reason, detail));
        Assert.InRange(count, 300, 600);
        StreamEvent last = (await server.Stream(path, TestServer.With(Circling(path, 700), ("stream", true)))).Last(step => step.Data.Contains("finish_detail", StringComparison.Ordinal));
        Assert.Contains("\"finish_detail\":\"repetition\"", last.Data, StringComparison.Ordinal);
        Assert.Contains($"\"{official}\"", last.Data, StringComparison.Ordinal);
        // The request says that it may.
        Assert.Equal((official, "max_tokens", 650), EndOf(path, await server.Post(path, TestServer.With(Circling(path, 650), ("loop_guard", false)))));
        Assert.Equal((2, 1), (await Figure(server, "qian_finishes_total{reason=\"repetition\"}"), await Figure(server, "qian_finishes_total{reason=\"max_tokens\"}")));
    }

    [Fact]
    public async Task TheServerMayLeaveLoopsAlone()
    {
        await using TestServer server = await TestServer.StartAsync(model.Load(), new ServerOptions { LoopGuard = false });
        Assert.Equal("max_tokens", EndOf(Chat, await server.Post(Chat, Circling(Chat, 650))).Detail);
        Assert.Equal("repetition", EndOf(Chat, await server.Post(Chat, TestServer.With(Circling(Chat, 650), ("loop_guard", true)))).Detail);
    }

    [Theory]
    [InlineData(Chat, "length")]
    [InlineData(Messages, "model_context_window_exceeded")]
    public async Task AFullContextSaysSo(string path, string official)
    {
        await using TestServer server = await TestServer.StartAsync(model.Load(contextLength: 256));
        (string? reason, string? detail, int count) = EndOf(path, await server.Post(path, Circling(path, 700)));
        Assert.Equal((official, "context"), (reason, detail));
        Assert.InRange(count, 1, 255);
    }

    [Fact]
    public async Task ARequestDecidesHowFarAheadIsGuessed()
    {
        await using TestServer server = await TestServer.StartAsync(model.Load());
        // The context has said already what will come.
        string prompt = "ab\n\n" + ScriptedModel.PlainAnswer + "ab\n\n";
        var body = new { prompt, temperature = 0, max_tokens = 50, drafts = 4 };
        using HttpResponseMessage response = await server.Client.PostAsJsonAsync(Completions, body);
        JsonElement guessed = TestServer.Parse(await response.Content.ReadAsStringAsync());
        (long drafted, long accepted) = Drafts(guessed.GetProperty("usage"));
        Assert.InRange(accepted, 4, ScriptedModel.PlainScript.Length);
        Assert.InRange(drafted, accepted, 60);
        Assert.Contains($"drafted;desc=\"{drafted}\", accepted;desc=\"{accepted}\"", Assert.Single(response.Headers.GetValues("Server-Timing")), StringComparison.Ordinal);
        Assert.Equal((drafted, accepted), (await Figure(server, "qian_drafted_tokens_total"), await Figure(server, "qian_accepted_tokens_total")));
        JsonElement plain = await server.Post(Completions, TestServer.With(body, ("drafts", 0)));
        Assert.Equal((0, 0), Drafts(plain.GetProperty("usage")));
        Assert.Equal(ScriptedModel.PlainAnswer, plain.GetProperty("choices")[0].GetProperty("text").GetString());
        Assert.Equal(plain.GetProperty("choices").GetRawText(), guessed.GetProperty("choices").GetRawText());
    }

    [Fact]
    public async Task TheServerMayLeaveDraftsOff()
    {
        await using TestServer server = await TestServer.StartAsync(model.Load(), new ServerOptions { DraftTokens = 0 });
        Assert.Equal((0, 0), Drafts((await server.Post(Chat, Circling(Chat, 60))).GetProperty("usage")));
        Assert.InRange(Drafts((await server.Post(Chat, TestServer.With(Circling(Chat, 60), ("drafts", 3)))).GetProperty("usage")).Accepted, 1, 60);
    }

    [Theory]
    [InlineData(Chat)]
    [InlineData(Responses)]
    [InlineData(Messages)]
    public async Task EveryDialectTellsOfDrafts(string path)
    {
        await using TestServer server = await TestServer.StartAsync(model.Load());
        // What goes round in circles is guessed well.
        (long drafted, long accepted) = Drafts((await server.Post(path, TestServer.With(Circling(path, 60), ("drafts", 3)))).GetProperty("usage"));
        Assert.InRange(accepted, 1, drafted);
        JsonElement last = (await server.Stream(path, TestServer.With(Circling(path, 60), ("drafts", 3), ("stream", true), ("stream_options", path == Chat ? new { include_usage = true } : null))))
            .Last(step => step.Data.Contains("draft_tokens_details", StringComparison.Ordinal)).Json;
        Assert.Equal((drafted, accepted), Drafts((path == Responses ? last.GetProperty("response") : last).GetProperty("usage")));
        Assert.Equal((0, 0), Drafts((await server.Post(path, TestServer.With(Circling(path, 60), ("drafts", 0)))).GetProperty("usage")));
    }

    private static (long Drafted, long Accepted) Drafts(JsonElement usage)
    {
        JsonElement details = usage.GetProperty("draft_tokens_details");
        return (details.GetProperty("drafted_tokens").GetInt64(), details.GetProperty("accepted_tokens").GetInt64());
    }

    // Three that wait for one place, the least urgent first: who came later and was admitted earlier has waited less.
    [Fact]
    public async Task WhoIsUrgentWaitsLess()
    {
        await using TestServer server = await TestServer.StartAsync(model.Load(), new ServerOptions { ParallelCount = 1 });
        using var leaving = new CancellationTokenSource();
        Task running = server.Send(Completions, """{"prompt":"a","max_tokens":1900,"ignore_eos":true,"logprobs":20,"n":4}""", cancellation: leaving.Token);
        await Waiting(server, 0);
        var asked = new List<Task<HttpResponseMessage>>();
        foreach (string urgency in (string[])["\"priority\":7", "\"service_tier\":\"default\"", "\"service_tier\":\"priority\"", "\"service_tier\":\"flex\",\"priority\":-500"])
        {
            asked.Add(server.Send(Completions, $$"""{"prompt":"a","max_tokens":5,{{urgency}}}"""));
            await Waiting(server, asked.Count);
        }

        await leaving.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => running);
        double[] waits = [.. (await Task.WhenAll(asked)).Select(QueueTime)];
        Assert.Equal(waits.OrderDescending(), waits);
        Assert.Equal(4, waits.Distinct().Count());
    }

    private static double QueueTime(HttpResponseMessage response)
    {
        using (response)
        {
            Assert.True(response.IsSuccessStatusCode);
            string timing = Assert.Single(response.Headers.GetValues("Server-Timing"));
            return double.Parse(timing["queue;dur=".Length..timing.IndexOf(',', StringComparison.Ordinal)], CultureInfo.InvariantCulture);
        }
    }

    private static async Task Waiting(TestServer server, int count)
    {
        for (int i = 0; i < 1000; i++)
        {
            if (await Figure(server, "qian_requests_waiting") == count && await Figure(server, "qian_places_taken") == 1)
                return;
            await Task.Delay(10);
        }

        Assert.Fail($"never did {count} requests wait");
    }

    [Theory]
    [InlineData("drafts", "16")]
    [InlineData("drafts", "true")]
    [InlineData("loop_guard", "\"off\"")]
    [InlineData("priority", "1.5")]
    [InlineData("priority", "\"high\"")]
    [InlineData("service_tier", "\"gold\"")]
    public async Task ABadTermIsNamed(string name, string value)
    {
        await using TestServer server = await TestServer.StartAsync(model.Load());
        foreach (string path in (string[])[Chat, Completions, Responses])
        {
            (int status, JsonElement json) = await server.PostAny(path, TestServer.With(Circling(path, 5), (name, JsonNode.Parse(value))));
            Assert.Equal((400, name), (status, json.GetProperty("error").GetProperty("param").GetString()));
        }

        (int refused, JsonElement error) = await server.PostAny(Messages, TestServer.With(Circling(Messages, 5), (name, JsonNode.Parse(value))));
        Assert.Equal(400, refused);
        Assert.StartsWith(name + ": ", error.GetProperty("error").GetProperty("message").GetString(), StringComparison.Ordinal);
    }
}
