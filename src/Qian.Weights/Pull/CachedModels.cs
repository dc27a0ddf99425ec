using Qian.Inference;

namespace Qian.Weights;

// A line of `qian models`: what can be given to -m, and what it takes.
internal sealed record CachedModel(string Name, string Commit, IReadOnlyList<string> Revisions, IReadOnlyList<string> Files, long Bytes, bool IsWhole);

// What `qian models rm` would delete: whole folders, or single paths of one. Bytes are those that become free.
internal sealed record Removal(IReadOnlyList<string> Folders, IReadOnlyList<string> Paths, long Bytes);

// Lists and deletes what the cache holds, whoever fetched it. Contents are shared between revisions: a blob goes when the last
// link to it goes.
internal static class CachedModels
{
    public static List<CachedModel> List(HubCache cache)
    {
        var models = new List<CachedModel>();
        foreach (string repo in cache.Repos())
        {
            Dictionary<string, string> refs = cache.Refs(repo);
            foreach (string commit in cache.Commits(repo))
            {
                string[] revisions = [.. refs.Where(entry => entry.Value == commit).Select(entry => entry.Key).Order(StringComparer.Ordinal)];
                string at = revisions.Contains(HubCache.DefaultRevision) ? "" : "@" + (revisions.FirstOrDefault() ?? commit);
                List<(string Path, long Bytes)> files = HubCache.Files(cache.SnapshotFolder(repo, commit));
                List<GgufSet> sets = GgufSet.Of(files.Select(file => file.Path));
                foreach (GgufSet set in sets)
                    models.Add(new CachedModel($"{repo}{at}:{GgufSet.Label(set, sets)}", commit, revisions, set.Paths, files.Where(file => set.Paths.Contains(file.Path)).Sum(file => file.Bytes), set.IsWhole));
                (string Path, long Bytes)[] others = [.. files.Where(file => !sets.Any(set => set.Paths.Contains(file.Path)))];
                if (others.Any(file => FileChoice.IsSafetensorsFile(file.Path)) || (others.Length > 0 && sets.Count == 0))
                    models.Add(new CachedModel(repo + at, commit, revisions, [.. others.Select(file => file.Path)], others.Sum(file => file.Bytes), true));
            }
        }

        return models;
    }

    public static Removal Plan(HubCache cache, PullName name)
    {
        string repo = cache.Repos().FirstOrDefault(repo => repo.Equals(name.Repo, StringComparison.OrdinalIgnoreCase))
            ?? throw new BadRequestException($"{name} is not in the cache ({cache.Root}); 'qian models' lists what is.");
        string folder = cache.RepoFolder(repo);
        if (name is { Type: null, Revision: null })
            return new Removal([folder], [], BytesBelow(folder));

        Dictionary<string, string> refs = cache.Refs(repo);
        string[] commits = name.Revision is { } revision
            ? [.. cache.Commits(repo).Where(commit => commit == revision || (refs.TryGetValue(revision, out string? stood) && stood == commit))]
            : [.. cache.Commits(repo)];
        var links = new List<string>();
        foreach (string commit in commits)
        {
            string[] paths = [.. HubCache.Files(cache.SnapshotFolder(repo, commit)).Select(file => file.Path)];
            IEnumerable<string> chosen = name.Type is { } type ? GgufSet.Matching(GgufSet.Of(paths), type).SelectMany(set => set.Paths) : paths;
            links.AddRange(chosen.Select(path => cache.SnapshotPath(repo, commit, path)));
        }

        if (links.Count == 0)
            throw new BadRequestException($"{name} is not in the cache ({cache.Root}); 'qian models' lists what is.");
        string[] blobs = [.. OrphansOf(cache, repo, links)];
        return new Removal([], [.. links, .. blobs], blobs.Sum(path => HubCache.LengthOf(path) ?? 0) + links.Where(path => new FileInfo(path).LinkTarget is null).Sum(path => HubCache.LengthOf(path) ?? 0));
    }

    public static void Delete(Removal removal)
    {
        foreach (string folder in removal.Folders)
            Directory.Delete(folder, recursive: true);
        foreach (string path in removal.Paths)
            File.Delete(path);
    }

    // Blobs that only these links point to. A link out of the model's own blobs is somebody else's file and stays.
    private static IEnumerable<string> OrphansOf(HubCache cache, string repo, List<string> links)
    {
        string blobs = Path.Combine(cache.RepoFolder(repo), "blobs");
        var going = links.ToHashSet(StringComparer.Ordinal);
        var kept = new HashSet<string>(StringComparer.Ordinal);
        foreach (string commit in cache.Commits(repo))
        {
            foreach ((string path, _) in HubCache.Files(cache.SnapshotFolder(repo, commit)))
            {
                string link = cache.SnapshotPath(repo, commit, path);
                if (!going.Contains(link) && Target(link) is { } blob)
                    kept.Add(blob);
            }
        }

        return links.Select(Target).OfType<string>().Distinct().Where(blob => !kept.Contains(blob) && Path.GetDirectoryName(blob) == blobs);
    }

    private static string? Target(string link) => new FileInfo(link).LinkTarget is { } target
        ? Path.GetFullPath(Path.Combine(Path.GetDirectoryName(link)!, target))
        : null;

    private static long BytesBelow(string folder)
    {
        var options = new EnumerationOptions { RecurseSubdirectories = true, MaxRecursionDepth = 16, AttributesToSkip = FileAttributes.ReparsePoint };
        return Directory.EnumerateFiles(folder, "*", options).Sum(path => new FileInfo(path).Length);
    }
}
