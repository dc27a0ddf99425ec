using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Qian.Inference;

namespace Qian.Weights;

// What ModelScope's interface does otherwise than Hugging Face's: one listing of all files with their SHA-256, wrapped in an
// envelope with a code of its own; files by a query; revisions by name only, master when none is given. It names no commit for a
// branch, so the snapshot is called after a digest of the listing: the same files, the same name.
internal static class ModelScopeHub
{
    public const string PublicHub = "https://www.modelscope.cn";
    public const string DefaultRevision = "master";

    public static Uri ListingAddress(string root, string repo, string revision) =>
        new($"{root}/api/v1/models/{HubPath.Escaped(repo)}/repo/files?Revision={Uri.EscapeDataString(revision)}&Recursive=True");

    public static Uri FileAddress(string root, HubListing listing, HubFile file) =>
        new($"{root}/api/v1/models/{HubPath.Escaped(listing.Repo)}/repo?Revision={Uri.EscapeDataString(listing.Revision)}&FilePath={Uri.EscapeDataString(file.Path)}");

    public static HubListing ParseListing(string repo, string revision, byte[] body)
    {
        try
        {
            using JsonDocument document = JsonDocument.Parse(body);
            JsonElement root = document.RootElement;
            if (root.GetProperty("Code").GetInt64() is not 200 and var code)
            {
                string said = root.TryGetProperty("Message", out JsonElement message) && message.ValueKind == JsonValueKind.String ? $" The hub says: {HubPath.Shown(message.GetString()!)}" : "";
                throw new BadRequestException(string.Create(CultureInfo.InvariantCulture, $"{repo} at {HubPath.Shown(revision)}: ModelScope answers with code {code}: no such model or revision, or it is private (MODELSCOPE_API_TOKEN).{said}"));
            }

            JsonElement entries = root.GetProperty("Data").GetProperty("Files");
            if (entries.GetArrayLength() > HubClient.MostFiles)
                throw new IOException($"{repo}: the hub lists {entries.GetArrayLength()} files, more than {HubClient.MostFiles}.");
            var files = new List<HubFile>();
            var seen = new HashSet<string>(StringComparer.Ordinal);
            foreach (JsonElement entry in entries.EnumerateArray())
            {
                if (entry.GetProperty("Type").GetString() == "tree")
                    continue;
                string path = entry.GetProperty("Path").GetString() ?? "";
                HubClient.CheckPath(repo, path, seen);
                string? digest = entry.TryGetProperty("Sha256", out JsonElement sha) && sha.ValueKind == JsonValueKind.String ? sha.GetString()!.ToLowerInvariant() : null;
                long? size = entry.TryGetProperty("Size", out JsonElement number) && number.ValueKind == JsonValueKind.Number ? number.GetInt64() : null;
                HubClient.CheckSize(path, size);
                files.Add(new HubFile(path, size, HubPath.IsHex(digest, HubFile.Sha256Digits) ? digest : null));
            }

            return new HubListing(repo, NameOf(files), files) { Revision = revision };
        }
        catch (Exception error) when (error is JsonException or InvalidOperationException or KeyNotFoundException or FormatException)
        {
            throw new IOException($"{repo}: the hub's listing cannot be read: {HubPath.Shown(error.Message)}", error);
        }
    }

    // As long as a commit's name, since the cache's other users expect one.
    private static string NameOf(List<HubFile> files)
    {
        var text = new StringBuilder();
        foreach (HubFile file in files.OrderBy(file => file.Path, StringComparer.Ordinal))
            text.Append(CultureInfo.InvariantCulture, $"{file.Path}\0{file.SizeBytes}\0{file.Digest}\n");
        return Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(text.ToString())))[..HubFile.GitDigits];
    }
}
