using System.Collections.Concurrent;
using System.Globalization;
using System.Net;
using System.Net.Http.Headers;
using System.Text.Json;
using Qian.Inference;

namespace Qian.Weights;

// The hub's HTTP interface: the listing of a revision, a file's size and digest, a file's bytes from an offset. Redirects are
// followed by hand, because the token must stay with the endpoint's host, and because the content host's signed link is kept for
// the next piece until it expires. Every answer is checked against what was asked; what another attempt may cure becomes a
// PassingFaultException. Does not know about disks or retries of its own, except for the listing. What is particular to ModelScope
// stands in ModelScopeHub.
internal sealed class HubClient : IDisposable
{
    private const int MostRedirects = 8;
    public const int MostFiles = 20_000;
    private const int LargestListingBytes = 32 << 20;
    private const long LargestFileBytes = 1L << 42;

    private readonly HubSettings _settings;
    private readonly HttpClient _http;
    private readonly ConcurrentDictionary<string, Uri> _links = new();

    public HubClient(HubSettings settings)
    {
        _settings = settings;
        var handler = new SocketsHttpHandler
        {
            AllowAutoRedirect = false,
            UseCookies = false,
            AutomaticDecompression = DecompressionMethods.None,
            ConnectTimeout = settings.StallTime,
            PooledConnectionLifetime = TimeSpan.FromMinutes(5),
        };
        _http = new HttpClient(handler) { Timeout = Timeout.InfiniteTimeSpan };
        _http.DefaultRequestHeaders.UserAgent.Add(new ProductInfoHeaderValue("qian", "0.1"));
        _http.DefaultRequestHeaders.TryAddWithoutValidation("Accept-Encoding", "identity");
    }

    public HubSettings Settings => _settings;

    public async Task<HubListing> ListAsync(string repo, string revision, CancellationToken cancellation)
    {
        bool isModelScope = _settings.Kind == HubKind.ModelScope;
        Uri address = isModelScope
            ? ModelScopeHub.ListingAddress(Root, repo, revision)
            : new Uri($"{Root}/api/models/{HubPath.Escaped(repo)}/revision/{Uri.EscapeDataString(revision)}?blobs=true");
        byte[] body = await RetryAsync(async () =>
        {
            using HttpResponseMessage response = await FollowAsync(HttpMethod.Get, address, null, $"the listing of {repo}", stopAtLink: false, cancellation);
            CheckStatus(response, $"{repo} at {HubPath.Shown(revision)}");
            return await ReadAllAsync(response, cancellation);
        }, cancellation);
        return isModelScope ? ModelScopeHub.ParseListing(repo, revision, body) : ParseListing(repo, body);
    }

    // Size and digest from the headers of the file's own address, where the listing had none.
    public async Task<HubFile> CompleteAsync(HubListing listing, HubFile file, CancellationToken cancellation) => await RetryAsync(async () =>
    {
        using HttpResponseMessage response = await FollowAsync(HttpMethod.Head, Address(listing, file), null, file.Path, stopAtLink: true, cancellation);
        if (!IsRedirect(response))
            CheckStatus(response, file.Path);
        CheckCommit(response, listing, file);
        string? digest = (Header(response, "X-Linked-Etag") ?? Header(response, "ETag"))?.Replace("W/", "", StringComparison.Ordinal).Trim('"');
        long? size = long.TryParse(Header(response, "X-Linked-Size"), NumberStyles.None, CultureInfo.InvariantCulture, out long linked) ? linked
            : IsRedirect(response) ? null : response.Content.Headers.ContentLength;
        if (!IsDigest(digest) || size is null or < 0 or > LargestFileBytes)
            throw new IOException($"{file.Path}: the hub states no digest and size, so a download could not be verified. Nothing was fetched.");
        return file with { Digest = digest, SizeBytes = size };
    }, cancellation);

    // The bytes from `start` on, up to `end` (exclusive) unless the server gives no ranges: then everything from 0, and
    // IsRange is false. The caller disposes the answer.
    public async Task<HubBody> OpenAsync(HubListing listing, HubFile file, long start, long end, CancellationToken cancellation)
    {
        long size = file.SizeBytes!.Value;
        bool isWhole = start == 0 && end == size;
        RangeHeaderValue? range = isWhole ? null : new RangeHeaderValue(start, end - 1);
        string key = $"{listing.Commit}/{file.Path}";
        HttpResponseMessage response;
        if (_links.TryGetValue(key, out Uri? link))
        {
            response = await SendAsync(HttpMethod.Get, link, range, file.Path, cancellation);
            if (IsRedirect(response) || (int)response.StatusCode is >= 400 and < 500 and not 408 and not 429)
            {
                // A signed link lives for minutes to hours; the hub gives a new one.
                _links.TryRemove(key, out _);
                response.Dispose();
                response = await FollowAsync(HttpMethod.Get, Address(listing, file), range, file.Path, stopAtLink: false, cancellation);
            }
        }
        else
        {
            response = await FollowAsync(HttpMethod.Get, Address(listing, file), range, file.Path, stopAtLink: false, cancellation);
        }

        try
        {
            CheckCommit(response, listing, file);
            CheckStatus(response, file.Path);
            Uri source = response.RequestMessage!.RequestUri!;
            bool isRange = CheckRange(response, file, start, end);
            _links[key] = source;
            return new HubBody(response, await response.Content.ReadAsStreamAsync(cancellation), isRange || isWhole, _settings.StallTime);
        }
        catch
        {
            response.Dispose();
            throw;
        }
    }

    public void Forget(HubListing listing, HubFile file) => _links.TryRemove($"{listing.Commit}/{file.Path}", out _);

    public void Dispose() => _http.Dispose();

    private string Root => _settings.Endpoint.AbsoluteUri.TrimEnd('/');

    private Uri Address(HubListing listing, HubFile file) => _settings.Kind == HubKind.ModelScope
        ? ModelScopeHub.FileAddress(Root, listing, file)
        : new($"{Root}/{HubPath.Escaped(listing.Repo)}/resolve/{listing.Commit}/{HubPath.Escaped(file.Path)}");

    private async Task<T> RetryAsync<T>(Func<Task<T>> attempt, CancellationToken cancellation)
    {
        var backoff = new Backoff(_settings, $"Is there a network? Proxies are taken from HTTPS_PROXY, another address from {_settings.EndpointVariable}.");
        while (true)
        {
            try
            {
                return await attempt();
            }
            catch (PassingFaultException fault)
            {
                await backoff.WaitAsync(fault, cancellation);
            }
        }
    }

    // `stopAtLink`: the answer that names the digest is wanted, not the content that it points to.
    private async Task<HttpResponseMessage> FollowAsync(HttpMethod method, Uri address, RangeHeaderValue? range, string what, bool stopAtLink, CancellationToken cancellation)
    {
        for (int hop = 0; hop <= MostRedirects; hop++)
        {
            HttpResponseMessage response = await SendAsync(method, address, range, what, cancellation);
            if (!IsRedirect(response) || (stopAtLink && Header(response, "X-Linked-Etag") is not null))
                return response;
            Uri? location = response.Headers.Location;
            response.Dispose();
            if (location is null)
                throw new IOException($"{what}: the server redirects to nowhere.");
            Uri next = new(address, location);
            if (next.Scheme is not ("http" or "https") || (address.Scheme == "https" && next.Scheme != "https"))
                throw new IOException($"{what}: the server redirects to {HubPath.Shown(next.Scheme)}://{HubPath.Shown(next.Host)}, which is not followed.");
            address = next;
        }

        throw new IOException($"{what}: more than {MostRedirects} redirects.");
    }

    private async Task<HttpResponseMessage> SendAsync(HttpMethod method, Uri address, RangeHeaderValue? range, string what, CancellationToken cancellation)
    {
        using var request = new HttpRequestMessage(method, address);
        request.Headers.Range = range;
        bool isHub = Uri.Compare(address, _settings.Endpoint, UriComponents.SchemeAndServer, UriFormat.Unescaped, StringComparison.OrdinalIgnoreCase) == 0;
        if (isHub && _settings.Token is { } token)
        {
            request.Headers.Authorization = new AuthenticationHeaderValue("Bearer", token);
            if (_settings.Kind == HubKind.ModelScope)
                request.Headers.TryAddWithoutValidation("Cookie", "m_session_id=" + token); // how its own library signs in
        }

        using var stall = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        stall.CancelAfter(_settings.StallTime);
        try
        {
            return await _http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, stall.Token);
        }
        catch (OperationCanceledException error) when (!cancellation.IsCancellationRequested)
        {
            throw new PassingFaultException($"{what}: {address.Host} does not answer", inner: error);
        }
        catch (HttpRequestException error) when (error.HttpRequestError == HttpRequestError.SecureConnectionError)
        {
            throw new IOException($"{what}: no secure connection to {address.Host}: {error.InnerException?.Message ?? error.Message}", error);
        }
        catch (HttpRequestException error)
        {
            throw new PassingFaultException($"{what}: {address.Host}: {HubPath.Shown(error.GetBaseException().Message)}", inner: error);
        }
    }

    private async Task<byte[]> ReadAllAsync(HttpResponseMessage response, CancellationToken cancellation)
    {
        await using var body = new HubBody(response, await response.Content.ReadAsStreamAsync(cancellation), true, _settings.StallTime);
        var bytes = new MemoryStream();
        byte[] buffer = new byte[1 << 16];
        int count;
        while ((count = await body.ReadAsync(buffer, cancellation)) > 0)
        {
            if (bytes.Length + count > LargestListingBytes)
                throw new IOException($"The hub's answer is larger than {LargestListingBytes >> 20} MiB.");
            bytes.Write(buffer, 0, count);
        }

        return bytes.ToArray();
    }

    private static bool IsRedirect(HttpResponseMessage response) => (int)response.StatusCode is 301 or 302 or 303 or 307 or 308;

    private static string? Header(HttpResponseMessage response, string name) =>
        response.Headers.TryGetValues(name, out IEnumerable<string>? values) || response.Content.Headers.TryGetValues(name, out values) ? values.First() : null;

    private static bool IsDigest(string? text) => HubPath.IsHex(text, HubFile.Sha256Digits) || HubPath.IsHex(text, HubFile.GitDigits);

    private static void CheckCommit(HttpResponseMessage response, HubListing listing, HubFile file)
    {
        if (Header(response, "X-Repo-Commit") is { } commit && commit != listing.Commit)
            throw new IOException($"{file.Path}: the hub answered with commit {HubPath.Shown(commit, 40)} where {listing.Commit} was asked for.");
    }

    private void CheckStatus(HttpResponseMessage response, string what)
    {
        int status = (int)response.StatusCode;
        if (status is >= 200 and < 300)
            return;
        string code = Header(response, "X-Error-Code") ?? "";
        string said = Header(response, "X-Error-Message") is { Length: > 0 } message ? $" The hub says: {HubPath.Shown(message)}" : "";
        Uri source = response.RequestMessage!.RequestUri!;
        if (status is 408 or 429 or >= 500)
        {
            RetryConditionHeaderValue? wait = response.Headers.RetryAfter;
            TimeSpan? delay = wait?.Delta ?? (wait?.Date is { } date ? date - DateTimeOffset.UtcNow : null);
            string reason = status == 429 ? "too many requests" : "the server has a fault";
            throw new PassingFaultException($"{what}: {source.Host} answers {status} ({reason})", delay < TimeSpan.Zero ? TimeSpan.Zero : delay);
        }

        bool isHub = source.Host == _settings.Endpoint.Host && source.Port == _settings.Endpoint.Port;
        if (!isHub && status != 416)
            throw new PassingFaultException($"{what}: the content host {source.Host} answers {status}");
        if (status is 401 or 403 && code is not "RepoNotFound")
        {
            string page = $"{Root}/{(_settings.Kind == HubKind.ModelScope ? "models/" : "")}{HubPath.Shown(what.Split(' ')[0])}";
            throw new UnauthorizedAccessException(_settings.Token is null
                ? $"{what}: the hub answers {status}: the model is gated, private, or does not exist. Accept its licence on its page ({page}) and set {_settings.TokenVariable} to a token of your account.{said}"
                : $"{what}: the hub answers {status}: the account of {_settings.TokenVariable} has no access. Accept the model's licence on its page ({page}), or check the token.{said}");
        }

        if (code is "RepoNotFound")
            throw new BadRequestException($"{what}: there is no such model on {source.Host}, or it is private: check the spelling, or set {_settings.TokenVariable}.{said}");
        if (status == 404)
            throw new BadRequestException($"{what}: {(code is "RevisionNotFound" ? "there is no such revision" : "not found")} on {source.Host}.{said}");
        throw new IOException($"{what}: {source.Host} answers {status}.{said}");
    }

    // True for a part, false for everything; other lengths than the listing's are refused before a byte is written.
    private bool CheckRange(HttpResponseMessage response, HubFile file, long start, long end)
    {
        long size = file.SizeBytes!.Value;
        HttpContentHeaders headers = response.Content.Headers;
        if (headers.ContentEncoding.Count > 0 && !headers.ContentEncoding.All(name => name.Equals("identity", StringComparison.OrdinalIgnoreCase)))
            throw new IOException($"{file.Path}: the server sends {HubPath.Shown(string.Join(',', headers.ContentEncoding))} where plain bytes were asked for.");
        if (response.StatusCode == HttpStatusCode.PartialContent)
        {
            ContentRangeHeaderValue? range = headers.ContentRange;
            if (range is not { Unit: "bytes", From: not null, To: not null } || range.From != start || range.To >= end)
                throw new PassingFaultException($"{file.Path}: bytes {start} to {end - 1} were asked for, the server sends {HubPath.Shown(range?.ToString() ?? "no range")}");
            if (range.HasLength && range.Length != size)
                throw WrongSize(file, range.Length!.Value);
            return true;
        }

        // ModelScope answers some ranges with 200; what it sends is the part all the same, and the digest has the last word.
        if (_settings.Kind == HubKind.ModelScope && headers.ContentLength == end - start && (headers.ContentRange is not { } part || part.From == start) && end - start != size)
            return true;
        if (headers.ContentLength is { } length && length != size)
            throw WrongSize(file, length);
        return false;
    }

    private IOException WrongSize(HubFile file, long found) =>
        new(string.Create(CultureInfo.InvariantCulture, $"{file.Path}: the hub lists {file.SizeBytes} bytes, the server has {found}. Nothing of it is used; try again later, or another {_settings.EndpointVariable}."));

    private static HubListing ParseListing(string repo, byte[] body)
    {
        try
        {
            using JsonDocument document = JsonDocument.Parse(body);
            JsonElement root = document.RootElement;
            string? commit = root.GetProperty("sha").GetString();
            if (!HubPath.IsHex(commit, HubFile.GitDigits))
                throw new IOException($"{repo}: the hub's listing names no commit.");
            JsonElement siblings = root.GetProperty("siblings");
            if (siblings.GetArrayLength() > MostFiles)
                throw new IOException($"{repo}: the hub lists {siblings.GetArrayLength()} files, more than {MostFiles}.");
            var files = new List<HubFile>();
            var seen = new HashSet<string>(StringComparer.Ordinal);
            foreach (JsonElement sibling in siblings.EnumerateArray())
            {
                string path = sibling.GetProperty("rfilename").GetString() ?? "";
                CheckPath(repo, path, seen);
                files.Add(ParseFile(path, sibling));
            }

            return new HubListing(repo, commit!, files);
        }
        catch (Exception error) when (error is JsonException or InvalidOperationException or KeyNotFoundException or FormatException)
        {
            throw new IOException($"{repo}: the hub's listing cannot be read: {HubPath.Shown(error.Message)}", error);
        }
    }

    private static HubFile ParseFile(string path, JsonElement sibling)
    {
        string? digest = sibling.TryGetProperty("blobId", out JsonElement blob) && blob.ValueKind == JsonValueKind.String ? blob.GetString() : null;
        JsonElement sizes = sibling;
        if (sibling.TryGetProperty("lfs", out JsonElement lfs) && lfs.ValueKind == JsonValueKind.Object)
        {
            digest = (lfs.TryGetProperty("sha256", out JsonElement sha) || lfs.TryGetProperty("oid", out sha)) && sha.ValueKind == JsonValueKind.String ? sha.GetString() : null;
            digest = digest?.StartsWith("sha256:", StringComparison.Ordinal) == true ? digest["sha256:".Length..] : digest;
            if (lfs.TryGetProperty("size", out _))
                sizes = lfs;
        }

        long? size = sizes.TryGetProperty("size", out JsonElement number) && number.ValueKind == JsonValueKind.Number ? number.GetInt64() : null;
        CheckSize(path, size);
        return new HubFile(path, size, IsDigest(digest) ? digest : null);
    }

    // Of a listing: names become paths of this machine.
    public static void CheckPath(string repo, string path, HashSet<string> seen)
    {
        if (HubPath.Fault(path) is { } fault)
            throw new IOException($"{repo}: the hub lists the file name '{HubPath.Shown(path)}', which is refused: {fault}. Nothing was fetched.");
        if (!seen.Add(path))
            throw new IOException($"{repo}: the hub lists {path} twice.");
    }

    public static void CheckSize(string path, long? size)
    {
        if (size is < 0 or > LargestFileBytes)
            throw new IOException(string.Create(CultureInfo.InvariantCulture, $"{path}: the hub lists a size of {size} bytes."));
    }
}
