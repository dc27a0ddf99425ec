using System.Security.Cryptography;
using Microsoft.AspNetCore.Http;
using Qian.Inference;

namespace Qian.Server.Security;

// Who may come in. Only hashes of the keys are kept, and every one is compared, in constant time, so that neither a memory
// dump nor a stopwatch tells a key. The file of keys is looked at again when it changes, so that a key that was taken away
// opens nothing any more; a file that was damaged meanwhile leaves the keys as they were.
internal sealed class ApiKeys
{
    private const long LookAgainMilliseconds = 1000;

    private readonly ApiKey[] _given;
    private readonly string? _path;
    private readonly TextWriter _log;
    private readonly Lock _lock = new();
    private volatile Entry[] _entries = [];
    private (DateTime ChangedAt, long Bytes) _seen;
    private long _lookedAt = Environment.TickCount64;

    // Keys given in words are named by their number, as no key of a file can be, and open the model only.
    public ApiKeys(IEnumerable<string> secrets, string? path, TextWriter log)
    {
        _given = [.. secrets.Select((secret, i) => new ApiKey($"key:{i + 1}", ApiKey.HashOf(secret), KeyScopes.Infer))];
        _path = path;
        _log = log;
        _seen = Stamp();
        _entries = Entries(path is null ? [] : KeyFile.Read(path));
    }

    // A file that became empty shuts the door, it does not open it.
    public bool AreNeeded => _path is not null || _given.Length > 0;

    // Null when the request has no key that is known: as OpenAI's clients send it (Authorization: Bearer), or as Anthropic's
    // do (x-api-key).
    public (ApiKey Key, Allowance Allowance)? Find(HttpRequest request)
    {
        LookAgain();
        string header = request.Headers.Authorization.ToString();
        const string scheme = "Bearer ";
        Entry? found = header.StartsWith(scheme, StringComparison.OrdinalIgnoreCase) ? Find(header[scheme.Length..].Trim()) : null;
        if (found is null && request.Headers.TryGetValue("x-api-key", out var key))
            found = Find(key.ToString());
        return found is null ? null : (found.Key, found.Allowance);
    }

    private Entry? Find(string given)
    {
        byte[] hash = ApiKey.HashOf(given);
        Entry? found = null;
        foreach (Entry entry in _entries)
        {
            if (CryptographicOperations.FixedTimeEquals(hash, entry.Key.Hash))
                found = entry;
        }

        return found;
    }

    private void LookAgain()
    {
        if (_path is null || Environment.TickCount64 - Volatile.Read(ref _lookedAt) < LookAgainMilliseconds)
            return;
        lock (_lock)
        {
            Volatile.Write(ref _lookedAt, Environment.TickCount64);
            (DateTime, long) stamp = Stamp();
            if (stamp == _seen)
                return;
            _seen = stamp;
            try
            {
                _entries = Entries(KeyFile.Read(_path));
            }
            catch (Exception error) when (error is BadRequestException or IOException or UnauthorizedAccessException)
            {
                _log.WriteLine($"qian: the keys stay as they were: {error.Message}");
            }
        }
    }

    // What a key has used of its limits outlives a change of the file.
    private Entry[] Entries(IEnumerable<ApiKey> read)
    {
        Entry[] before = _entries;
        return [.. _given.Concat(read).Select(key =>
        {
            Entry? known = Array.Find(before, entry => entry.Key.Hash.AsSpan().SequenceEqual(key.Hash) && entry.Allowance.PerMinute == key.PerMinute && entry.Allowance.Concurrent == key.Concurrent);
            return new Entry(key, known?.Allowance ?? new Allowance(key.PerMinute, key.Concurrent));
        })];
    }

    private (DateTime, long) Stamp()
    {
        if (_path is null)
            return default;
        var file = new FileInfo(_path);
        return file.Exists ? (file.LastWriteTimeUtc, file.Length) : default;
    }

    private sealed record Entry(ApiKey Key, Allowance Allowance);
}
