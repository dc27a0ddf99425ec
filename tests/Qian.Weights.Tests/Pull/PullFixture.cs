using System.Collections.Concurrent;

namespace Qian.Weights.Tests.Pull;

// A hub, an empty cache, and a client that waits for nothing but writes down how long it would have.
internal sealed class PullFixture : IDisposable
{
    public const string Name = HubServer.Repo + ":Q4_K_M";
    public const string File = "Model-Q4_K_M.gguf";

    private readonly TestFolder _folder = new();

    public PullFixture()
    {
        Cache = new HubCache(_folder.File("hub"));
        Settings = new HubSettings
        {
            Endpoint = Server.Address,
            PieceBytes = 100_000,
            StallTime = TimeSpan.FromMinutes(2),
            Wait = (delay, cancellation) =>
            {
                Waits.Enqueue(delay);
                return Task.Delay(1, cancellation);
            },
            FreeBytes = _ => 1L << 40,
        };
    }

    public HubServer Server { get; } = new();

    public HubCache Cache { get; set; }

    public HubSettings Settings { get; set; }

    public ConcurrentQueue<TimeSpan> Waits { get; } = new();

    public string Blob(string path) => Cache.BlobPath(HubServer.Repo, Server.Digest(path));

    public string Snapshot(string path) => Cache.SnapshotPath(HubServer.Repo, HubServer.Commit, path);

    public string Root => _folder.Path;

    public async Task<PullResult> Pull(string name = Name, long memoryBytes = 1L << 40, IProgress<PullProgress>? progress = null, CancellationToken cancellation = default)
    {
        using var client = new HubClient(Settings);
        return await new ModelPull(client, Cache) { MemoryBytes = memoryBytes, Progress = progress }.RunAsync(PullName.Parse(name), cancellation);
    }

    // What every pull that ends well leaves: the content under its own name, and nothing unfinished.
    public void AssertPulled(params string[] paths)
    {
        foreach (string path in paths)
        {
            Assert.Equal(Server.Files[path], System.IO.File.ReadAllBytes(Snapshot(path)));
            Assert.Equal(Server.Files[path], System.IO.File.ReadAllBytes(Blob(path)));
        }

        Assert.Equal(HubServer.Commit, System.IO.File.ReadAllText(Path.Combine(Cache.RepoFolder(HubServer.Repo), "refs", "main")));
        Assert.Equal(paths.Length, Directory.GetFiles(Path.Combine(Cache.RepoFolder(HubServer.Repo), "blobs")).Length);
    }

    // What every pull that ends badly leaves: no blob, no name.
    public void AssertNothingPulled()
    {
        string repo = Cache.RepoFolder(HubServer.Repo);
        Assert.False(Directory.Exists(Path.Combine(repo, "snapshots")));
        Assert.False(Directory.Exists(Path.Combine(repo, "refs")));
        if (Directory.Exists(Path.Combine(repo, "blobs")))
            Assert.All(Directory.GetFiles(Path.Combine(repo, "blobs")), path => Assert.Contains(".qian.", path, StringComparison.Ordinal));
    }

    public void Dispose()
    {
        Server.Dispose();
        _folder.Dispose();
    }
}
