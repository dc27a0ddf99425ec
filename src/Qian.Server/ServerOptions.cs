using System.Net;
using Qian.Inference;

namespace Qian.Server;

/// <summary>How to serve a model over HTTP: where, to whom, and how much.</summary>
public sealed record ServerOptions
{
    /// <summary>IP address to listen on, or <c>localhost</c>. Any but a loopback address needs at least one of <see cref="Keys"/>.</summary>
    public string Host { get; init; } = "127.0.0.1";

    /// <summary>Port; 0 takes a free one.</summary>
    public int Port { get; init; } = 8080;

    /// <summary>The model's name in replies.</summary>
    public string ModelName { get; init; } = "qian";

    /// <summary>API keys, any of which opens the API; empty lets everybody in who reaches a loopback address.</summary>
    public IReadOnlyList<string> Keys { get; init; } = [];

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
        Require(KeepAlive > TimeSpan.Zero, nameof(KeepAlive), "more than 0", KeepAlive);
        Require(DrainLimit >= TimeSpan.Zero, nameof(DrainLimit), "0 or more", DrainLimit);
        Require(Keys.All(key => key.Length >= 8), nameof(Keys), "keys of at least 8 characters", "a shorter one");
        Require(AllowedOrigins.All(IsOrigin), nameof(AllowedOrigins), "origins such as https://app.example", string.Join(", ", AllowedOrigins.Where(origin => !IsOrigin(origin))));
        if (!IsLoopback && Keys.Count == 0)
            throw new BadRequestException($"{nameof(Host)}: {Host} can be reached from other machines, so a key is needed; give one, or listen on 127.0.0.1.");
    }

    private static bool IsOrigin(string text) =>
        Uri.TryCreate(text, UriKind.Absolute, out Uri? uri) && uri.Scheme is "http" or "https" && string.Equals(uri.GetLeftPart(UriPartial.Authority), text, StringComparison.OrdinalIgnoreCase);

    private static void Require(bool holds, string name, string expected, object? found)
    {
        if (!holds)
            throw new BadRequestException($"{name}: expected {expected}, found {found}.");
    }
}
