namespace Qian.Cli.Serving;

// What `qian bench --serve` measures.
[Flags]
internal enum ServePart
{
    None = 0,
    Overhead = 1,
    Gaps = 2,
    Batch = 4,
    Resume = 8,
    Soak = 16,
    All = Overhead | Gaps | Batch | Resume | Soak,
}

internal sealed record SoakRequest
{
    public required int ClientCount { get; init; }

    public required TimeSpan Time { get; init; }

    // The key that a given server asks for.
    public string? Key { get; init; }
}

internal sealed record SoakReport
{
    public required int ClientCount { get; init; }

    public required double Seconds { get; init; }

    // Replies that came to their end, and were compared.
    public required int FinishedCount { get; init; }

    // Requests that their client left.
    public required int LeftCount { get; init; }

    public required int DifferingCount { get; init; }

    public required int FaultCount { get; init; }

    // Of the faults, those of a full queue.
    public required int RefusedCount { get; init; }

    public required long PromptTokens { get; init; }

    public required long CachedTokens { get; init; }

    public required long OutputTokens { get; init; }

    // The first faults and differences, in words.
    public required IReadOnlyList<string> Faults { get; init; }

    // Places still taken when every client was gone.
    public required long HeldPlaces { get; init; }

    // Null for another process, or a run too short to say.
    public required MemoryGrowth? Memory { get; init; }

    public required double? ForeignShare { get; init; }

    public bool IsSound => DifferingCount + FaultCount + HeldPlaces == 0;
}

// Milliseconds per token of one stream: through the engine and through HTTP, medians of rounds in turns, and the best of each.
internal sealed record OverheadReport(int TokenCount, int RoundCount, double EngineMilliseconds, double HttpMilliseconds, double EngineBest, double HttpBest, double? ForeignShare)
{
    public double Milliseconds => HttpMilliseconds - EngineMilliseconds;

    public double BestMilliseconds => HttpBest - EngineBest;
}

// Milliseconds between tokens of running streams: alone, and while a long prompt was read beside them; its reading rates then and alone.
internal sealed record GapReport(int StreamCount, int PromptTokens, GapFigures Alone, GapFigures Beside, double ReadingAlone, double ReadingBeside, double? ForeignShare)
{
    public double Ratio => Beside.Median / Alone.Median;
}

internal sealed record GapFigures(int Count, double Median, double Percentile95, double Longest);

// Tokens per second of one stream, before and after, and of many together.
internal sealed record BatchReport(int StreamCount, double SingleBefore, double SingleAfter, double Total, double? ForeignShare)
{
    public double Ratio => Total / ((SingleBefore + SingleAfter) / 2);
}

// A long prefix from disk after a restart: seconds to the first token, and again with the prefix in memory.
internal sealed record ResumeReport(int PrefixTokens, int NewTokens, int PromptTokens, int CachedTokens, long FileBytes, double SaveSeconds, double FromDiskSeconds, double FromMemorySeconds, double? ForeignShare)
{
    public double ResumeSeconds => FromDiskSeconds - FromMemorySeconds;
}

internal sealed record ServeReport
{
    public required string Model { get; init; }

    public int? ThreadCount { get; init; }

    public OverheadReport? Overhead { get; set; }

    public GapReport? Gaps { get; set; }

    public BatchReport? Batch { get; set; }

    public ResumeReport? Resume { get; set; }

    public SoakReport? Soak { get; set; }
}
