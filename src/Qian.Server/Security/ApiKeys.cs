using System.Security.Cryptography;
using System.Text;
using Microsoft.AspNetCore.Http;

namespace Qian.Server.Security;

// Who may come in. Only hashes of the keys are kept, and every one is compared, in constant time, so that neither a memory
// dump nor a stopwatch tells a key.
internal sealed class ApiKeys
{
    private readonly byte[][] _hashes;

    public ApiKeys(IEnumerable<string> keys) => _hashes = [.. keys.Select(Hash)];

    public bool AreNeeded => _hashes.Length > 0;

    // As OpenAI's clients send it (Authorization: Bearer) or as Anthropic's do (x-api-key).
    public bool Admit(HttpRequest request)
    {
        if (!AreNeeded)
            return true;
        string header = request.Headers.Authorization.ToString();
        const string scheme = "Bearer ";
        return header.StartsWith(scheme, StringComparison.OrdinalIgnoreCase) && Holds(header[scheme.Length..].Trim())
            || request.Headers.TryGetValue("x-api-key", out var key) && Holds(key.ToString());
    }

    private bool Holds(string given)
    {
        byte[] hash = Hash(given);
        bool found = false;
        foreach (byte[] known in _hashes)
            found |= CryptographicOperations.FixedTimeEquals(hash, known);
        return found;
    }

    private static byte[] Hash(string key) => SHA256.HashData(Encoding.UTF8.GetBytes(key));
}
