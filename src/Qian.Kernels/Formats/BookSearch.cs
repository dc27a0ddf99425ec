using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Qian.Kernels;

/// <summary>
/// Finds the row of a code book with the least weighted squared distance: exactly, by looking at every row. Rows are few levels, so what any value costs
/// at any level is a small table, and the cost of a row is four lookups in tables of 16 (two values of 4 levels, or one of 8) and three
/// additions, for 8 or 16 rows at once. All vector widths add in the same order and find the same row; of equals, the first.
/// Not known here: signs and scales.
/// </summary>
internal sealed unsafe class BookSearch
{
    public const int TableCount = 4;
    public const int TableEntries = 16;

    private const int PairLevels = 4;

    // [table][row] indices into the table; [row][value] the values as floats.
    private readonly int* _codes;
    private readonly float* _rows;
    private readonly int _rowCount;
    private readonly Vector256<float> _levels;

    public BookSearch(ulong[] rows, int rowValues)
    {
        (_rowCount, RowValues) = (rows.Length, rowValues);
        // A few KiB that live as long as the process and do not move.
        _codes = (int*)NativeMemory.AlignedAlloc((nuint)(TableCount * _rowCount * sizeof(int)), 64);
        _rows = (float*)NativeMemory.AlignedAlloc((nuint)(rowValues * _rowCount * sizeof(float)), 64);
        var levels = new SortedSet<int>();
        for (int i = 0; i < _rowCount * rowValues; i++)
            levels.Add((int)(rows[i / rowValues] >> 8 * (i % rowValues) & 255));
        int[] sorted = [.. levels];
        Highest = sorted[^1];
        Span<float> table = stackalloc float[8];
        for (int i = 0; i < table.Length; i++)
            table[i] = sorted[Math.Min(i, sorted.Length - 1)];
        _levels = Vector256.Create<float>(table);
        for (int row = 0; row < _rowCount; row++)
        {
            for (int t = 0; t < TableCount; t++)
                _codes[t * _rowCount + row] = rowValues == 4 ? Code(row, t) : Code(row, 2 * t) + PairLevels * Code(row, 2 * t + 1);
        }

        int Code(int row, int value)
        {
            int level = (int)(rows[row] >> 8 * value & 255);
            _rows[row * rowValues + value] = level;
            return Array.IndexOf(sorted, level);
        }
    }

    // 4 or 8.
    public int RowValues { get; }

    public float Highest { get; }

    public float* Row(int index) => _rows + index * RowValues;

    // The row nearest to values * inverse.
    [SkipLocalsInit]
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public int Nearest(float* values, float* weights, float inverse)
    {
        float* tables = stackalloc float[TableCount * TableEntries + 16];
        tables = (float*)((nint)tables + 63 & -64);
        if (RowValues == 4)
        {
            for (int t = 0; t < TableCount; t++)
            {
                Vector256<float> distance = Vector256.Create(values[t] * inverse) - _levels;
                Vector256<float> cost = distance * distance * weights[t];
                cost.StoreAligned(tables + TableEntries * t);
                cost.StoreAligned(tables + TableEntries * t + 8);
            }
        }
        else
        {
            Vector128<float> levels = _levels.GetLower();
            for (int t = 0; t < TableCount; t++)
            {
                Vector128<float> first = Vector128.Create(values[2 * t] * inverse) - levels;
                Vector128<float> second = Vector128.Create(values[2 * t + 1] * inverse) - levels;
                first = first * first * weights[2 * t];
                second = second * second * weights[2 * t + 1];
                for (int level = 0; level < PairLevels; level++)
                    (first + Vector128.Create(second.GetElement(level))).StoreAligned(tables + TableEntries * t + PairLevels * level);
            }
        }

        if (Avx512F.IsSupported)
            return Of16(tables);
        return Avx2.IsSupported ? Of8(tables) : Of1(tables);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private int Of16(float* tables)
    {
        Vector512<float> t0 = Vector512.LoadAligned(tables), t1 = Vector512.LoadAligned(tables + 16);
        Vector512<float> t2 = Vector512.LoadAligned(tables + 32), t3 = Vector512.LoadAligned(tables + 48);
        Vector512<float> least = Vector512.Create(float.PositiveInfinity);
        Vector512<int> found = Vector512<int>.Zero, row = Vector512<int>.Indices;
        int* codes = _codes;
        for (int at = 0; at < _rowCount; at += 16, codes += 16)
        {
            Vector512<float> cost = Avx512F.PermuteVar16x32(t0, Vector512.LoadAligned(codes)) + Avx512F.PermuteVar16x32(t1, Vector512.LoadAligned(codes + _rowCount));
            cost += Avx512F.PermuteVar16x32(t2, Vector512.LoadAligned(codes + 2 * _rowCount));
            cost += Avx512F.PermuteVar16x32(t3, Vector512.LoadAligned(codes + 3 * _rowCount));
            found = Vector512.ConditionalSelect(Vector512.LessThan(cost, least).AsInt32(), row, found);
            least = Vector512.Min(cost, least);
            row += Vector512.Create(16);
        }

        Vector512<int> none = Vector512.Create(int.MaxValue);
        Vector256<float> half = Vector256.Min(least.GetLower(), least.GetUpper());
        Vector512<int> candidates = Vector512.ConditionalSelect(Vector512.Equals(least, Vector512.Create(Least(half))).AsInt32(), found, none);
        return First(Vector256.Min(candidates.GetLower(), candidates.GetUpper()));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private int Of8(float* tables)
    {
        Vector256<float> least = Vector256.Create(float.PositiveInfinity);
        Vector256<int> found = Vector256<int>.Zero, row = Vector256<int>.Indices;
        int* codes = _codes;
        for (int at = 0; at < _rowCount; at += 8, codes += 8)
        {
            Vector256<float> cost = Lookup(tables, codes) + Lookup(tables + 16, codes + _rowCount);
            cost += Lookup(tables + 32, codes + 2 * _rowCount);
            cost += Lookup(tables + 48, codes + 3 * _rowCount);
            found = Vector256.ConditionalSelect(Vector256.LessThan(cost, least).AsInt32(), row, found);
            least = Vector256.Min(cost, least);
            row += Vector256.Create(8);
        }

        return First(Vector256.ConditionalSelect(Vector256.Equals(least, Vector256.Create(Least(least))).AsInt32(), found, Vector256.Create(int.MaxValue)));
    }

    private int Of1(float* tables)
    {
        float least = float.PositiveInfinity;
        int found = int.MaxValue;
        for (int row = 0; row < _rowCount; row++)
        {
            float cost = tables[_codes[row]] + tables[16 + _codes[_rowCount + row]];
            cost += tables[32 + _codes[2 * _rowCount + row]];
            cost += tables[48 + _codes[3 * _rowCount + row]];
            if (cost < least)
                (least, found) = (cost, row);
        }

        return found == int.MaxValue ? 0 : found;
    }

    // Bit 3 of an index chooses the half of its table.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<float> Lookup(float* table, int* codes)
    {
        Vector256<int> code = Vector256.LoadAligned(codes);
        Vector256<float> low = Avx2.PermuteVar8x32(Vector256.LoadAligned(table), code), high = Avx2.PermuteVar8x32(Vector256.LoadAligned(table + 8), code);
        return Avx.BlendVariable(low, high, (code << 28).AsSingle());
    }

    private static float Least(Vector256<float> v)
    {
        Vector128<float> half = Vector128.Min(v.GetLower(), v.GetUpper());
        half = Vector128.Min(half, Vector128.Shuffle(half, Vector128.Create(2, 3, 0, 1)));
        return MathF.Min(half.GetElement(0), half.GetElement(1));
    }

    // The least index; 0 where every cost overflowed and none was found.
    private static int First(Vector256<int> v)
    {
        Vector128<int> half = Vector128.Min(v.GetLower(), v.GetUpper());
        half = Vector128.Min(half, Vector128.Shuffle(half, Vector128.Create(2, 3, 0, 1)));
        int first = Math.Min(half.GetElement(0), half.GetElement(1));
        return first == int.MaxValue ? 0 : first;
    }
}
