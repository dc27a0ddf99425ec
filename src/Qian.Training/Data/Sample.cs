namespace Qian.Training;

// One text to learn from: [Tokens.Length] input tokens and, beside each, the token that should follow it (or TrainingBatch.Ignored).
// The last token of the text is never an input: nothing follows it. Source says where the text came from, as "file:line" or a path.
internal sealed record Sample(int[] Tokens, int[] Labels, string Source)
{
    // Samples with the same key come down on the same side of the held-out split: all that was made of one file, for example.
    // Null: the tokens decide.
    public string? SplitKey { get; init; }

    public int TargetCount => Labels.Length - Labels.AsSpan().Count(TrainingBatch.Ignored);

    // isTarget[i]: whether the model should learn to produce tokens[i]. Rows after the last target teach nothing and are left out;
    // null when nothing is left.
    public static Sample? FromTokens(ReadOnlySpan<int> tokens, ReadOnlySpan<bool> isTarget, string source, string? splitKey = null)
    {
        if (tokens.Length != isTarget.Length)
            throw new ArgumentException($"{tokens.Length} tokens and {isTarget.Length} marks: expected equal lengths", nameof(isTarget));
        int rowCount = Math.Max(isTarget.LastIndexOf(true), 0);
        if (rowCount == 0)
            return null;
        var labels = new int[rowCount];
        for (int i = 0; i < rowCount; i++)
            labels[i] = isTarget[i + 1] ? tokens[i + 1] : TrainingBatch.Ignored;
        return new Sample(tokens[..rowCount].ToArray(), labels, source) { SplitKey = splitKey };
    }

    // Every token but the first is a target.
    public static Sample? FromTokens(ReadOnlySpan<int> tokens, string source, string? splitKey = null)
    {
        var isTarget = new bool[tokens.Length];
        Array.Fill(isTarget, true);
        return FromTokens(tokens, isTarget, source, splitKey);
    }
}
