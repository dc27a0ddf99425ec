namespace Qian.Weights;

// The interfaces that a hub may have.
internal enum HubKind
{
    HuggingFace,
    ModelScope,
}

// Where models come from and how patiently. What depends on a clock or a disk is a delegate, so that tests see what was asked
// for without waiting for it.
internal sealed record HubSettings
{
    public const string PublicHub = "https://huggingface.co";

    public HubKind Kind { get; init; }

    public Uri Endpoint { get; init; } = new(PublicHub);

    // Goes to the endpoint's own host only, never along a redirect to another one.
    public string? Token { get; init; }

    // The variables that the user may set, as messages name them.
    public string EndpointVariable => Kind == HubKind.ModelScope ? "MODELSCOPE_DOMAIN" : "HF_ENDPOINT";

    public string TokenVariable => Kind == HubKind.ModelScope ? "MODELSCOPE_API_TOKEN" : "HF_TOKEN";

    public string DefaultRevision => Kind == HubKind.ModelScope ? ModelScopeHub.DefaultRevision : HubCache.DefaultRevision;

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

    // Told when an attempt failed and another will follow.
    public Action<string>? Note { get; init; }

    public Func<TimeSpan, CancellationToken, Task> Wait { get; init; } = Task.Delay;

    public Func<string, long> FreeBytes { get; init; } = folder => new DriveInfo(folder).AvailableFreeSpace;

    // The endpoint's and the token's variables; proxies are HttpClient's own (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY).
    public static HubSettings FromEnvironment(HubKind kind = HubKind.HuggingFace)
    {
        var settings = new HubSettings { Kind = kind, Endpoint = new Uri(kind == HubKind.ModelScope ? ModelScopeHub.PublicHub : PublicHub) };
        if (Environment.GetEnvironmentVariable(settings.EndpointVariable) is { Length: > 0 } endpoint)
        {
            // ModelScope's variable is a host's name alone.
            string address = kind == HubKind.ModelScope && !endpoint.Contains("://", StringComparison.Ordinal) ? "https://" + endpoint : endpoint;
            if (!Uri.TryCreate(address.TrimEnd('/'), UriKind.Absolute, out Uri? uri) || uri.Scheme is not ("http" or "https"))
                throw new Inference.BadRequestException($"{settings.EndpointVariable}={HubPath.Shown(endpoint)}: expected an address that begins with https:// or http://");
            settings = settings with { Endpoint = uri };
        }

        if (Environment.GetEnvironmentVariable(settings.TokenVariable)?.Trim() is { Length: > 0 } token)
        {
            // Not shown: it is a secret.
            if (token.Any(c => c is <= ' ' or > '~'))
                throw new Inference.BadRequestException($"{settings.TokenVariable}: expected letters, digits and signs without spaces");
            settings = settings with { Token = token };
        }

        return settings;
    }
}
