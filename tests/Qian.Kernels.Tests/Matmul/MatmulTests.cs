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

    public static TheoryData<Lying, Lying> Layouts()
    {
        var data = new TheoryData<Lying, Lying>();
        foreach (Lying a in Enum.GetValues<Lying>())
        {
            foreach (Lying b in Enum.GetValues<Lying>())
                data.Add(a, b);
        }

        return data;
    }

    [Theory]
    [MemberData(nameof(Layouts))]
    public void BrainFloatsMultiplyTheRoundedInputs(Lying a, Lying b)
    {
        using var team = new ThreadTeam(2);
        using var scratch = new MatmulScratch(2);
        Func<float, float>? round = BrainKernel.IsAvailable ? RoundToBrain : null;
        foreach ((int rows, int columns, int inner) in s_shapes)
        {
            using var sample = new MatmulCase(rows, columns, inner, a, b, round);
            foreach (bool accumulate in new[] { false, true })
            {
                sample.Reset();
                Matmul.Multiply(IsaTier.Available[0], sample.A, sample.B, sample.C, accumulate, MatmulPrecision.BFloat16, scratch, team);
                sample.CheckResult(accumulate, 2e-6);
            }
        }
    }

    // Where there is no bfloat16 code, the answer is the tier's float32 answer.
    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void BrainFloatsFallBackToFloats(Isa isa)
    {
        if (isa == Isa.Avx512 && BrainKernel.IsAvailable)
            return;
        using var team = new ThreadTeam(2);
        using var scratch = new MatmulScratch(2);
        using var sample = new MatmulCase(61, 47, 129, Lying.Rows, Lying.Rows);
        Matmul.Multiply(isa, sample.A, sample.B, sample.C, false, MatmulPrecision.Float32, scratch, team);
        float[] expected = sample.Result.ToArray();
        sample.Reset();
        Matmul.Multiply(isa, sample.A, sample.B, sample.C, false, MatmulPrecision.BFloat16, scratch, team);
        Near.Bits(expected, sample.Result);
    }

    [Theory]
    [InlineData(Lying.Rows)]
    [InlineData(Lying.Transposed)]
    [InlineData(Lying.Scattered)]
    public void PackingRoundsToTheNearestBrainFloat(Lying lying)
    {
        if (!BrainKernel.IsAvailable)
            return;

        // Ties both ways, just off ties, carries into the exponent, into infinity, the largest that is kept; b is the identity.
        uint[] bits =
        [
            0x3F808000, 0x3F818000, 0x3F808001, 0x3F817FFF, 0x3FFFFFFF, 0x3FFF8000, 0xBF808000, 0xBFFFC000, 0x7F7F7FFF, 0x7F7F8000,
            0xFF7FFFFF, 0x00000000, 0x80000000, 0x3DCCCCCD, 0x4B7FFFFF, 0xC2F6E979, 0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001, 0xFFFFFFFF,
        ];
        using var team = new ThreadTeam(1);
        using var scratch = new MatmulScratch(1);
        using var sample = new MatmulCase(bits.Length, 1, 1, lying, Lying.Rows);
        for (int i = 0; i < bits.Length; i++)
            MatmulCase.At(sample.A, i, 0) = BitConverter.UInt32BitsToSingle(bits[i]);
        MatmulCase.At(sample.B, 0, 0) = 1;
        Matmul.Multiply(Isa.Avx512, sample.A, sample.B, sample.C, false, MatmulPrecision.BFloat16, scratch, team);
        for (int i = 0; i < bits.Length; i++)
            Assert.Equal(RoundToBrain(BitConverter.UInt32BitsToSingle(bits[i])), MatmulCase.At(sample.C, i, 0));
    }

    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void NotANumberAndInfinityStayInTheirRowsAndColumns(Isa isa)
    {
        using var team = new ThreadTeam(2);
        using var scratch = new MatmulScratch(2);
        foreach (MatmulPrecision precision in Enum.GetValues<MatmulPrecision>())
        {
            using var sample = new MatmulCase(33, 70, 530, Lying.Rows, Lying.Rows);
            MatmulCase.At(sample.A, 7, 529) = float.NaN;
            MatmulCase.At(sample.A, 30, 3) = float.PositiveInfinity;
            MatmulCase.At(sample.B, 515, 65) = float.NaN;
            MatmulCase.At(sample.B, 3, 0) = -1;
            Matmul.Multiply(isa, sample.A, sample.B, sample.C, false, precision, scratch, team);
            for (int i = 0; i < 33; i++)
            {
                for (int j = 0; j < 70; j++)
                {
                    float found = MatmulCase.At(sample.C, i, j);
                    if (i == 7 || j == 65)
                        Assert.True(float.IsNaN(found), $"[{i},{j}] {found}");
                    else
                        Assert.True(i == 30 ? float.IsInfinity(found) : float.IsFinite(found), $"[{i},{j}] {found}");
                }
            }

            Assert.Equal(float.NegativeInfinity, MatmulCase.At(sample.C, 30, 0));
        }
    }

    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void EmptyInnerDimensionSumsToZero(Isa isa)
    {
        using var arena = new Arena();
        using var team = new ThreadTeam(1);
        using var scratch = new MatmulScratch(1);
        FloatView values = arena.Random(6);
        float[] before = values.Span.ToArray();
        MatrixView c = MatrixView.Rows(values, 2, 3);
        MatrixView a = MatrixView.Rows(default, 2, 0), b = MatrixView.Rows(default, 0, 3);
        Matmul.Multiply(isa, a, b, c, true, MatmulPrecision.Float32, scratch, team);
        Near.Bits(before, values.Span);
        Matmul.Multiply(isa, a, b, c, false, MatmulPrecision.Float32, scratch, team);
        Near.Bits(new float[6], values.Span);
        Matmul.Multiply(isa, MatrixView.Rows(default, 0, 5), MatrixView.Rows(arena.Random(5), 5, 1), MatrixView.Rows(default, 0, 1), false, MatmulPrecision.Float32, scratch, team);
    }

    [Fact]
    public void WrongShapesAndHostileSizesAreRefused()
    {
        using var arena = new Arena();
        using var team = new ThreadTeam(1);
        using var scratch = new MatmulScratch(1);
        FloatView values = arena.Random(60);
        Assert.ThrowsAny<ArgumentException>(() => MatrixView.Rows(values, 7, 9));
        Assert.ThrowsAny<ArgumentException>(() => MatrixView.Rows(values, -1, 9));
        Assert.ThrowsAny<ArgumentException>(() => MatrixView.Rows(values, 5, -9));
        Assert.ThrowsAny<ArgumentException>(() => MatrixView.Rows(values, 5, 10, 13));
        Assert.ThrowsAny<ArgumentException>(() => new MatrixView(values, 2, 2, -1, 1));
        Assert.ThrowsAny<ArgumentException>(() => new MatrixView(values, int.MaxValue, int.MaxValue, long.MaxValue, long.MaxValue));
        Assert.ThrowsAny<ArgumentException>(() => new MatrixView(values, 3, 1, long.MaxValue / 2 + 1, 1));
        Assert.ThrowsAny<ArgumentException>(() => new MatmulScratch(0));

        MatrixView a = MatrixView.Rows(values, 4, 5), b = MatrixView.Rows(arena.Random(15), 5, 3), c = MatrixView.Rows(arena.Random(12), 4, 3);
        Refused(a.Transposed, b, c);
        Refused(a, b.Transposed, c);
        Refused(a, b, c.Transposed);
        Refused(a, b, new MatrixView(arena.Random(12), 4, 3, 1, 4));
        Refused(a, b, new MatrixView(arena.Random(12), 4, 3, 2, 1));
        Refused(a, b, MatrixView.Rows(values, 4, 3));
        Assert.ThrowsAny<ArgumentException>(() => Matmul.Multiply(a, b, c, false, (MatmulPrecision)7, scratch, team));
        Matmul.Multiply(a, b, c, false, MatmulPrecision.Float32, scratch, team);

        void Refused(MatrixView left, MatrixView right, MatrixView result) =>
            Assert.Throws<ArgumentException>(() => Matmul.Multiply(left, right, result, false, MatmulPrecision.Float32, scratch, team));
    }

    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void StridesOfDimensionsOfOneAreNeverFollowed(Isa isa)
    {
        using var arena = new Arena();
        using var team = new ThreadTeam(2);
        using var scratch = new MatmulScratch(2);
        FloatView result = arena.Zeros(1);
        var row = new MatrixView(arena.Of(2, 3, 5), 1, 3, long.MaxValue, 1);
        var column = new MatrixView(arena.Of(7, 11, 13), 3, 1, 1, long.MaxValue);
        var one = new MatrixView(result, 1, 1, long.MaxValue, long.MaxValue);
        foreach (MatmulPrecision precision in Enum.GetValues<MatmulPrecision>())
        {
            Matmul.Multiply(isa, row, column, one, false, precision, scratch, team);
            Assert.Equal(2 * 7 + 3 * 11 + 5 * 13, result.Span[0]);
        }

        // A stride of zero repeats one value.
        Matmul.Multiply(isa, new MatrixView(arena.Of(2), 1, 700, 0, 0), new MatrixView(arena.Of(3), 700, 1, 0, 0), one, false, MatmulPrecision.Float32, scratch, team);
        Assert.Equal(4200, result.Span[0]);
    }

    // The caller's thread takes parts like any other, so what it allocates is what each would.
    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void NothingIsAllocated(Isa isa)
    {
        using var team = new ThreadTeam(2);
        using var scratch = new MatmulScratch(2);
        using var sample = new MatmulCase(100, 70, 600, Lying.Rows, Lying.Transposed);
        All();
        long before = GC.GetAllocatedBytesForCurrentThread();
        All();
        Assert.Equal(before, GC.GetAllocatedBytesForCurrentThread());

        void All()
        {
            Matmul.Multiply(isa, sample.A, sample.B, sample.C, true, MatmulPrecision.Float32, scratch, team);
            Matmul.Multiply(isa, sample.A, sample.B, sample.C, false, MatmulPrecision.BFloat16, scratch, team);
        }
    }

    // Threads in emitted code cannot be stopped there; collections must wait for them and harm nothing.
    [Fact]
    public void CollectionsDoNotDisturbTheProducts()
    {
        using var team = new ThreadTeam(2);
        using var scratch = new MatmulScratch(2);
        using var sample = new MatmulCase(150, 200, 600, Lying.Rows, Lying.Transposed);
        Matmul.Multiply(sample.A, sample.B, sample.C, false, MatmulPrecision.BFloat16, scratch, team);
        float[] expected = sample.Result.ToArray();
        bool stop = false;
        int collections = 0;
        var collector = new Thread(() =>
        {
            while (!Volatile.Read(ref stop))
            {
                GC.Collect(0);
                Interlocked.Increment(ref collections);
            }
        });
        collector.Start();
        for (int i = 0; i < 200 || Volatile.Read(ref collections) < 50; i++)
        {
            sample.Reset();
            Matmul.Multiply(sample.A, sample.B, sample.C, false, MatmulPrecision.BFloat16, scratch, team);
            Assert.True(expected.AsSpan().SequenceEqual(sample.Result), $"call {i}");
        }

        Volatile.Write(ref stop, true);
        collector.Join();
    }

    private static float RoundToBrain(float value)
    {
        // Through double arithmetic: scale so that a unit in the last of 8 bits is one, round, scale back.
        if (!float.IsFinite(value) || value == 0)
            return value;
        int exponent = Math.ILogB((double)value) - 7;
        return (float)Math.ScaleB(Math.Round(Math.ScaleB((double)value, -exponent), MidpointRounding.ToEven), exponent);
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
