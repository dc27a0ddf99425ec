using System.Diagnostics;
using System.Net.Http.Headers;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace Qian.Cli.Serving;

// A client of a server as any other: sockets, JSON, server-sent events. It tells when each event came, can leave at any of them, and
// takes what comes, streamed or whole, for what it says.
internal sealed class ServeClient : IDisposable
{
    private readonly HttpClient _http;

    public ServeClient(Uri address, string? key = null)
    {
        _http = new HttpClient(new SocketsHttpHandler { AllowAutoRedirect = false, PooledConnectionIdleTimeout = TimeSpan.FromSeconds(20) }) { BaseAddress = address, Timeout = Timeout.InfiniteTimeSpan };
        if (key is not null)
            _http.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", key);
    }

    // `came` is told the time of each event that says something; false leaves. Null: this client left.
    public async Task<ServeReply?> AskAsync(string path, JsonObject body, Func<long, bool>? came = null, CancellationToken cancellation = default)
    {
        using var request = new HttpRequestMessage(HttpMethod.Post, path) { Content = new ByteArrayContent(Encoding.UTF8.GetBytes(body.ToJsonString())) };
        request.Content.Headers.ContentType = new MediaTypeHeaderValue("application/json");
        try
        {
            using HttpResponseMessage response = await _http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, cancellation).ConfigureAwait(false);
            if (response.Content.Headers.ContentType?.MediaType == "text/event-stream")
                return await ReadStreamAsync(response, came, cancellation).ConfigureAwait(false);
            string text = await response.Content.ReadAsStringAsync(cancellation).ConfigureAwait(false);
            var reply = new ReplyText();
            if (!response.IsSuccessStatusCode)
                return reply.End($"status {(int)response.StatusCode}: {text}");
            using JsonDocument whole = JsonDocument.Parse(text);
            reply.Take(whole.RootElement);
            return reply.End(null);
        }
        catch (OperationCanceledException) when (cancellation.IsCancellationRequested)
        {
            return null;
        }
        catch (Exception error) when (error is HttpRequestException or IOException or JsonException)
        {
            return new ReplyText().End(error.Message);
        }
    }

    // As AskAsync, where no reply is no measure.
    public async Task<ServeReply> MeasureAsync(JsonObject body, Func<long, bool> came, CancellationToken cancellation)
    {
        ServeReply reply = await AskAsync("/v1/completions", body, came, cancellation).ConfigureAwait(false) ?? throw new OperationCanceledException(cancellation);
        return reply.Fault is null ? reply : throw new IOException($"the server did not answer: {reply.Fault}");
    }

    // A figure of /metrics.
    public async Task<long> MetricAsync(string name, CancellationToken cancellation)
    {
        string page = await _http.GetStringAsync("/metrics", cancellation).ConfigureAwait(false);
        string? line = page.Split('\n').FirstOrDefault(line => line.StartsWith(name + " ", StringComparison.Ordinal));
        return line is null ? -1 : long.Parse(line[(name.Length + 1)..], System.Globalization.CultureInfo.InvariantCulture);
    }

    public void Dispose() => _http.Dispose();

    private static async Task<ServeReply?> ReadStreamAsync(HttpResponseMessage response, Func<long, bool>? came, CancellationToken cancellation)
    {
        using var reader = new StreamReader(await response.Content.ReadAsStreamAsync(cancellation).ConfigureAwait(false), Encoding.UTF8);
        var reply = new ReplyText();
        bool isWhole = false;
        while (await reader.ReadLineAsync(cancellation).ConfigureAwait(false) is { } line)
        {
            if (!line.StartsWith("data: ", StringComparison.Ordinal))
                continue;
            long now = Stopwatch.GetTimestamp();
            if (line == "data: [DONE]")
            {
                isWhole = true;
                continue;
            }

            using JsonDocument data = JsonDocument.Parse(line.AsMemory(6));
            isWhole |= data.RootElement.TryGetProperty("type", out JsonElement type) && type.GetString() == "message_stop";
            if (reply.Take(data.RootElement) && came?.Invoke(now) == false)
                return null;
        }

        return reply.End(isWhole ? null : "the stream ended before its end");
    }
}
