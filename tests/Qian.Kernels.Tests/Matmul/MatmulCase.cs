using Qian.Kernels.Tests.Ops;

namespace Qian.Kernels.Tests.Products;

/// <summary>How a factor lies in memory.</summary>
public enum Lying
{
    /// <summary>Row after row.</summary>
    Rows,

    /// <summary>Rows of a wider matrix.</summary>
    WideRows,

    /// <summary>Stored transposed.</summary>
    Transposed,

    /// <summary>Stored transposed within a wider matrix.</summary>
    WideTransposed,

    /// <summary>Neither dimension contiguous.</summary>
    Scattered,
}

/// <summary>Seeded factors of a product, its result's memory, and what double arithmetic makes of them.</summary>
internal sealed class MatmulCase : IDisposable
{
    // Floats between the rows of c; they must keep their value.
    private const int Gap = 3;
    private const float GapValue = 123.5f;

    private readonly Arena _arena;
    private readonly int _rows, _columns, _inner;
    private readonly FloatView _c;
    private readonly float[] _before;
    private readonly (double Sum, double Size)[] _expected;

    public MatmulCase(int rows, int columns, int inner, Lying a, Lying b, Func<float, float>? round = null)
    {
        _arena = new Arena();
        (_rows, _columns, _inner) = (rows, columns, inner);
        A = Make(rows, inner, a);
        B = Make(inner, columns, b);
        _c = _arena.Random((rows - 1) * (columns + Gap) + columns, 10);
        _before = _c.Span.ToArray();
        for (int row = 0; row < rows - 1; row++)
            _before.AsSpan(row * (columns + Gap) + columns, Gap).Fill(GapValue);
        C = MatrixView.Rows(_c, rows, columns, columns + Gap);
        Reset();
        _expected = Multiply(round);
    }

    public MatrixView A { get; }

    public MatrixView B { get; }

    public MatrixView C { get; }

    public Span<float> Result => _c.Span;

    public void Reset() => _before.CopyTo(_c.Span);

    public static ref float At(in MatrixView matrix, int row, int column) =>
        ref matrix.Data.Span[checked((int)(row * matrix.RowStride + column * matrix.ColumnStride))];

    /// <summary>Checks every element within tolerance of Σ|a·b| (what rounding in any order can cost) and that the gaps are untouched.</summary>
    public void CheckResult(bool accumulate, double tolerance)
    {
        for (int i = 0; i < _rows; i++)
        {
            for (int j = 0; j < _columns; j++)
            {
                (double sum, double size) = _expected[i * _columns + j];
                float before = _before[i * (_columns + Gap) + j], found = At(C, i, j);
                double expected = accumulate ? sum + before : sum;
                double bound = tolerance * (size + (accumulate ? Math.Abs(before) : 0));
                Assert.True(Math.Abs(found - expected) <= bound, $"[{i},{j}] of {_rows}x{_columns}x{_inner}: expected {expected}, found {found}");
            }
        }

        for (int i = 0; i < _before.Length; i++)
            Assert.True(i % (_columns + Gap) < _columns || _c.Span[i] == GapValue, $"gap at {i} was written");
    }

    // Σ a·b and Σ |a·b|, rows of a and columns of b taken out first: the products are many.
    private (double Sum, double Size)[] Multiply(Func<float, float>? round)
    {
        var left = new double[_rows * _inner];
        var right = new double[_columns * _inner];
        for (int k = 0; k < _inner; k++)
        {
            for (int i = 0; i < _rows; i++)
                left[i * _inner + k] = round?.Invoke(At(A, i, k)) ?? At(A, i, k);
            for (int j = 0; j < _columns; j++)
                right[j * _inner + k] = round?.Invoke(At(B, k, j)) ?? At(B, k, j);
        }

        var results = new (double, double)[_rows * _columns];
        for (int i = 0; i < results.Length; i++)
        {
            ReadOnlySpan<double> row = left.AsSpan(i / _columns * _inner, _inner), column = right.AsSpan(i % _columns * _inner, _inner);
            double sum = 0, size = 0;
            for (int k = 0; k < row.Length; k++)
            {
                sum += row[k] * column[k];
                size += Math.Abs(row[k] * column[k]);
            }

            results[i] = (sum, size);
        }

        return results;
    }

    public void Dispose() => _arena.Dispose();

    private MatrixView Make(int rows, int columns, Lying lying) => lying switch
    {
        Lying.Rows => MatrixView.Rows(_arena.Random(rows * columns), rows, columns),
        Lying.WideRows => MatrixView.Rows(_arena.Random((rows - 1) * (columns + 5) + columns), rows, columns, columns + 5),
        Lying.Transposed => Make(columns, rows, Lying.Rows).Transposed,
        Lying.WideTransposed => Make(columns, rows, Lying.WideRows).Transposed,
        _ => new MatrixView(_arena.Random((rows - 1) * 3 * columns + (columns - 1) * 2 + 1), rows, columns, 3 * columns, 2),
    };
}
