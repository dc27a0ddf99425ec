using System.Net;
using System.Text;
using System.Text.Json;
using Qian.Inference;
using Qian.Inference.Tests;

namespace Qian.Server.Tests;

// Many clients at once: places, queue, clients that leave, a server that stops.
public sealed class LoadTests(TinyModel model) : IClassFixture<TinyModel>
{
    private const string Chat = "/v1/chat/completions", Raw = "/v1/completions";

    // Goes on until it is stopped.
    private static readonly object s_endless = new { prompt = "Hello", temperature = 0, max_tokens = 1_000_000, ignore_eos = true, stream = true };

    private Task<TestServer> Start(ServerOptions? options = null, int context = 2048) => TestServer.StartAsync(model.Load(new EngineOptions { ContextLength = context, ThreadCount = 1 }), options);

    private static async Task<long> Metric(TestServer server, string name)
    {
        string page = await server.Client.GetStringAsync("/metrics");
        string line = page.Split('\n').Single(line => line.StartsWith(name + " ", StringComparison.Ordinal));
        return long.Parse(line[(name.Length + 1)..], System.Globalization.CultureInfo.InvariantCulture);
    }

    private static async Task Until(Func<Task<bool>> holds)
    {
        using var patience = new CancellationTokenSource(TimeSpan.FromMinutes(3));
        while (!await holds())
            await Task.Delay(5, patience.Token);
    }

    [Fact]
    public async Task FinishedRepliesAreThoseOfAColdRunHoweverManyLeave()
    {
        await using TestServer server = await Start(new ServerOptions { ParallelCount = 5, QueueLimit = 100 });
        (string Prompt, int Tokens)[] asks = [.. Enumerable.Range(0, 12).Select(i => (string.Concat(Enumerable.Repeat($"Question {i}: what now? ", 1 + (i * 7 % 30))), 8 + (i * 11 % 60)))];
        string[] expected = await Task.WhenAll(asks.Select(ask => ColdRun(server.Engine, ask.Prompt, ask.Tokens)));
        int finishedCount = 0, leftCount = 0;
        await Task.WhenAll(Enumerable.Range(0, 16).Select(async client =>
        {
            var random = new Random(client);
            for (int round = 0; round < 8; round++)
            {
                int which = random.Next(asks.Length);
                object body = new { prompt = asks[which].Prompt, max_tokens = asks[which].Tokens, temperature = 0, ignore_eos = true, stream = true };
                int leaveAfter = random.Next(3) == 0 ? random.Next(1, 6) : int.MaxValue;
                if (await Read(server, body, leaveAfter) is { } text)
                {
                    Assert.Equal(expected[which], text);
                    Interlocked.Increment(ref finishedCount);
                }
                else
                {
                    Interlocked.Increment(ref leftCount);
                }
            }
        }));
        Assert.Equal(16 * 8, finishedCount + leftCount);
        Assert.True(finishedCount > 20 && leftCount > 10, $"{finishedCount} finished, {leftCount} left");
        await Until(async () => await Metric(server, "qian_places_taken") == 0 && await Metric(server, "qian_requests_waiting") == 0);
    }

    [Fact]
    public async Task AClientThatLeavesFreesItsPlace()
    {
        await using TestServer server = await Start(new ServerOptions { ParallelCount = 1, QueueLimit = 4 }, context: 100_000);
        Assert.Null(await Read(server, s_endless, leaveAfter: 3));
        await Until(async () => await Metric(server, "qian_places_taken") == 0);
        // Also one that has not read a byte yet, and asked for no stream.
        using var leaving = new CancellationTokenSource();
        Task<HttpResponseMessage> waiting = server.Send(Raw, JsonSerializer.Serialize(TestServer.With(s_endless, ("stream", false))), cancellation: leaving.Token);
        await Until(async () => await Metric(server, "qian_places_taken") == 1);
        await leaving.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => waiting);
        await Until(async () => await Metric(server, "qian_places_taken") == 0);
        // Its place is given back first, then it is counted.
        await Until(async () => await Metric(server, "qian_requests_cancelled_total") == 2);
    }

    [Fact]
    public async Task AFullQueueTurnsAwayWithATimeToComeBack()
    {
        await using TestServer server = await Start(new ServerOptions { ParallelCount = 1, QueueLimit = 1, KeepAlive = TimeSpan.FromMilliseconds(20) }, context: 100_000);
        using HttpResponseMessage first = await server.Send(Raw, JsonSerializer.Serialize(s_endless), HttpCompletionOption.ResponseHeadersRead);
        await Until(async () => await Metric(server, "qian_places_taken") == 1);
        // The second waits, and hears that it does.
        using HttpResponseMessage second = await server.Send(Chat, """{"messages":[{"role":"user","content":"hi"}],"stream":true,"max_tokens":2}""", HttpCompletionOption.ResponseHeadersRead);
        using var reader = new StreamReader(await second.Content.ReadAsStreamAsync(), Encoding.UTF8);
        Assert.Equal(": queued", await reader.ReadLineAsync());
        Assert.Equal(1, await Metric(server, "qian_requests_waiting"));
        foreach ((string path, string type) in ((string, string)[])[(Chat, "rate_limit_error"), ("/v1/messages", "rate_limit_error")])
        {
            using HttpResponseMessage third = await server.Send(path, """{"messages":[{"role":"user","content":"hi"}],"max_tokens":5}""");
            Assert.Equal(HttpStatusCode.TooManyRequests, third.StatusCode);
            Assert.True(third.Headers.RetryAfter?.Delta >= TimeSpan.FromSeconds(1));
            Assert.Equal(type, TestServer.Parse(await third.Content.ReadAsStringAsync()).GetProperty("error").GetProperty("type").GetString());
        }

        first.Dispose();
        string rest = await reader.ReadToEndAsync();
        Assert.EndsWith("data: [DONE]\n\n", rest, StringComparison.Ordinal);
        Assert.Contains("\"finish_reason\":\"length\"", rest, StringComparison.Ordinal);
    }

    [Fact]
    public async Task ALongPromptShowsHowFarItHasBeenRead()
    {
        await using TestServer server = await Start(new ServerOptions { KeepAlive = TimeSpan.FromMilliseconds(1) }, context: 20_000);
        string prompt = string.Concat(Enumerable.Repeat("A long story. ", 2000));
        using HttpResponseMessage response = await server.Send("/v1/messages", JsonSerializer.Serialize(new { max_tokens = 1, stream = true, messages = new[] { new { role = "user", content = prompt } } }), HttpCompletionOption.ResponseHeadersRead);
        List<StreamEvent> events = await TestServer.ReadEvents(response);
        Assert.Contains(events, e => e.Name == "(comment)" && e.Data.StartsWith("prefill ", StringComparison.Ordinal));
        Assert.Contains(events, e => e.Name == "ping");
        Assert.Equal(("message_start", "message_stop"), (events.First(e => e.Name != "(comment)").Name, events[^1].Name));
    }

    [Fact]
    public async Task AStoppingServerEndsWhatRunsAndTakesNothingNew()
    {
        TestServer server = await Start(new ServerOptions { ParallelCount = 2, DrainLimit = TimeSpan.FromMinutes(5) });
        using HttpResponseMessage running = await server.Send(Raw, """{"prompt":"Hello","temperature":0,"max_tokens":400,"ignore_eos":true,"stream":true}""", HttpCompletionOption.ResponseHeadersRead);
        Task stopping = server.Server.StopAsync();
        List<StreamEvent> events = await TestServer.ReadEvents(running);
        Assert.Equal(("[DONE]", "length"), (events[^1].Data, events[^2].Json.GetProperty("choices")[0].GetProperty("finish_reason").GetString()));
        await stopping;
        await Assert.ThrowsAsync<HttpRequestException>(() => server.Client.GetAsync("/health"));
        await server.DisposeAsync();
    }

    [Fact]
    public async Task AStoppingServerDoesNotWaitForEver()
    {
        TestServer server = await Start(new ServerOptions { DrainLimit = TimeSpan.FromMilliseconds(100) }, context: 100_000);
        using HttpResponseMessage running = await server.Send(Raw, JsonSerializer.Serialize(s_endless), HttpCompletionOption.ResponseHeadersRead);
        await server.Server.StopAsync();
        await Assert.ThrowsAnyAsync<Exception>(() => TestServer.ReadEvents(running));
        await server.DisposeAsync();
    }

    private static async Task<string> ColdRun(Engine engine, string prompt, int tokens)
    {
        using Session session = engine.NewSession();
        session.Append(engine.Tokenizer.Encode(prompt, matchAddedTokens: true));
        var text = new StringBuilder();
        await foreach (GeneratedToken token in session.GenerateAsync(SamplingOptions.Greedy with { MaxTokens = tokens, IgnoreEos = true }))
            text.Append(token.Text);
        return text.ToString();
    }

    // The text of a stream; null when the reader left it.
    private static async Task<string?> Read(TestServer server, object body, int leaveAfter)
    {
        using HttpResponseMessage response = await server.Send(Raw, JsonSerializer.Serialize(body), HttpCompletionOption.ResponseHeadersRead);
        Assert.Equal(HttpStatusCode.OK, response.StatusCode);
        using var reader = new StreamReader(await response.Content.ReadAsStreamAsync(), Encoding.UTF8);
        var text = new StringBuilder();
        bool isDone = false;
        while (await reader.ReadLineAsync() is { } line)
        {
            if (line == "data: [DONE]")
                isDone = true;
            else if (line.StartsWith("data: ", StringComparison.Ordinal))
                text.Append(TestServer.Parse(line[6..]).GetProperty("choices")[0].GetProperty("text").GetString());
            if (--leaveAfter <= 0)
                return null;
        }

        Assert.True(isDone);
        return text.ToString();
    }
}
