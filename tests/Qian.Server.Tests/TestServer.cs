using System.Net.Http.Headers;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Qian.Inference;

namespace Qian.Server.Tests;

// A server on a free port and a client for it: real Kestrel, real sockets.
internal sealed class TestServer : IAsyncDisposable
{
    private readonly StringWriter _log;

    private TestServer(Engine engine, StringWriter log)
    {
        Engine = engine;
        _log = log;
    }

    public Engine Engine { get; }

    public required QianServer Server { get; init; }

    public required HttpClient Client { get; init; }

    // What the server itself could not cope with.
    public string Failures => _log.ToString();

    public static async Task<TestServer> StartAsync(Engine engine, ServerOptions? options = null)
    {
        var log = new StringWriter();
        QianServer server = await QianServer.StartAsync(engine, (options ?? new ServerOptions()) with { Port = 0, ModelName = options is null ? "tiny" : options.ModelName }, TextWriter.Synchronized(log));
        var client = new HttpClient(new SocketsHttpHandler { AllowAutoRedirect = false }) { BaseAddress = server.Address, Timeout = TimeSpan.FromMinutes(5) };
        return new TestServer(engine, log) { Server = server, Client = client };
    }

    public Task<HttpResponseMessage> Send(string path, string body, HttpCompletionOption option = HttpCompletionOption.ResponseContentRead, CancellationToken cancellation = default)
    {
        var request = new HttpRequestMessage(HttpMethod.Post, path) { Content = new ByteArrayContent(Encoding.UTF8.GetBytes(body)) };
        request.Content.Headers.ContentType = new MediaTypeHeaderValue("application/json");
        return Client.SendAsync(request, option, cancellation);
    }

    // A reply that must be a success.
    public async Task<JsonElement> Post(string path, object body)
    {
        (int status, JsonElement json) = await PostAny(path, body);
        Assert.True(status == 200, json.ToString());
        return json;
    }

    public async Task<(int Status, JsonElement Json)> PostAny(string path, object body)
    {
        using HttpResponseMessage response = await Send(path, Text(body));
        Assert.Equal("application/json", response.Content.Headers.ContentType?.MediaType);
        return ((int)response.StatusCode, Parse(await response.Content.ReadAsStringAsync()));
    }

    // The events of a stream; a last "[DONE]" is checked and left out for paths that end so.
    public async Task<List<StreamEvent>> Stream(string path, object body)
    {
        using HttpResponseMessage response = await Send(path, Text(body), HttpCompletionOption.ResponseHeadersRead);
        Assert.True(response.IsSuccessStatusCode, await Failed(response));
        Assert.Equal("text/event-stream", response.Content.Headers.ContentType?.MediaType);
        List<StreamEvent> events = await ReadEvents(response);
        if (path is "/v1/messages" or "/v1/responses")
            return events;
        Assert.Equal("[DONE]", events[^1].Data);
        events.RemoveAt(events.Count - 1);
        return events;
    }

    public static async Task<List<StreamEvent>> ReadEvents(HttpResponseMessage response)
    {
        using var reader = new StreamReader(await response.Content.ReadAsStreamAsync(), Encoding.UTF8);
        var events = new List<StreamEvent>();
        string? name = null;
        while (await reader.ReadLineAsync() is { } line)
        {
            if (line.StartsWith("event: ", StringComparison.Ordinal))
                name = line[7..];
            else if (line.StartsWith("data: ", StringComparison.Ordinal))
                events.Add(new StreamEvent(name, line[6..]));
            else if (line.StartsWith(": ", StringComparison.Ordinal) && !line.StartsWith(": timing ", StringComparison.Ordinal))
                events.Add(new StreamEvent("(comment)", line[2..]));
            else if (!line.StartsWith(": timing ", StringComparison.Ordinal))
                Assert.Equal("", line);
            if (line.Length == 0)
                name = null;
        }

        return events;
    }

    public static JsonElement Parse(string json)
    {
        using JsonDocument document = JsonDocument.Parse(json);
        return document.RootElement.Clone();
    }

    // The same request with some fields changed.
    public static JsonObject With(object body, params (string Name, object? Value)[] fields)
    {
        JsonObject changed = JsonSerializer.SerializeToNode(body)!.AsObject();
        foreach ((string name, object? value) in fields)
            changed[name] = JsonSerializer.SerializeToNode(value);
        return changed;
    }

    public async ValueTask DisposeAsync()
    {
        await Server.DisposeAsync();
        Client.Dispose();
        Engine.Dispose();
        Assert.True(Failures.Length == 0, Failures);
    }

    private static string Text(object body) => body as string ?? JsonSerializer.Serialize(body);

    private static async Task<string> Failed(HttpResponseMessage response) => response.IsSuccessStatusCode ? "" : await response.Content.ReadAsStringAsync();
}

internal sealed record StreamEvent(string? Name, string Data)
{
    public JsonElement Json => TestServer.Parse(Data);
}
