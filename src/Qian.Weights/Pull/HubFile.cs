namespace Qian.Weights;

// A file of a repository on the hub. The digest is its name in the cache and the check of its content: SHA-256 (64 digits) for
// what the hub keeps in large-file storage, else the SHA-1 that git gives the blob (40 digits). Either may be missing from a
// listing and is then asked for file by file.
internal sealed record HubFile(string Path, long? SizeBytes, string? Digest)
{
    public const int Sha256Digits = 64, GitDigits = 40;

    public bool IsComplete => SizeBytes is not null && Digest is not null;
}

// What a revision of a repository holds.
internal sealed record HubListing(string Repo, string Commit, IReadOnlyList<HubFile> Files)
{
    // As it was asked for; hubs that know no commits are asked for files by it.
    public string Revision { get; init; } = Commit;
}
