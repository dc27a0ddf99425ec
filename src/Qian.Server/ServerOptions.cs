using System.Net;
using Qian.Inference;
using Qian.Inference.Runtime;
using Qian.Server.Security;

namespace Qian.Server;

/// <summary>How to serve a model over HTTP: where, to whom, and how much.</summary>
public sealed record ServerOptions
{
    /// <summary>IP address to listen on, or <c>localhost</c>. Any but a loopback address needs <see cref="Keys"/> or a <see cref="KeyFile"/>.</summary>
    public string Host { get; init; } = "127.0.0.1";

    /// <summary>Port; 0 takes a free one.</summary>
    public int Port { get; init; } = 8080;

    /// <summary>The model's name in replies.</summary>
    public string ModelName { get; init; } = "qian";

    /// <summary>API keys that open the model, not what changes the server. Without any, and without <see cref="KeyFile"/>, everybody who reaches a loopback address may ask.</summary>
    public IReadOnlyList<string> Keys { get; init; } = [];

    /// <summary>A file of named keys as <c>qian keys</c> writes it: hashes, scopes, limits. Read again when it changes.</summary>
    public string? KeyFile { get; init; }

    /// <summary>A certificate, PEM (with its chain) or PFX, to speak TLS with; null speaks plain HTTP.</summary>
    public string? CertificatePath { get; init; }

    /// <summary>The certificate's private key as PEM, where it is in a file of its own.</summary>
    public string? CertificateKeyPath { get; init; }

    /// <summary>The password of an encrypted key or PFX file.</summary>
    public string? CertificatePassword { get; init; }

    /// <summary>Origins of web pages that may call the API (<c>https://app.example</c>); all others are refused.</summary>
    public IReadOnlyList<string> AllowedOrigins { get; init; } = [];

    /// <summary>Replies that are generated side by side, 1 to 256; each takes a recurrent state of its own.</summary>
    public int ParallelCount { get; init; } = 4;

    /// <summary>Requests that may wait for a place before further ones are turned away with status 429.</summary>
    public int QueueLimit { get; init; } = 64;

    /// <summary>Most bytes of a request's body.</summary>
    public long MaxBodyBytes { get; init; } = 32L << 20;

    /// <summary>Most messages of one request.</summary>
    public int MaxMessageCount { get; init; } = 10_000;

    /// <summary>Most tools of one request.</summary>
    public int MaxToolCount { get; init; } = 1024;

    /// <summary>Most tokens that one reply may have, whatever a request asks for; null leaves it to the context.</summary>
    public int? MaxOutputTokens { get; init; }

    /// <summary>
    /// Whether holders of different keys share what is known of prompts. Off, a key cannot learn from a quick answer or from the tokens
    /// counted as cached what another has sent; on, a beginning that all of them have in common is read once for all.
    /// </summary>
    public bool SharePrefixes { get; init; }

    /// <summary>Whether replies that go round in circles are ended, where a request does not say (<c>loop_guard</c>).</summary>
    public bool LoopGuard { get; init; } = true;

    /// <summary>Tokens guessed ahead per pass, 0 for none, where a request does not say (<c>drafts</c>); null to choose live.</summary>
    public int? DraftTokens { get; init; }

    /// <summary>Responses of <c>/v1/responses</c> that are kept in memory to be continued; the oldest make room.</summary>
    public int StoredResponseCount { get; init; } = 1000;

    /// <summary>How the log tells of each request.</summary>
    public RequestLogFormat RequestLog { get; init; }

    /// <summary>A file that gets a JSON line per request: who, what, when, how much, how long; null for none.</summary>
    public string? AuditPath { get; init; }

    /// <summary>Whether the audit file gets the words of the conversations too.</summary>
    public bool AuditContents { get; init; }

    /// <summary>Silence after which a stream gets a sign of life.</summary>
    public TimeSpan KeepAlive { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>How long a stopping server lets its replies come to their end.</summary>
    public TimeSpan DrainLimit { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>
    /// Told in a line each of prompts that had to be read although they might have been known: where they differ, and the name of
    /// the line that changes by itself, if that is why. No other text of messages. Null for nobody; must be safe for many threads.
    /// </summary>
    public TextWriter? PrefixLog { get; init; }

    // The addresses to bind. Names other than localhost are not resolved: what they stand for may be public.
    internal IPAddress[] Addresses()
    {
        if (string.Equals(Host, "localhost", StringComparison.OrdinalIgnoreCase))
            return Port == 0 ? [IPAddress.Loopback] : [IPAddress.Loopback, IPAddress.IPv6Loopback];
        if (!IPAddress.TryParse(Host.Trim('[', ']'), out IPAddress? address))
            throw new BadRequestException($"{nameof(Host)}: expected an IP address or localhost, found '{Host}'.");
        return [address];
    }

    internal bool IsLoopback => Addresses().All(IPAddress.IsLoopback);

    internal void Validate()
    {
        Require(Port is >= 0 and <= 65535, nameof(Port), "0 to 65535", Port);
        Require(ParallelCount is >= 1 and <= 256, nameof(ParallelCount), "1 to 256", ParallelCount);
        Require(QueueLimit >= 0, nameof(QueueLimit), "0 or more", QueueLimit);
        Require(MaxBodyBytes is >= 1024 and <= 1L << 30, nameof(MaxBodyBytes), "1024 to 1073741824", MaxBodyBytes);
        Require(MaxOutputTokens is null or > 0, nameof(MaxOutputTokens), "1 or more", MaxOutputTokens);
        Require(DraftTokens is null or (>= 0 and <= DraftSlot.MaxDepth), nameof(DraftTokens), $"0 to {DraftSlot.MaxDepth}", DraftTokens);
        Require(StoredResponseCount >= 0, nameof(StoredResponseCount), "0 or more", StoredResponseCount);
        Require(!AuditContents || AuditPath is not null, nameof(AuditContents), "an audit file beside it", "none");
        Require(KeepAlive > TimeSpan.Zero, nameof(KeepAlive), "more than 0", KeepAlive);
        Require(DrainLimit >= TimeSpan.Zero, nameof(DrainLimit), "0 or more", DrainLimit);
        Require(Keys.All(key => key.Length >= 8), nameof(Keys), "keys of at least 8 characters", "a shorter one");
        Require(AllowedOrigins.All(IsOrigin), nameof(AllowedOrigins), "origins such as https://app.example", string.Join(", ", AllowedOrigins.Where(origin => !IsOrigin(origin))));
        Require(CertificatePath is not null || CertificateKeyPath is null, nameof(CertificateKeyPath), "a certificate beside the key", "none");
        LoadCertificate()?.Dispose();
        IReadOnlyList<ApiKey> named = KeyFile is null ? [] : Security.KeyFile.Read(KeyFile);
        if (!IsLoopback && Keys.Count + named.Count == 0)
            throw new BadRequestException($"{nameof(Host)}: {Host} can be reached from other machines, so a key is needed; give one, or listen on 127.0.0.1.");
    }

    internal ServerCertificate? LoadCertificate() => CertificatePath is null ? null : ServerCertificate.Load(CertificatePath, CertificateKeyPath, CertificatePassword);

    private static bool IsOrigin(string text) =>
        Uri.TryCreate(text, UriKind.Absolute, out Uri? uri) && uri.Scheme is "http" or "https" && string.Equals(uri.GetLeftPart(UriPartial.Authority), text, StringComparison.OrdinalIgnoreCase);

    private static void Require(bool holds, string name, string expected, object? found)
    {
        if (!holds)
            throw new BadRequestException($"{name}: expected {expected}, found {found}.");
    }
}
