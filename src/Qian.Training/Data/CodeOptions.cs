namespace Qian.Training;

// What is made of source trees.
internal sealed record CodeOptions
{
    // Fill-in-the-middle samples per file, beside the file itself: 0.5 makes one of every second file, 2 two of each.
    public double FillInTheMiddleRate { get; init; } = 1;

    // Fill-in-the-middle samples have at most this many tokens (0: no bound): what surrounds the gap is cut at its far ends.
    public int LongestSampleTokens { get; init; }

    public int LongestFileBytes { get; init; } = 256 << 10;

    public bool RemovesNearDuplicates { get; init; } = true;
}
