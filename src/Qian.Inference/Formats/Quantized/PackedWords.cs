using System.Runtime.InteropServices;
using Qian.Kernels;

namespace Qian.Inference.Formats;

// int32 words [rows, columns] of eight nibbles each, in a mapped file whose offsets need not be whole words.
internal sealed class PackedWords
{
    private readonly ByteView _bytes;
    private readonly int _columnCount;

    // The bytes of such a matrix, below 2 GiB: see PackedMatrices.
    public PackedWords(ByteView bytes, int columnCount)
    {
        _bytes = bytes;
        _columnCount = columnCount;
    }

    private ReadOnlySpan<uint> Words => MemoryMarshal.Cast<byte, uint>(_bytes.Span(0, checked((int)_bytes.Length)));

    public uint At(int row, int column) => Words[row * _columnCount + column];

    // One nibble of one column's words, row by row.
    public void ReadColumn(int column, int nibble, Span<byte> values)
    {
        ReadOnlySpan<uint> words = Words;
        for (int row = 0, at = column; row < values.Length; row++, at += _columnCount)
            values[row] = (byte)(words[at] >> 4 * nibble & 15);
    }
}

// Scales [rows, columns] of a float type, widened as they are read.
internal sealed class ScaleTable
{
    private readonly ByteView _bytes;
    private readonly int _columnCount;

    public ScaleTable(WeightType type, ByteView bytes, int columnCount)
    {
        (Type, _bytes, _columnCount) = (type, bytes, columnCount);
    }

    public WeightType Type { get; }

    public void ReadRow(int row, Span<float> values)
    {
        long bytes = WeightFormat.RowBytes(Type, _columnCount);
        WeightFormat.Decode(Type, _bytes.Span(row * bytes, checked((int)bytes)), values);
    }

    public void ReadColumn(int column, Span<float> values)
    {
        int size = (int)WeightFormat.RowBytes(Type, 1);
        for (int row = 0; row < values.Length; row++)
            WeightFormat.Decode(Type, _bytes.Span(((long)row * _columnCount + column) * size, size), values.Slice(row, 1));
    }
}
