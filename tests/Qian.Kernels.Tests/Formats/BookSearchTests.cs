using System.Runtime.Intrinsics;

namespace Qian.Kernels.Tests.Formats;

public unsafe class BookSearchTests
{
    private const int Lanes = BookSearch.Lanes;

    // Rounds of 16 runs.
    private const int RoundCount = 60;

    public static TheoryData<string> Books => ["IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S"];

    // Against every row looked at in double arithmetic; what is found may differ only where two rows are equally near.
    [Theory]
    [MemberData(nameof(Books))]
    public void The_nearest_row_is_found(string name)
    {
        (ulong[] book, int width) = Book(name);
        var search = new BookSearch(book, width);
        for (int round = 0; round < RoundCount; round++)
        {
            var sample = new Sample(width, round, search.Highest / (1 + round % 3));
            Found found = sample.Nearest((ref readonly BookRuns runs) => search.Nearest(in runs));
            for (int lane = 0; lane < Lanes; lane++)
            {
                double least = double.PositiveInfinity;
                foreach (ulong row in book)
                    least = Math.Min(least, sample.Cost(row, lane));
                ulong chosen = book[found.Rows[lane]];
                Assert.InRange(sample.Cost(chosen, lane), least, least * (1 + 1e-5));
                (double cross, double square) = sample.Moments(chosen, lane);
                Assert.InRange(found.Crosses[lane], cross - 1e-5 * square, cross + 1e-5 * square);
                Assert.InRange(found.Squares[lane], square * (1 - 1e-5), square * (1 + 1e-5));
            }
        }
    }

    // Bit for bit: files do not depend on the machine that wrote them. Turned by half the lanes, runs stand in the other vector of the narrow width.
    [Theory]
    [MemberData(nameof(Books))]
    public void What_a_run_finds_depends_on_no_lane_and_no_width(string name)
    {
        (ulong[] book, int width) = Book(name);
        var search = new BookSearch(book, width);
        for (int round = 0; round < RoundCount; round++)
        {
            // The last factors leave costs of 0 and costs beyond all that is compared.
            float inverse = round switch { RoundCount - 1 => 0, RoundCount - 2 => 1e30f, _ => search.Highest / (1 + round % 3) };
            var sample = new Sample(width, round, inverse);
            Found narrow = sample.Nearest((ref readonly BookRuns runs) => search.Nearest<Lanes256, Vector256<float>>(in runs));
            sample.Turn(Lanes / 2 + 1);
            Found turned = sample.Nearest((ref readonly BookRuns runs) => search.Nearest<Lanes256, Vector256<float>>(in runs));
            AssertEqual(narrow.Turned(Lanes / 2 + 1), turned);
            if (IsaTier.IsSupported(Isa.Avx512))
                AssertEqual(turned, sample.Nearest((ref readonly BookRuns runs) => search.Nearest<Lanes512, Vector512<float>>(in runs)));
        }
    }

    // Every row is nearest to its own values, whatever its neighbours weigh.
    [Theory]
    [MemberData(nameof(Books))]
    public void Every_row_can_be_found(string name)
    {
        (ulong[] book, int width) = Book(name);
        var search = new BookSearch(book, width);
        for (int first = 0; first < book.Length; first += Lanes)
        {
            var sample = new Sample(width, first, 1);
            Array.Fill(sample.Inverses, 1);
            for (int index = 0; index < sample.Values.Length; index++)
                sample.Values[index] = book[first + index % Lanes] >> 8 * (index / Lanes) & 255;
            Found found = sample.Nearest((ref readonly BookRuns runs) => search.Nearest(in runs));
            Assert.Equal(Enumerable.Range(first, Lanes), found.Rows.Select(row => (int)row));
        }
    }

    [Fact]
    public void A_book_with_too_many_halves_is_refused()
    {
        ulong[] rows = [.. Enumerable.Range(0, 16).Select(level => (ulong)level)];
        Assert.Contains("256 halves", Assert.Throws<ArgumentException>(() => new BookSearch(rows, 4)).Message, StringComparison.Ordinal);
    }

    private static (ulong[] Rows, int Width) Book(string name) => name switch
    {
        "IQ2_XXS" => (CodeBooks.Iq2Xxs, 8),
        "IQ2_XS" => (CodeBooks.Iq2Xs, 8),
        "IQ2_S" => (CodeBooks.Iq2S, 8),
        "IQ3_XXS" => (Array.ConvertAll(CodeBooks.Iq3Xxs, row => (ulong)row), 4),
        _ => (Array.ConvertAll(CodeBooks.Iq3S, row => (ulong)row), 4),
    };

    private static void AssertEqual(Found expected, Found actual)
    {
        Assert.Equal(expected.Rows, actual.Rows);
        Assert.Equal(expected.Crosses, actual.Crosses);
        Assert.Equal(expected.Squares, actual.Squares);
    }

    // Entry j moves to j + count, the last ones to the front.
    private static T[] Turn<T>(T[] lanes, int count) => [.. lanes[^count..], .. lanes[..^count]];

    private delegate void Search(ref readonly BookRuns runs);

    private sealed record Found(ushort[] Rows, float[] Crosses, float[] Squares)
    {
        public Found Turned(int count) => new(Turn(Rows, count), Turn(Crosses, count), Turn(Squares, count));
    }

    // [value][lane]
    private sealed class Sample
    {
        private readonly int _width;
        private readonly float[] _weights;

        public Sample(int width, int round, float inverse)
        {
            _width = width;
            int count = width * Lanes, start = round * 7 % 500;
            Values = SampleData.Student(start + count)[start..];
            _weights = SampleData.Importance(start + count)[start..];
            for (int lane = 0; lane < Lanes; lane++)
                Inverses[lane] = inverse * (1 + lane / 16f);
        }

        public float[] Values { get; }

        public float[] Inverses { get; } = new float[Lanes];

        public void Turn(int count)
        {
            BookSearchTests.Turn(Inverses, count).CopyTo(Inverses, 0);
            for (int start = 0; start < Values.Length; start += Lanes)
            {
                BookSearchTests.Turn(Values[start..(start + Lanes)], count).CopyTo(Values, start);
                BookSearchTests.Turn(_weights[start..(start + Lanes)], count).CopyTo(_weights, start);
            }
        }

        public Found Nearest(Search search)
        {
            var found = new Found(new ushort[Lanes], new float[Lanes], new float[Lanes]);
            fixed (float* values = Values, weights = _weights, inverses = Inverses, crosses = found.Crosses, squares = found.Squares)
            {
                fixed (ushort* rows = found.Rows)
                {
                    var runs = new BookRuns { Values = values, Weights = weights, Stride = Lanes, Inverses = inverses, Rows = rows, Crosses = crosses, Squares = squares };
                    search(in runs);
                }
            }

            return found;
        }

        public double Cost(ulong row, int lane)
        {
            double cost = 0;
            for (int i = 0; i < _width; i++)
                cost += _weights[i * Lanes + lane] * Math.Pow((double)Values[i * Lanes + lane] * Inverses[lane] - (row >> 8 * i & 255), 2);
            return cost;
        }

        public (double Cross, double Square) Moments(ulong row, int lane)
        {
            double cross = 0, square = 0;
            for (int i = 0; i < _width; i++)
            {
                double level = row >> 8 * i & 255, weighted = _weights[i * Lanes + lane] * level;
                cross += weighted * Values[i * Lanes + lane];
                square += weighted * level;
            }

            return (cross, square);
        }
    }
}
