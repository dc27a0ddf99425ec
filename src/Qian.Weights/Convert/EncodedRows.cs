using System.Buffers;
using Qian.Inference;
using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Weights;

// Rows of one matrix (or one expert of it), read from the checkpoint, put into the order and the type of the file to write. Rows
// that are stored in that very type and order are copied, so that converting a quantised file to its own type changes nothing.
internal sealed class EncodedRows : Chunk
{
    private readonly EncodedMatrix _matrix;
    private readonly int _firstRow;
    private readonly int _rowCount;

    public EncodedRows(EncodedMatrix matrix, int firstRow, int rowCount)
        : base(matrix.TensorName, checked((int)(WeightFormat.RowBytes(matrix.Type, matrix.Source.ColumnCount) * rowCount)))
    {
        _matrix = matrix;
        _firstRow = firstRow;
        _rowCount = rowCount;
    }

    public long ValueCount => (long)_rowCount * _matrix.Source.ColumnCount;

    public override void Make(Span<byte> destination)
    {
        TensorSource source = _matrix.Source;
        int rowBytes = ByteCount / _rowCount;
        if (_matrix.IsCopied)
        {
            for (int i = 0; i < _rowCount; i++)
                source.Data.Span((long)_matrix.Move.SourceRow(_matrix.Role, _firstRow + i) * rowBytes, rowBytes).CopyTo(destination.Slice(i * rowBytes, rowBytes));
        }
        else
        {
            Encode(destination, rowBytes);
        }

        // The pages of the input are not needed again: what is resident stays small, whatever the file's size.
        if (source.Type is { } stored)
        {
            long storedBytes = WeightFormat.RowBytes(stored, source.ColumnCount);
            source.Data.Slice(_firstRow * storedBytes, _rowCount * storedBytes).Release();
        }
    }

    private void Encode(Span<byte> destination, int rowBytes)
    {
        TensorSource source = _matrix.Source;
        int width = source.ColumnCount;
        float[] rented = ArrayPool<float>.Shared.Rent(3 * width);
        try
        {
            Span<float> stored = rented.AsSpan(0, width), values = rented.AsSpan(width, width), importance = default;
            if (_matrix.Importance is { } row && row.TryRead(rented.AsSpan(2 * width, width)))
                importance = rented.AsSpan(2 * width, width);
            for (int i = 0; i < _rowCount; i++)
            {
                int sourceRow = _matrix.Move.SourceRow(_matrix.Role, _firstRow + i);
                source.DecodeRows(sourceRow, 1, stored);
                _matrix.Move.Reorder(_matrix.Role, stored, values);
                if (_matrix.Map is { } map)
                {
                    foreach (ref float value in values)
                        value = map(value);
                }

                try
                {
                    WeightFormat.Encode(_matrix.Type, values, destination.Slice(i * rowBytes, rowBytes), importance, _matrix.Fast);
                }
                catch (ArgumentException error)
                {
                    throw new BadModelFileException($"tensor {FileText.Quote(source.Name)}, row {sourceRow}: cannot be stored as {WeightFormat.Name(_matrix.Type)}: {error.Message}", error);
                }
            }
        }
        finally
        {
            ArrayPool<float>.Shared.Return(rented);
        }
    }
}

// What all pieces of one matrix share. `Map` changes values into the form that the format stores (a norm's w - 1, say).
internal sealed record EncodedMatrix(string TensorName, TensorRole Role, TensorSource Source, WeightType Type, ValueHeadMove Move, ImportanceRow? Importance, Func<float, float>? Map, bool Fast)
{
    // Values in one piece: large enough to be worth a turn of a thread, small enough for a smooth bar and a prompt stop.
    private const int PieceValues = 1 << 20;

    public bool IsCopied => Map is null && Source.Type == Type && WeightFormat.IsQuantized(Type) && Move.KeepsColumns(Role);

    public void AddTo(List<Chunk> chunks)
    {
        int rows = Math.Clamp(PieceValues / Source.ColumnCount, 1, Source.RowCount);
        for (int first = 0; first < Source.RowCount; first += rows)
            chunks.Add(new EncodedRows(this, first, Math.Min(rows, Source.RowCount - first)));
    }
}
