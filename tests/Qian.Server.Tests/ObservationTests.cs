using System.Collections.Concurrent;
using System.Diagnostics;
using System.Diagnostics.Metrics;
using System.Text;
using System.Text.Json;
using Qian.Inference;
using Qian.Inference.Tests;

namespace Qian.Server.Tests;

// What the operator learns of each request: log, audit, spans and figures, and what the client is told of its time.
public sealed class ObservationTests(ScriptedModel model) : IClassFixture<ScriptedModel>
{
    private const string Secret = "the launch code is swordfish";

    private static readonly object s_chat = new { messages = new[] { new { role = "user", content = Secret } }, temperature = 0, reasoning_effort = "none" };

    private static (QianServer Server, HttpClient Client, StringWriter Log) Open(QianServer server, StringWriter log) => (server, new HttpClient { BaseAddress = server.Address }, log);

    private static async Task<(QianServer Server, HttpClient Client, StringWriter Log)> Start(Engine engine, ServerOptions options)
    {
        var log = new StringWriter();
        return Open(await QianServer.StartAsync(engine, options with { Port = 0 }, TextWriter.Synchronized(log)), log);
    }

    private static StringContent Body(object body) => new(JsonSerializer.Serialize(body), Encoding.UTF8, "application/json");

    [Fact]
    public async Task TheAuditHasALinePerRequestAndNoWordOfIt()
    {
        using var folder = new TempFolder();
        string path = folder.File("audit.jsonl");
        File.WriteAllText(path, "{\"kept\":true}\n");
        using Engine engine = model.Load();
        (QianServer server, HttpClient client, _) = await Start(engine, new ServerOptions { AuditPath = path, ModelName = "m", Keys = ["sk-test-12345678"] });
        using (client)
        {
            await client.GetAsync("/health");
            await client.PostAsync("/v1/chat/completions", Body(s_chat));
            client.DefaultRequestHeaders.Add("x-api-key", "sk-test-12345678");
            string id = (await client.PostAsync("/v1/chat/completions", Body(s_chat))).Headers.GetValues("x-request-id").Single();
            await client.PostAsync("/v1/chat/completions", Body(new { messages = Secret }));
            await client.GetAsync("/" + Uri.EscapeDataString(Secret));
            await server.DisposeAsync();
            string text = File.ReadAllText(path);
            Assert.DoesNotContain("swordfish", text, StringComparison.Ordinal);
            Assert.DoesNotContain("sk-test", text, StringComparison.Ordinal);
            JsonElement[] lines = [.. text.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(TestServer.Parse)];
            Assert.True(lines[0].GetProperty("kept").GetBoolean());
            Assert.Equal([("", 401, "invalid_api_key"), ("key:1", 200, null), ("key:1", 400, "invalid_type"), ("key:1", 404, null)],
                lines.Skip(1).Select(line => (line.GetProperty("key").GetString(), line.GetProperty("status").GetInt32(), line.TryGetProperty("error", out JsonElement error) ? error.GetString() : null)));
            JsonElement good = lines[2];
            Assert.Equal((id, "127.0.0.1", "POST", "/v1/chat/completions", "m"), (good.GetProperty("request").GetString(), good.GetProperty("remote").GetString(), good.GetProperty("method").GetString(), good.GetProperty("path").GetString(), good.GetProperty("model").GetString()));
            Assert.Equal(ScriptedModel.PlainScript.Length + 1, good.GetProperty("output_tokens").GetInt32());
            Assert.Equal("stop", Assert.Single(good.GetProperty("finish_reasons").EnumerateArray()).GetString());
            double parts = good.GetProperty("queue_ms").GetDouble() + good.GetProperty("prefill_ms").GetDouble() + good.GetProperty("decode_ms").GetDouble();
            Assert.InRange(parts, 0.001, good.GetProperty("total_ms").GetDouble());
            Assert.Equal("other", lines[4].GetProperty("path").GetString());
        }
    }

    [Fact]
    public async Task TheAuditHasTheWordsWhenAsked()
    {
        using var folder = new TempFolder();
        string path = folder.File("audit.jsonl");
        using Engine engine = model.Load();
        (QianServer server, HttpClient client, _) = await Start(engine, new ServerOptions { AuditPath = path, AuditContents = true });
        using (client)
            await client.PostAsync("/v1/chat/completions", Body(TestServer.With(s_chat, ("stream", true))));
        await server.DisposeAsync();
        JsonElement line = TestServer.Parse(Assert.Single(File.ReadAllLines(path)));
        Assert.Contains(Secret, Assert.Single(line.GetProperty("prompts").EnumerateArray()).GetString(), StringComparison.Ordinal);
        Assert.Equal(ScriptedModel.PlainAnswer, Assert.Single(line.GetProperty("outputs").EnumerateArray()).GetString());
        if (!OperatingSystem.IsWindows())
            Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(path));
    }

    [Theory]
    [InlineData(RequestLogFormat.None)]
    [InlineData(RequestLogFormat.Text)]
    [InlineData(RequestLogFormat.Json)]
    public async Task TheLogTellsOfRequestsAsAsked(RequestLogFormat format)
    {
        using Engine engine = model.Load();
        (QianServer server, HttpClient client, StringWriter log) = await Start(engine, new ServerOptions { RequestLog = format, ModelName = "m" });
        using (client)
        {
            await client.GetAsync("/metrics");
            await client.PostAsync("/v1/chat/completions", Body(s_chat));
            await client.PostAsync("/tokenize", Body(new { content = Secret }));
        }

        await server.DisposeAsync();
        string[] lines = log.ToString().Split(Environment.NewLine, StringSplitOptions.RemoveEmptyEntries);
        Assert.DoesNotContain("swordfish", log.ToString(), StringComparison.Ordinal);
        Assert.Equal(format == RequestLogFormat.None ? 0 : 2, lines.Length);
        if (format == RequestLogFormat.Text)
            Assert.Matches(@"^\d\d:\d\d:\d\d POST /v1/chat/completions 200 \d+ ms, m: \d+ tokens in \(0 cached\), 7 out, queue \d+, prefill \d+, decode \d+ ms$", lines[0]);
        if (format == RequestLogFormat.Json)
            Assert.Equal(["/v1/chat/completions", "/tokenize"], lines.Select(line => TestServer.Parse(line).GetProperty("path").GetString()));
    }

    [Fact]
    public async Task RepliesTellWhatTheyTook()
    {
        using Engine engine = model.Load();
        (QianServer server, HttpClient client, _) = await Start(engine, new ServerOptions());
        using (client)
        {
            const string shape = @"^queue;dur=[\d.]+, prefill;dur=[\d.]+, decode;dur=[\d.]+, prompt;desc=""\d+"", cached;desc=""0"", output;desc=""7"", drafted;desc=""\d+"", accepted;desc=""\d+""$";
            foreach ((string path, object body) in ((string, object)[])[("/v1/chat/completions", s_chat), ("/v1/responses", new { input = "Hi", temperature = 0, reasoning = new { effort = "none" } })])
            {
                using HttpResponseMessage whole = await client.PostAsync(path, Body(body));
                Assert.Matches(shape, Assert.Single(whole.Headers.GetValues("Server-Timing")));
                using HttpResponseMessage stream = await client.PostAsync(path, Body(TestServer.With(body, ("stream", true))));
                string comment = Assert.Single((await stream.Content.ReadAsStringAsync()).Split('\n'), line => line.StartsWith(": timing ", StringComparison.Ordinal));
                Assert.Matches(shape, comment[": timing ".Length..]);
            }
        }

        await server.DisposeAsync();
    }

    [Fact]
    public async Task SpansAndFiguresFollowTheConventions()
    {
        string name = "observed-" + Guid.NewGuid().ToString("N");
        var spans = new ConcurrentQueue<Activity>();
        using var listener = new ActivityListener
        {
            ShouldListenTo = source => source.Name == "Qian.Server",
            Sample = static (ref ActivityCreationOptions<ActivityContext> _) => ActivitySamplingResult.AllDataAndRecorded,
            ActivityStopped = span =>
            {
                if (span.GetTagItem("gen_ai.request.model") as string == name)
                    spans.Enqueue(span);
            },
        };
        ActivitySource.AddActivityListener(listener);
        var figures = new ConcurrentQueue<(string Name, double Value, string? Kind, string? Error)>();
        using var meters = new MeterListener { InstrumentPublished = (instrument, self) => { if (instrument.Meter.Name == "Qian.Server") self.EnableMeasurementEvents(instrument); } };
        void Keep(Instrument instrument, double value, ReadOnlySpan<KeyValuePair<string, object?>> tags)
        {
            var map = new Dictionary<string, object?>(tags.ToArray());
            if (map["gen_ai.request.model"] as string == name)
                figures.Enqueue((instrument.Name, value, map.GetValueOrDefault("gen_ai.token.type") as string, map.GetValueOrDefault("error.type") as string));
        }

        meters.SetMeasurementEventCallback<double>((instrument, value, tags, _) => Keep(instrument, value, tags));
        meters.SetMeasurementEventCallback<long>((instrument, value, tags, _) => Keep(instrument, value, tags));
        meters.Start();

        using Engine engine = model.Load();
        (QianServer server, HttpClient client, _) = await Start(engine, new ServerOptions { ModelName = name });
        using (client)
        {
            using var traced = new HttpRequestMessage(HttpMethod.Post, "/v1/chat/completions") { Content = Body(TestServer.With(s_chat, ("temperature", 0.5), ("seed", 7), ("max_tokens", 3))) };
            traced.Headers.Add("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
            await client.SendAsync(traced);
            await client.PostAsync("/v1/completions", Body(new { prompt = "a", max_tokens = 2, n = 2 }));
            await client.PostAsync("/v1/completions", Body(new { prompt = "a", logit_bias = new Dictionary<string, int> { ["500000"] = 1 } }));
        }

        await server.DisposeAsync();
        Activity[] told = [.. spans];
        Assert.Equal(["chat " + name, "text_completion " + name, "text_completion " + name], told.Select(span => span.DisplayName));
        Assert.Equal("0af7651916cd43dd8448eb211c80319c", told[0].TraceId.ToString());
        Assert.Equal(("qian", 3, 0.5f, 3), (told[0].GetTagItem("gen_ai.provider.name"), told[0].GetTagItem("gen_ai.request.max_tokens"), told[0].GetTagItem("gen_ai.request.temperature"), told[0].GetTagItem("gen_ai.usage.output_tokens")));
        Assert.Equal(["length"], Assert.IsType<string[]>(told[0].GetTagItem("gen_ai.response.finish_reasons")));
        Assert.Equal((2, 4), (told[1].GetTagItem("gen_ai.request.choice.count"), told[1].GetTagItem("gen_ai.usage.output_tokens")));
        Assert.Equal((ActivityStatusCode.Error, "invalid_value"), (told[2].Status, told[2].GetTagItem("error.type")));
        Assert.DoesNotContain(told.SelectMany(span => span.TagObjects), tag => tag.Value?.ToString()?.Contains("swordfish", StringComparison.Ordinal) == true);

        Assert.Equal([null, null, "invalid_value"], figures.Where(figure => figure.Name == "gen_ai.server.request.duration").Select(figure => figure.Error));
        Assert.Equal(2, figures.Count(figure => figure.Name == "gen_ai.server.time_to_first_token"));
        Assert.Equal(2, figures.Count(figure => figure.Name == "gen_ai.server.time_per_output_token"));
        Assert.Equal([3, 4, 0], figures.Where(figure => figure is { Name: "gen_ai.client.token.usage", Kind: "output" }).Select(figure => figure.Value));
    }
}
