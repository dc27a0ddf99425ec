using Qian.Kernels.Tests.Ops;

namespace Qian.Kernels.Tests.Products;

public sealed class MatmulTests
{
    // Whole and broken tiles of every tier, one and several blocks of K, odd K, vectors.
    private static readonly (int Rows, int Columns, int Inner)[] s_shapes =
    [
        (1, 1, 1), (1, 5, 3), (7, 1, 9), (6, 16, 8), (14, 32, 16), (15, 33, 17), (13, 31, 15), (28, 64, 64), (29, 65, 63),
        (5, 100, 513), (61, 47, 1025), (100, 9, 700), (3, 200, 2051), (90, 130, 71),
    ];

    public static TheoryData<Isa, Lying, Lying> TiersAndLayouts()
    {
        var data = new TheoryData<Isa, Lying, Lying>();
        foreach (Isa isa in IsaTier.Available)
        {
            foreach (Lying a in Enum.GetValues<Lying>())
            {
                foreach (Lying b in Enum.GetValues<Lying>())
                    data.Add(isa, a, b);
            }
        }

        return data;
    }

    [Theory]
    [MemberData(nameof(TiersAndLayouts))]
    public void FloatsMultiplyAsInDouble(Isa isa, Lying a, Lying b)
    {
        using var team = new ThreadTeam(2);
        using var scratch = new MatmulScratch(2);
        foreach ((int rows, int columns, int inner) in s_shapes)
        {
            using var sample = new MatmulCase(rows, columns, inner, a, b);
            foreach (bool accumulate in new[] { false, true })
            {
                sample.Reset();
                Matmul.Multiply(isa, sample.A, sample.B, sample.C, accumulate, MatmulPrecision.Float32, scratch, team);
                sample.CheckResult(accumulate, 2e-6);
            }
        }
    }

    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void ThreadsAndPlaceChangeNoBit(Isa isa)
    {
        using var single = new ThreadTeam(1);
        using var pair = new ThreadTeam(2);
        using var large = new ThreadTeam(5);
        using var scratch = new MatmulScratch(2);
        foreach (MatmulPrecision precision in Enum.GetValues<MatmulPrecision>())
        {
            foreach ((int rows, int columns, int inner) in new[] { (100, 70, 1100), (20, 3000, 300), (640, 40, 129) })
            {
                using var sample = new MatmulCase(rows, columns, inner, Lying.Rows, Lying.Transposed);
                Matmul.Multiply(isa, sample.A, sample.B, sample.C, true, precision, scratch, single);
                float[] expected = sample.Result.ToArray();
                foreach (ThreadTeam team in new[] { pair, large })
                {
                    sample.Reset();
                    Matmul.Multiply(isa, sample.A, sample.B, sample.C, true, precision, scratch, team);
                    Near.Bits(expected, sample.Result);
                }

                // A part computed alone, at another place among the tiles.
                sample.Reset();
                int firstRow = rows / 3, firstColumn = columns / 3, rowCount = rows - firstRow, columnCount = columns - firstColumn;
                MatrixView a = MatrixView.Rows(sample.A.Data.Slice(firstRow * inner), rowCount, inner);
                MatrixView b = MatrixView.Rows(sample.B.Data.Slice(firstColumn * inner), columnCount, inner).Transposed;
                int offset = (int)(firstRow * sample.C.RowStride) + firstColumn;
                MatrixView c = MatrixView.Rows(sample.C.Data.Slice(offset), rowCount, columnCount, (int)sample.C.RowStride);
                Matmul.Multiply(isa, a, b, c, true, precision, scratch, pair);
                for (int i = firstRow; i < rows; i++)
                {
                    int row = (int)(i * sample.C.RowStride);
                    Near.Bits(expected.AsSpan(row + firstColumn, columnCount), sample.Result.Slice(row + firstColumn, columnCount));
                }
            }
        }
    }
}
