using System.Globalization;
using System.Text.Json;
using Qian.Inference;

namespace Qian.Server.Security;

// The file of keys that `qian keys` writes and the server reads: names, hashes, scopes, limits; no secret. Written whole beside
// the old one and moved over it, readable by its owner only.
internal static class KeyFile
{
    private const int Version = 1;
    private const long MostBytes = 1 << 20;
    private const int MostKeys = 10_000;

    public static IReadOnlyList<ApiKey> Read(string path)
    {
        if (!File.Exists(path))
            throw new BadRequestException($"{path}: no such file; make a key with: qian keys add NAME --keys {path}");
        if (new FileInfo(path).Length > MostBytes)
            throw Wrong(path, $"a file of keys has at most {MostBytes} bytes");
        try
        {
            using JsonDocument document = JsonDocument.Parse(File.ReadAllBytes(path), new JsonDocumentOptions { MaxDepth = 8 });
            JsonElement root = document.RootElement;
            if (root.GetProperty("version").GetInt32() != Version)
                throw Wrong(path, $"expected version {Version}");
            var keys = new List<ApiKey>();
            foreach (JsonElement entry in root.GetProperty("keys").EnumerateArray())
            {
                keys.Add(ReadKey(entry));
                if (keys.Count > MostKeys)
                    throw Wrong(path, $"at most {MostKeys} keys");
            }

            if (keys.Select(key => key.Name).Distinct(StringComparer.Ordinal).Count() < keys.Count)
                throw Wrong(path, "two keys have the same name");
            return keys;
        }
        catch (Exception error) when (error is JsonException or KeyNotFoundException or InvalidOperationException or FormatException or OverflowException)
        {
            throw Wrong(path, "it was not written by 'qian keys', or was damaged since");
        }
    }

    public static void Write(string path, IEnumerable<ApiKey> keys)
    {
        string part = path + ".part";
        File.Delete(part);
        var options = new FileStreamOptions { Mode = FileMode.CreateNew, Access = FileAccess.Write };
        if (!OperatingSystem.IsWindows())
            options.UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite;
        using (var stream = new FileStream(part, options))
        using (var json = new Utf8JsonWriter(stream, new JsonWriterOptions { Indented = true }))
        {
            json.WriteStartObject();
            json.WriteNumber("version", Version);
            json.WriteStartArray("keys");
            foreach (ApiKey key in keys)
                WriteKey(json, key);
            json.WriteEndArray();
            json.WriteEndObject();
        }

        File.Move(part, path, overwrite: true);
    }

    public static IEnumerable<string> NamesOf(KeyScopes scopes) =>
        ((KeyScopes[])[KeyScopes.Infer, KeyScopes.Admin]).Where(scope => scopes.HasFlag(scope)).Select(scope => scope == KeyScopes.Infer ? "infer" : "admin");

    public static KeyScopes ScopeOf(string name) => name switch
    {
        "infer" => KeyScopes.Infer,
        "admin" => KeyScopes.Admin,
        _ => throw new FormatException($"expected infer or admin, found '{name}'"),
    };

    private static ApiKey ReadKey(JsonElement entry)
    {
        string name = entry.GetProperty("name").GetString() ?? throw new FormatException();
        byte[] hash = Convert.FromHexString(entry.GetProperty("sha256").GetString() ?? throw new FormatException());
        if (hash.Length != 32 || name.Length == 0)
            throw new FormatException();
        KeyScopes scopes = entry.GetProperty("scopes").EnumerateArray().Aggregate(KeyScopes.None, (all, scope) => all | ScopeOf(scope.GetString() ?? ""));
        return new ApiKey(name, hash, scopes)
        {
            PerMinute = Limit(entry, "per_minute"),
            Concurrent = Limit(entry, "concurrent"),
            Created = entry.TryGetProperty("created", out JsonElement created) ? created.GetDateTimeOffset() : default,
        };
    }

    private static int? Limit(JsonElement entry, string name)
    {
        if (!entry.TryGetProperty(name, out JsonElement value))
            return null;
        return value.GetInt32() is >= 1 and var limit ? limit : throw new FormatException();
    }

    private static void WriteKey(Utf8JsonWriter json, ApiKey key)
    {
        json.WriteStartObject();
        json.WriteString("name", key.Name);
        json.WriteString("sha256", Convert.ToHexStringLower(key.Hash));
        json.WriteStartArray("scopes");
        foreach (string scope in NamesOf(key.Scopes))
            json.WriteStringValue(scope);
        json.WriteEndArray();
        if (key.PerMinute is { } perMinute)
            json.WriteNumber("per_minute", perMinute);
        if (key.Concurrent is { } concurrent)
            json.WriteNumber("concurrent", concurrent);
        json.WriteString("created", key.Created.ToString("yyyy-MM-dd'T'HH:mm:ss'Z'", CultureInfo.InvariantCulture));
        json.WriteEndObject();
    }

    private static BadRequestException Wrong(string path, string what) => new($"{path}: this is no file of keys that can be used: {what}.");
}
