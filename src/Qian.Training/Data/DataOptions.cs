namespace Qian.Training;

// Where the data is and what is made of it.
internal sealed record DataOptions
{
    // Files (.jsonl, .txt, .md) or folders of such.
    public IReadOnlyList<string> Paths { get; init; } = [];

    // The same, for measuring only.
    public IReadOnlyList<string> HeldOutPaths { get; init; } = [];

    // Roots of source trees.
    public IReadOnlyList<string> CodeFolders { get; init; } = [];

    public CodeOptions Code { get; init; } = new();

    public LossTokens Loss { get; init; } = LossTokens.Assistant;

    // Share of the samples of Paths (of the files, for source trees) that is held out to measure, beside HeldOutPaths.
    public double HeldOutFraction { get; init; }

    public ulong Seed { get; init; }

    // Bad lines and files that are passed over (and counted) before the load fails. 0: the first one fails it.
    public int SkippedItemLimit { get; init; }

    public int LongestLineBytes { get; init; } = 16 << 20;

    public int LongestFileBytes { get; init; } = 64 << 20;

    public int MostFiles { get; init; } = 100_000;
}
