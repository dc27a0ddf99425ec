namespace Qian.Weights;

// Where models come from and how patiently. What depends on a clock or a disk is a delegate, so that tests see what was asked
// for without waiting for it.
internal sealed record HubSettings
{
    public const string PublicHub = "https://huggingface.co";

    public Uri Endpoint { get; init; } = new(PublicHub);

    // Goes to the endpoint's own host only, never along a redirect to another one.
    public string? Token { get; init; }

    public int ConnectionCount { get; init; } = 4;

    public int PieceBytes { get; init; } = 32 << 20;

    // Attempts without progress before giving up.
    public int AttemptCount { get; init; } = 8;

    public TimeSpan FirstDelay { get; init; } = TimeSpan.FromSeconds(1);

    public TimeSpan LongestDelay { get; init; } = TimeSpan.FromSeconds(60);

    // A server that asks for more than this is not waited for.
    public TimeSpan LongestRetryAfter { get; init; } = TimeSpan.FromMinutes(10);

    // A connection that gives nothing for so long counts as broken.
    public TimeSpan StallTime { get; init; } = TimeSpan.FromSeconds(30);

    public Func<TimeSpan, CancellationToken, Task> Wait { get; init; } = Task.Delay;

    public Func<string, long> FreeBytes { get; init; } = folder => new DriveInfo(folder).AvailableFreeSpace;

    // HF_ENDPOINT and HF_TOKEN; proxies are HttpClient's own (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY).
    public static HubSettings FromEnvironment()
    {
        var settings = new HubSettings();
        if (Environment.GetEnvironmentVariable("HF_ENDPOINT") is { Length: > 0 } endpoint)
        {
            if (!Uri.TryCreate(endpoint.TrimEnd('/'), UriKind.Absolute, out Uri? uri) || uri.Scheme is not ("http" or "https"))
                throw new Inference.BadRequestException($"HF_ENDPOINT={HubPath.Shown(endpoint)}: expected an address that begins with https:// or http://");
            settings = settings with { Endpoint = uri };
        }

        if (Environment.GetEnvironmentVariable("HF_TOKEN")?.Trim() is { Length: > 0 } token)
        {
            // Not shown: it is a secret.
            if (token.Any(c => c is <= ' ' or > '~'))
                throw new Inference.BadRequestException("HF_TOKEN: expected letters, digits and signs without spaces");
            settings = settings with { Token = token };
        }

        return settings;
    }
}
