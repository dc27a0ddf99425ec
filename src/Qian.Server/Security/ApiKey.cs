using System.Buffers.Text;
using System.Security.Cryptography;
using System.Text;
using Qian.Inference;

namespace Qian.Server.Security;

// One key: its name, the hash of its secret, what it opens and how much of it. The secret of a made key is 256 random bits, so
// a plain SHA-256 keeps it: there is nothing to guess, and no slow hash is needed on each request.
internal sealed record ApiKey(string Name, byte[] Hash, KeyScopes Scopes)
{
    private const int SecretBytes = 32;
    private const int LongestName = 64;

    // Requests begun per minute, and at the same time; null for any number.
    public int? PerMinute { get; init; }

    public int? Concurrent { get; init; }

    public DateTimeOffset Created { get; init; }

    // A new key with the secret that only its holder will know.
    public static (ApiKey Key, string Secret) Create(string name, KeyScopes scopes, int? perMinute, int? concurrent)
    {
        RequireName(name);
        RequireLimit("per-minute", perMinute);
        RequireLimit("concurrent", concurrent);
        string secret = "qk-" + Base64Url.EncodeToString(RandomNumberGenerator.GetBytes(SecretBytes));
        return (new ApiKey(name, HashOf(secret), scopes) { PerMinute = perMinute, Concurrent = concurrent, Created = DateTimeOffset.UtcNow }, secret);
    }

    public static byte[] HashOf(string secret) => SHA256.HashData(Encoding.UTF8.GetBytes(secret));

    // Names stand in logs and files.
    public static void RequireName(string name)
    {
        if (name.Length is 0 or > LongestName || !name.All(c => char.IsAsciiLetterOrDigit(c) || c is '.' or '_' or '-'))
            throw new BadRequestException($"A key's name has 1 to {LongestName} letters, digits, dots, dashes and underscores.");
    }

    public static void RequireLimit(string what, int? limit)
    {
        if (limit is < 1)
            throw new BadRequestException($"{what}: expected 1 or more, found {limit}.");
    }
}
