using Qian.Inference;

namespace Qian.Weights;

// The folder that holds pulled models, laid out as Hugging Face's own library does it, so that every tool sees every file:
//   models--ORG--NAME/blobs/DIGEST                 contents
//                    /snapshots/COMMIT/PATH        links to them
//                    /refs/REVISION                the commit that a branch or tag stood for
// Where links cannot be made the snapshot holds the file itself. Other tools write here too: nothing found here is trusted to
// be complete, and nothing outside a model's folder is ever deleted.
internal sealed class HubCache(string root, bool canLink = true)
{
    private const string Prefix = "models--";
    public const string DefaultRevision = "main";

    public string Root { get; } = root;

    // HF_HUB_CACHE, else HF_HOME/hub, else ~/.cache/huggingface/hub.
    public static HubCache FromEnvironment()
    {
        if (Environment.GetEnvironmentVariable("HF_HUB_CACHE") is { Length: > 0 } cache)
            return new HubCache(Path.GetFullPath(cache));
        if (Environment.GetEnvironmentVariable("HF_HOME") is { Length: > 0 } home)
            return new HubCache(Path.GetFullPath(Path.Combine(home, "hub")));
        string caches = Environment.GetEnvironmentVariable("XDG_CACHE_HOME") is { Length: > 0 } xdg
            ? xdg
            : Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".cache");
        return new HubCache(Path.GetFullPath(Path.Combine(caches, "huggingface", "hub")));
    }

    public string RepoFolder(string repo) => Path.Combine(Root, Prefix + repo.Replace("/", "--", StringComparison.Ordinal));

    public string BlobPath(string repo, string digest) => Path.Combine(RepoFolder(repo), "blobs", digest);

    public string SnapshotFolder(string repo, string commit) => Path.Combine(RepoFolder(repo), "snapshots", commit);

    public string SnapshotPath(string repo, string commit, string path) => Path.Combine([SnapshotFolder(repo, commit), .. path.Split('/')]);

    // A blob's name is its digest and it appears by a rename, here and in other tools; its length is checked all the same.
    public bool HasFile(string repo, string commit, HubFile file) =>
        LengthOf(BlobPath(repo, file.Digest!)) == file.SizeBytes || LengthOf(SnapshotPath(repo, commit, file.Path)) == file.SizeBytes;

    // Makes the blob visible under its own name.
    public void Link(string repo, string commit, HubFile file)
    {
        string blob = BlobPath(repo, file.Digest!), link = SnapshotPath(repo, commit, file.Path);
        if (LengthOf(blob) != file.SizeBytes)
            return;
        Directory.CreateDirectory(Path.GetDirectoryName(link)!);
        if (LengthOf(link) == file.SizeBytes && (new FileInfo(link).LinkTarget is not { } old || Path.GetFileName(old) == file.Digest))
            return;
        File.Delete(link);
        if (canLink)
        {
            try
            {
                File.CreateSymbolicLink(link, Path.GetRelativePath(Path.GetDirectoryName(link)!, blob));
                return;
            }
            catch (Exception error) when (error is IOException or UnauthorizedAccessException or PlatformNotSupportedException)
            {
                // Windows without developer mode, some network disks: the file itself, as the library does there.
            }
        }

        File.Move(blob, link);
    }

    // Written last: a branch stands for a commit only when what was asked for of it is there.
    public void WriteRef(string repo, string revision, string commit)
    {
        if (revision == commit)
            return;
        string path = Path.Combine([RepoFolder(repo), "refs", .. revision.Split('/')]);
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        string fresh = path + ".qian.incomplete";
        File.WriteAllText(fresh, commit);
        File.Move(fresh, path, overwrite: true);
    }

    // The file or folder to load for a name, or an error that says how to get it.
    public string Find(PullName name)
    {
        (string repo, string commit) = Locate(name);
        string folder = SnapshotFolder(repo, commit);
        string[] paths = [.. Files(folder).Select(file => file.Path)];
        if (name.Type is null && File.Exists(Path.Combine(folder, "config.json")) && paths.Any(FileChoice.IsSafetensorsFile))
            return folder;
        List<GgufSet> sets = GgufSet.Of(paths);
        List<GgufSet> matching = name.Type is { } type ? GgufSet.Matching(sets, type) : sets;
        if (matching.Count == 0)
            throw new BadRequestException($"{name} is not in the cache ({Root}). There is of it: {(sets.Count == 0 ? "no GGUF file" : string.Join(", ", paths.Where(path => path.EndsWith(".gguf", StringComparison.OrdinalIgnoreCase))))}. Fetch it with: qian pull {name}");
        if (matching.Count > 1)
            throw new BadRequestException($"{name} means several files; say which: {string.Join(", ", matching.Select(set => $"{repo}:{GgufSet.Label(set, sets)}"))}");
        if (!matching[0].IsWhole)
            throw new BadRequestException($"{name}: {matching[0].Paths.Count} of {matching[0].PartCount} parts are there. Fetch the others with: qian pull {name}");
        return SnapshotPath(repo, commit, matching[0].Paths[0]);
    }

    // Every model here, by name.
    public IEnumerable<string> Repos()
    {
        if (!Directory.Exists(Root))
            yield break;
        foreach (string folder in Directory.EnumerateDirectories(Root, Prefix + "*").Order(StringComparer.Ordinal))
        {
            string repo = Path.GetFileName(folder)[Prefix.Length..].Replace("--", "/", StringComparison.Ordinal);
            if (PullName.TryParse(repo, out _))
                yield return repo;
        }
    }

    public IEnumerable<string> Commits(string repo)
    {
        string snapshots = Path.Combine(RepoFolder(repo), "snapshots");
        return Directory.Exists(snapshots)
            ? Directory.EnumerateDirectories(snapshots).Select(folder => Path.GetFileName(folder)!).Where(commit => HubPath.IsHex(commit, HubFile.GitDigits)).Order(StringComparer.Ordinal)
            : [];
    }

    // Branches and tags by name, with the commit that each stood for when it was fetched.
    public Dictionary<string, string> Refs(string repo)
    {
        var refs = new Dictionary<string, string>(StringComparer.Ordinal);
        string folder = Path.Combine(RepoFolder(repo), "refs");
        if (!Directory.Exists(folder))
            return refs;
        foreach (string path in Directory.EnumerateFiles(folder, "*", s_deep))
        {
            if (new FileInfo(path).Length is > 0 and < 100 && File.ReadAllText(path).Trim() is var commit && HubPath.IsHex(commit, HubFile.GitDigits))
                refs[Path.GetRelativePath(folder, path).Replace('\\', '/')] = commit;
        }

        return refs;
    }

    // The files of a snapshot whose contents are there.
    public static List<(string Path, long Bytes)> Files(string snapshotFolder)
    {
        var files = new List<(string, long)>();
        if (!Directory.Exists(snapshotFolder))
            return files;
        foreach (string path in Directory.EnumerateFiles(snapshotFolder, "*", s_deep).Order(StringComparer.Ordinal))
        {
            if (LengthOf(path) is { } bytes && Path.GetRelativePath(snapshotFolder, path).Replace('\\', '/') is var relative && HubPath.Fault(relative) is null)
                files.Add((relative, bytes));
        }

        return files;
    }

    // Of the file itself or of what a link points to; null where there is none.
    public static long? LengthOf(string path)
    {
        var info = new FileInfo(path);
        if (info.LinkTarget is not null)
            info = info.ResolveLinkTarget(returnFinalTarget: true) as FileInfo;
        return info is { Exists: true } ? info.Length : null;
    }

    private static readonly EnumerationOptions s_deep = new() { RecurseSubdirectories = true, MaxRecursionDepth = 16, AttributesToSkip = 0 };

    // The folder's spelling of the repository (hubs take any case) and the commit that the name's revision stands for.
    private (string Repo, string Commit) Locate(PullName name)
    {
        string? repo = Repos().FirstOrDefault(repo => repo == name.Repo) ?? Repos().FirstOrDefault(repo => repo.Equals(name.Repo, StringComparison.OrdinalIgnoreCase));
        if (repo is null)
            throw new BadRequestException($"{name}: no such file or folder, and no model of that name in the cache ({Root}). Fetch it with: qian pull {name}");
        string[] commits = [.. Commits(repo)];
        Dictionary<string, string> refs = Refs(repo);
        string revision = name.Revision ?? (!refs.ContainsKey(DefaultRevision) && refs.ContainsKey(ModelScopeHub.DefaultRevision) ? ModelScopeHub.DefaultRevision : DefaultRevision);
        if (refs.TryGetValue(revision, out string? commit) && commits.Contains(commit))
            return (repo, commit);
        if (commits.Contains(revision))
            return (repo, revision);
        if (name.Revision is null && commits.Length == 1)
            return (repo, commits[0]);
        throw new BadRequestException(commits.Length == 0
            ? $"{name} was begun and not finished. Continue with: qian pull {name}"
            : $"{name}: the revision {revision} is not in the cache; there are {string.Join(", ", refs.Keys.Concat(commits))}. Name one as {repo}@REVISION, or fetch it with: qian pull {name}");
    }
}
