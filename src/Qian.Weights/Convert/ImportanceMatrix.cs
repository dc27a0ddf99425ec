using Qian.Inference;
using Qian.Inference.Formats;

namespace Qian.Weights;

// How strongly each input column of each matrix was driven while the model read some text: sums of squares per column and the
// number of rows that made them. An encoder spends its precision where these are large. Names and column order are those of the
// GGUF file that is written, whatever the model was loaded from.
internal sealed class ImportanceMatrix
{
    private readonly SortedDictionary<string, ImportanceEntry> _entries = new(StringComparer.Ordinal);

    // Names of the texts it was made from.
    public IReadOnlyList<string> Datasets { get; init; } = [];

    // Pieces of text, and tokens in each.
    public int ChunkCount { get; init; }

    public int ChunkSize { get; init; }

    // The file it came from, for a model's metadata; empty when it was collected here.
    public string SourcePath { get; init; } = "";

    public IReadOnlyCollection<ImportanceEntry> Entries => _entries.Values;

    public void Add(ImportanceEntry entry)
    {
        if (!_entries.TryAdd(entry.Name, entry))
            throw new BadModelFileException($"{SourcePath}: {FileText.Quote(entry.Name)} occurs twice.");
    }

    // Of matrix `matrixIndex` (an expert, else 0) of a tensor; null when nothing was collected for it.
    public ImportanceRow? Find(string tensorName, int columnCount, int matrixIndex, int matrixCount)
    {
        if (!_entries.TryGetValue(tensorName, out ImportanceEntry? entry))
            return null;
        if (entry.Sums.Length != (long)columnCount * matrixCount || (entry.Counts.Length != 1 && entry.Counts.Length != matrixCount))
            throw new BadModelFileException($"{SourcePath}: {FileText.Quote(tensorName)}: expected {columnCount} columns for {matrixCount} matrices, found {entry.Sums.Length} values and {entry.Counts.Length} counts; this importance matrix is of another model.");
        return new ImportanceRow(entry, columnCount, matrixIndex);
    }
}

// `Sums`: [matrices, columns]; `Counts`: rows per matrix, or one number for all of them.
internal sealed record ImportanceEntry(string Name, float[] Sums, float[] Counts);

// The columns of one matrix.
internal sealed record ImportanceRow(ImportanceEntry Entry, int ColumnCount, int MatrixIndex)
{
    // Mean squares; false where the matrix never saw a row (an expert that no text chose).
    public bool TryRead(Span<float> destination)
    {
        float count = Entry.Counts[Entry.Counts.Length == 1 ? 0 : MatrixIndex];
        if (!(count > 0))
            return false;
        ReadOnlySpan<float> sums = Entry.Sums.AsSpan(MatrixIndex * ColumnCount, ColumnCount);
        bool any = false;
        for (int i = 0; i < sums.Length; i++)
        {
            destination[i] = sums[i] / count;
            any |= sums[i] > 0;
        }

        return any;
    }
}
