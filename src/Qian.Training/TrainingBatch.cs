namespace Qian.Training;

// Rows of one pass of training: several samples laid end to end. Recurrent state, convolution window and attention begin
// anew at every border, and rotary positions count from 0 there. Buffers are reused from batch to batch.
internal sealed class TrainingBatch
{
    // A row with this label takes no part in the loss.
    public const int Ignored = -100;

    public TrainingBatch(int maxRows)
    {
        TokenIds = new int[maxRows];
        Labels = new int[maxRows];
        Borders = new int[maxRows + 1];
    }

    // [RowCount] input tokens.
    public int[] TokenIds { get; }

    // [RowCount]: the token that row t must predict (the next token of its sample), or Ignored.
    public int[] Labels { get; }

    // Sample s takes rows Borders[s] to Borders[s + 1] - 1; Borders[0] = 0, Borders[SampleCount] = RowCount.
    public int[] Borders { get; }

    public int RowCount { get; private set; }

    public int SampleCount { get; private set; }

    public int MaxRows => TokenIds.Length;

    // Rows whose label counts.
    public int TargetCount => RowCount - Labels.AsSpan(0, RowCount).Count(Ignored);

    public ReadOnlySpan<int> SampleBorders => Borders.AsSpan(0, SampleCount + 1);

    public void Clear() => (RowCount, SampleCount) = (0, 0);

    public bool Fits(int rowCount) => rowCount <= MaxRows - RowCount;

    // Appends one sample. `labels[t]` belongs to `tokens[t]`: already shifted by the caller.
    public void Add(ReadOnlySpan<int> tokens, ReadOnlySpan<int> labels)
    {
        if (tokens.IsEmpty || tokens.Length != labels.Length || !Fits(tokens.Length))
            throw new ArgumentException($"a sample of {tokens.Length} tokens and {labels.Length} labels: expected equal lengths of 1 to {MaxRows - RowCount}", nameof(tokens));
        tokens.CopyTo(TokenIds.AsSpan(RowCount));
        labels.CopyTo(Labels.AsSpan(RowCount));
        RowCount += tokens.Length;
        Borders[++SampleCount] = RowCount;
    }
}
