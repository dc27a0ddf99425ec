using System.Globalization;
using Qian.Inference;

namespace Qian.Weights;

// qian pull, in order: list the revision, choose the files, look what the cache has, check the disk, fetch file by file, link,
// and last of all let the branch's name point to the commit. The listing's commit is asked for from then on, so that an upload
// in the meantime cannot mix two revisions.
internal sealed class ModelPull(HubClient client, HubCache cache)
{
    // What is left of the disk after a pull, for everybody else.
    private const long SpareBytes = 64 << 20;

    public Action<string>? Note { get; init; }

    public IProgress<PullProgress>? Progress { get; init; }

    public int ContextLength { get; init; } = 8192;

    // What a model may take: all of the machine's (or the container's) memory but an eighth, and at least 1 GiB, for the rest.
    public long MemoryBytes { get; init; } = GC.GetGCMemoryInfo().TotalAvailableMemoryBytes is var all ? all - Math.Max(all / 8, 1L << 30) : 0;

    public async Task<PullResult> RunAsync(PullName name, CancellationToken cancellation)
    {
        string revision = name.Revision ?? client.Settings.DefaultRevision;
        HubListing listing = await client.ListAsync(name.Repo, revision, cancellation);
        if (name.Type is null)
            listing = await WithSizesAsync(listing, cancellation);
        FileChoice choice = FileChoice.Of(listing, name.Type, ContextLength, MemoryBytes);
        if (choice.Reason is { } reason)
            Note?.Invoke(reason);
        var files = new List<HubFile>();
        foreach (HubFile file in choice.Files)
            files.Add(file.IsComplete ? file : await client.CompleteAsync(listing, file, cancellation));

        List<HubFile> missing = [.. files.Where(file => !cache.HasFile(name.Repo, listing.Commit, file)).DistinctBy(file => file.Digest).OrderBy(file => file.SizeBytes)];
        long total = missing.Sum(file => file.SizeBytes!.Value);
        CheckSpace(name.Repo, missing);
        long done = 0;
        foreach (HubFile file in missing)
        {
            long verified = 0;
            var download = new FileDownload(
                client,
                listing,
                file,
                cache.BlobPath(name.Repo, file.Digest!),
                delta => Progress?.Report(new PullProgress(file.Path, false, Interlocked.Add(ref done, delta), total)),
                count => Progress?.Report(new PullProgress(file.Path, true, verified += count, file.SizeBytes!.Value)));
            await download.RunAsync(cancellation);
            Note?.Invoke($"{file.Path}: {MemoryPlan.Format(file.SizeBytes!.Value)}, digest verified");
        }

        foreach (HubFile file in files)
            cache.Link(name.Repo, listing.Commit, file);
        cache.WriteRef(name.Repo, revision, listing.Commit);
        string path = FileChoice.IsSafetensorsFile(files[^1].Path) || files.Any(file => file.Path == "config.json")
            ? cache.SnapshotFolder(name.Repo, listing.Commit)
            : cache.SnapshotPath(name.Repo, listing.Commit, files[0].Path);
        return new PullResult(name, listing.Commit, path, files, total, files.Sum(file => file.SizeBytes!.Value) - total, choice.Reason);
    }

    // A choice by size needs the sizes of all; hubs list them, mirrors may not.
    private async Task<HubListing> WithSizesAsync(HubListing listing, CancellationToken cancellation)
    {
        var files = new List<HubFile>();
        foreach (HubFile file in listing.Files)
            files.Add(file.SizeBytes is null && file.Path.EndsWith(".gguf", StringComparison.OrdinalIgnoreCase) ? await client.CompleteAsync(listing, file, cancellation) : file);
        return listing with { Files = files };
    }

    private void CheckSpace(string repo, List<HubFile> missing)
    {
        long needed = 0;
        foreach (HubFile file in missing)
        {
            string blob = cache.BlobPath(repo, file.Digest!);
            long there = File.Exists(FileDownload.PartPath(blob)) ? PieceMap.DoneBytesAt(FileDownload.MapPath(blob), file.Digest!, file.SizeBytes!.Value, client.Settings.PieceBytes) : 0;
            needed += file.SizeBytes!.Value - there;
        }

        if (needed == 0)
            return;
        Directory.CreateDirectory(cache.RepoFolder(repo));
        long free = client.Settings.FreeBytes(cache.RepoFolder(repo));
        if (needed + SpareBytes > free)
            throw new IOException(string.Create(CultureInfo.InvariantCulture, $"{MemoryPlan.Format(needed)} are to be fetched, {MemoryPlan.Format(free)} are free at {cache.Root}. Make room (qian models rm NAME), or set HF_HOME to a folder on a larger disk."));
    }
}
