using System.Collections.Concurrent;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;

namespace Qian.Weights.Tests.Pull;

// One request as it came over the wire.
internal sealed record HubRequest(bool IsContentHost, string Method, string Path, string Query, IReadOnlyDictionary<string, string> Headers)
{
    public string? Authorization => Headers.GetValueOrDefault("authorization");

    public (long From, long To)? Range
    {
        get
        {
            if (!Headers.TryGetValue("range", out string? text))
                return null;
            string[] ends = text["bytes=".Length..].Split('-');
            return (long.Parse(ends[0], CultureInfo.InvariantCulture), long.Parse(ends[1], CultureInfo.InvariantCulture));
        }
    }
}

// One answer, and what the network does to it.
internal sealed record HubReply(int Status, byte[] Body)
{
    public Dictionary<string, string> Headers { get; init; } = [];

    // After so many bytes of the body the connection ends: closed, reset, or left silent.
    public int? CutAfter { get; init; }

    public bool Reset { get; init; }

    public bool Stall { get; init; }

    public HubReply Saying(string name, string value) => this with { Headers = new(Headers) { [name] = value } };

    public static HubReply Error(int status, params (string Name, string Value)[] headers) =>
        new(status, "no"u8.ToArray()) { Headers = headers.ToDictionary(header => header.Name, header => header.Value) };
}

// A hub on 127.0.0.1 as the published interface describes it: the listing with blob ids and large-file digests, `resolve`
// with its headers and the redirect to a signed link, and a second port as content host, with ranges. Sockets, not HttpListener, so
// that a body can end anywhere. `Fault` may answer any request instead. As ModelScope it gives that hub's listing and files.
internal sealed class HubServer : IDisposable
{
    public const string Repo = "Org/Model-GGUF";
    public static readonly string Commit = new('c', 40);

    private readonly TcpListener _hub = new(IPAddress.Loopback, 0), _content = new(IPAddress.Loopback, 0);
    private readonly CancellationTokenSource _stop = new();
    private int _linkCount;

    public HubServer()
    {
        foreach ((TcpListener listener, bool isContent) in new[] { (_hub, false), (_content, true) })
        {
            listener.Start();
            _ = AcceptAsync(listener, isContent);
        }
    }

    public Dictionary<string, byte[]> Files { get; } = [];

    public ConcurrentQueue<HubRequest> Requests { get; } = new();

    public Func<HubRequest, HubReply?>? Fault { get; set; }

    public bool IsModelScope { get; set; }

    // As ModelScope was seen to: a range, under the status of the whole.
    public bool SaysOkToRanges { get; set; }

    public bool ListsBlobs { get; set; } = true;

    public bool HasRanges { get; set; } = true;

    // Links made before this one have expired.
    public int OldestLink { get; set; }

    public int LinkCount => _linkCount;

    public Uri Address => new($"http://127.0.0.1:{((IPEndPoint)_hub.LocalEndpoint).Port}");

    public HubRequest[] ContentRequests => [.. Requests.Where(request => request.IsContentHost)];

    public byte[] Add(string path, int bytes)
    {
        byte[] content = new byte[bytes];
        new Random(path.Aggregate(bytes, (seed, c) => unchecked(seed * 31 + c))).NextBytes(content);
        return Files[path] = content;
    }

    public static bool IsLarge(string path) => path.EndsWith(".gguf", StringComparison.Ordinal) || path.EndsWith(".safetensors", StringComparison.Ordinal);

    public static string Digest(string path, byte[] content) => IsLarge(path)
        ? Convert.ToHexStringLower(SHA256.HashData(content))
        : Convert.ToHexStringLower(SHA1.HashData([.. Encoding.ASCII.GetBytes($"blob {content.Length}\0"), .. content]));

    public string Digest(string path) => Digest(path, Files[path]);

    public HubReply Content(HubRequest request)
    {
        byte[] all = Files.Single(file => request.Path == "/blobs/" + Digest(file.Key)).Value;
        if (!HasRanges || request.Range is not { } range)
            return new HubReply(200, all);
        return new HubReply(SaysOkToRanges ? 200 : 206, all[(int)range.From..((int)range.To + 1)]) { Headers = { ["Content-Range"] = $"bytes {range.From}-{range.To}/{all.Length}" } };
    }

    public void Dispose()
    {
        _stop.Cancel();
        _hub.Dispose();
        _content.Dispose();
    }

    private HubReply Answer(HubRequest request)
    {
        Requests.Enqueue(request);
        if (Fault?.Invoke(request) is { } fault)
            return fault;
        if (request.IsContentHost)
            return int.Parse(request.Query["?link=".Length..], CultureInfo.InvariantCulture) < OldestLink ? HubReply.Error(403) : Content(request);
        if (IsModelScope)
            return AnswerAsModelScope(request);
        if (request.Path.StartsWith("/api/models/", StringComparison.Ordinal))
            return Listing();
        string marker = $"/resolve/{Commit}/";
        int at = request.Path.IndexOf(marker, StringComparison.Ordinal);
        if (at < 0 || !Files.TryGetValue(Uri.UnescapeDataString(request.Path[(at + marker.Length)..]), out byte[]? content))
            return HubReply.Error(404, ("X-Error-Code", "EntryNotFound"));
        string path = Uri.UnescapeDataString(request.Path[(at + marker.Length)..]), digest = Digest(path);
        if (!IsLarge(path))
            return new HubReply(200, content) { Headers = { ["ETag"] = $"\"{digest}\"", ["X-Repo-Commit"] = Commit } };
        return new HubReply(302, [])
        {
            Headers =
            {
                ["Location"] = NewLink(digest),
                ["X-Repo-Commit"] = Commit,
                ["X-Linked-Etag"] = $"\"{digest}\"",
                ["X-Linked-Size"] = content.Length.ToString(CultureInfo.InvariantCulture),
            },
        };
    }

    private string NewLink(string digest) => $"http://127.0.0.1:{((IPEndPoint)_content.LocalEndpoint).Port}/blobs/{digest}?link={Interlocked.Increment(ref _linkCount)}";

    // GET /api/v1/models/ORG/NAME/repo/files?Revision=R&Recursive=True, and /repo?Revision=R&FilePath=P: small files at once, large
    // ones by a redirect. Errors come in the same envelope as answers.
    private HubReply AnswerAsModelScope(HubRequest request)
    {
        Dictionary<string, string> query = request.Query.TrimStart('?').Split('&', StringSplitOptions.RemoveEmptyEntries).Select(pair => pair.Split('=')).ToDictionary(pair => pair[0], pair => Uri.UnescapeDataString(pair[1]));
        if (query.GetValueOrDefault("Revision") is not ("master" or "v1"))
            return Envelope(404, 10010205001, "no such revision", []);
        if (request.Path == $"/api/v1/models/{Repo}/repo/files" && query.GetValueOrDefault("Recursive") == "True")
            return Envelope(200, 200, "success", Files);
        if (request.Path != $"/api/v1/models/{Repo}/repo" || !Files.TryGetValue(query["FilePath"], out byte[]? content))
            return Envelope(404, 10010205001, "record not found", []);
        return IsLarge(query["FilePath"]) ? new HubReply(302, []) { Headers = { ["Location"] = NewLink(Digest(query["FilePath"])) } } : new HubReply(200, content);
    }

    private static HubReply Envelope(int status, long code, string message, Dictionary<string, byte[]> files) => new(status, JsonSerializer.SerializeToUtf8Bytes(new
    {
        Code = code,
        Data = new
        {
            Files = files.Select(file => new
            {
                CommitMessage = "upload",
                CommittedDate = 1726842501,
                CommitterName = "somebody",
                InCheck = false,
                IsLFS = IsLarge(file.Key),
                Mode = "33188",
                Name = Path.GetFileName(file.Key),
                Path = file.Key,
                Revision = new string('e', 40),
                Sha256 = Convert.ToHexStringLower(SHA256.HashData(file.Value)),
                Size = file.Value.Length,
                Type = "blob",
            }).Append(new
            {
                CommitMessage = "upload",
                CommittedDate = 1726842501,
                CommitterName = "somebody",
                InCheck = false,
                IsLFS = false,
                Mode = "16384",
                Name = "assets",
                Path = "assets",
                Revision = new string('e', 40),
                Sha256 = "",
                Size = 0,
                Type = "tree",
            }),
        },
        Message = message,
        RequestId = "8c2a8249-ce50-49f4-85ea-36debf918714",
        Success = code == 200,
    }));

    private HubReply Listing() => new(200, JsonSerializer.SerializeToUtf8Bytes(new
    {
        id = Repo,
        sha = Commit,
        gated = false,
        siblings = Files.Select(file => (object)(!ListsBlobs ? new { rfilename = file.Key }
            : IsLarge(file.Key)
                ? new { rfilename = file.Key, size = file.Value.Length, blobId = new string('b', 40), lfs = new { sha256 = Digest(file.Key), size = file.Value.Length, pointerSize = 134 } }
                : new { rfilename = file.Key, size = file.Value.Length, blobId = Digest(file.Key) })),
    }));

    private async Task AcceptAsync(TcpListener listener, bool isContent)
    {
        try
        {
            while (true)
                _ = ServeAsync(await listener.AcceptTcpClientAsync(_stop.Token), isContent);
        }
        catch (Exception error) when (error is OperationCanceledException or SocketException or ObjectDisposedException)
        {
            // The server ends with its test.
        }
    }

    private async Task ServeAsync(TcpClient connection, bool isContent)
    {
        using (connection)
        {
            try
            {
                NetworkStream stream = connection.GetStream();
                using var reader = new StreamReader(stream, Encoding.ASCII, false, 1024, leaveOpen: true);
                while (await reader.ReadLineAsync(_stop.Token) is { Length: > 0 } first)
                {
                    var headers = new Dictionary<string, string>(StringComparer.OrdinalIgnoreCase);
                    while (await reader.ReadLineAsync(_stop.Token) is { Length: > 0 } line)
                        headers[line[..line.IndexOf(':')].ToLowerInvariant()] = line[(line.IndexOf(':') + 1)..].Trim();
                    string[] words = first.Split(' ');
                    int query = words[1].IndexOf('?');
                    var request = new HubRequest(isContent, words[0], query < 0 ? words[1] : words[1][..query], query < 0 ? "" : words[1][query..], headers);
                    if (!await SendAsync(connection, stream, request, Answer(request)))
                        return;
                }
            }
            catch (Exception error) when (error is IOException or OperationCanceledException or SocketException)
            {
                // The client went away, as some tests have it.
            }
        }
    }

    // False when the connection ends with this answer.
    private async Task<bool> SendAsync(TcpClient connection, NetworkStream stream, HubRequest request, HubReply reply)
    {
        var head = new StringBuilder($"HTTP/1.1 {reply.Status} X\r\n");
        if (!reply.Headers.ContainsKey("Content-Length"))
            head.Append(CultureInfo.InvariantCulture, $"Content-Length: {reply.Body.Length}\r\n");
        foreach ((string name, string value) in reply.Headers)
            head.Append(CultureInfo.InvariantCulture, $"{name}: {value}\r\n");
        await stream.WriteAsync(Encoding.ASCII.GetBytes(head.Append("\r\n").ToString()), _stop.Token);
        if (request.Method != "HEAD")
            await stream.WriteAsync(reply.Body.AsMemory(0, reply.CutAfter ?? reply.Body.Length), _stop.Token);
        if (reply.CutAfter is null)
            return true;
        if (reply.Stall)
            await Task.Delay(Timeout.Infinite, _stop.Token);
        if (reply.Reset)
            connection.Client.LingerState = new LingerOption(true, 0);
        return false;
    }
}
