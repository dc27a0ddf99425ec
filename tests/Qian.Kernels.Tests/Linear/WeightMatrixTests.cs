namespace Qian.Kernels.Tests;

public sealed class WeightMatrixTests : IDisposable
{
    private readonly ThreadTeam _team = new(2);

    public void Dispose() => _team.Dispose();

    [Fact]
    public void PackedRowsDecodeToTheSameValues()
    {
        foreach (WeightType type in LinearSamples.PackedTypes)
        {
            // Several chunks of panels, the last panel padded.
            const int Rows = 151, Columns = 768;
            using NativeBuffer bytes = LinearSamples.Weights(type, Rows, Columns, 3);
            using WeightMatrix mapped = LinearSamples.Matrix(type, Rows, Columns, bytes, WeightStorage.Mapped, _team);
            using WeightMatrix packed = LinearSamples.Matrix(type, Rows, Columns, bytes, WeightStorage.Packed, _team);
            Assert.True(packed.IsPacked);
            Assert.False(mapped.IsPacked);
            var expected = new float[Columns];
            var actual = new float[Columns];
            for (int row = 0; row < Rows; row++)
            {
                mapped.DecodeRow(row, expected);
                packed.DecodeRow(row, actual);
                Assert.Equal(expected, actual);
            }
        }
    }

    // The whole point of packing a file is lost if it grows; within 4 % of the file's own size.
    [Fact]
    public void PackedBytesStayCloseToTheFile()
    {
        Assert.Equal(2368L * 17408 / 16 * 20, WeightMatrix.PackedBytes(WeightType.Q4_K, 17408, 5120));
        foreach (WeightType type in LinearSamples.PackedTypes)
        {
            double ratio = WeightMatrix.PackedBytes(type, 1024, 5120) / (1024.0 * WeightFormat.RowBytes(type, 5120));
            Assert.InRange(ratio, 1, 1.04);
        }

        Assert.Equal(0, WeightMatrix.PackedBytes(WeightType.BF16, 16, 64));
    }

    [Fact]
    public void TypesWithoutPackedLayoutStayWhereTheyAre()
    {
        using NativeBuffer bytes = LinearSamples.Weights(WeightType.BF16, 4, 64, 3);
        using WeightMatrix weight = LinearSamples.Matrix(WeightType.BF16, 4, 64, bytes, WeightStorage.Packed, _team);
        Assert.False(weight.IsPacked);
        Assert.Equal(4 * 64 * 2, weight.StoredBytes);
    }

    [Fact]
    public void RowsAreEncodedAtLoadTime()
    {
        const int Rows = 21, Columns = 256;
        foreach (WeightType type in new[] { WeightType.Q4_K, WeightType.Q8_0, WeightType.BF16, WeightType.F32, WeightType.Q4_0 })
        {
            using NativeBuffer bytes = LinearSamples.Weights(WeightType.F32, Rows, Columns, 3);
            using WeightMatrix source = LinearSamples.Matrix(WeightType.F32, Rows, Columns, bytes, WeightStorage.Mapped, _team);
            using WeightMatrix weight = WeightMatrix.FromRows(type, Rows, Columns, source.DecodeRow, _team);
            Assert.Equal(WeightMatrix.HasPackedLayout(type), weight.IsPacked);
            var values = new float[Columns];
            var encoded = new byte[WeightFormat.RowBytes(type, Columns)];
            var expected = new float[Columns];
            for (int row = 0; row < Rows; row++)
            {
                source.DecodeRow(row, values);
                WeightFormat.Encode(type, values, encoded);
                WeightFormat.Decode(type, encoded, expected);
                weight.DecodeRow(row, values);
                Assert.Equal(expected, values);
            }
        }
    }

    [Fact]
    public void FailureOfARowSourceReachesTheCaller()
    {
        Assert.Throws<InvalidDataException>(() => WeightMatrix.FromRows(
            WeightType.Q8_0, 100, 64, (row, _) =>
            {
                if (row == 70)
                    throw new InvalidDataException("row 70");
            },
            _team));
        Assert.Throws<ArgumentException>(() => WeightMatrix.FromRows(WeightType.IQ1_S, 16, 256, (_, _) => { }, _team));
    }

    [Fact]
    public void WrongShapesAreRefused()
    {
        using NativeBuffer bytes = NativeBuffer.Allocate(34 * 2 * 16);
        ByteView view = ByteView.Of(bytes);
        Assert.Throws<ArgumentException>(() => WeightMatrix.Create(WeightType.Q8_0, 15, 64, view, WeightStorage.Mapped, _team));
        Assert.Throws<ArgumentException>(() => WeightMatrix.Create(WeightType.Q8_0, 16, 65, view, WeightStorage.Mapped, _team));
        Assert.Throws<ArgumentOutOfRangeException>(() => WeightMatrix.Create(WeightType.Q8_0, 0, 64, view.Slice(0, 0), WeightStorage.Mapped, _team));
        Assert.Throws<ArgumentOutOfRangeException>(() => WeightMatrix.Create(WeightType.Q8_0, 16, 0, view.Slice(0, 0), WeightStorage.Mapped, _team));
        Assert.Throws<ArgumentException>(() => WeightMatrix.Create((WeightType)99, 16, 64, view, WeightStorage.Mapped, _team));
        using WeightMatrix weight = WeightMatrix.Create(WeightType.Q8_0, 16, 64, view, WeightStorage.Mapped, _team);
        Assert.Throws<ArgumentOutOfRangeException>(() => weight.DecodeRow(16, new float[64]));
        Assert.Throws<ArgumentException>(() => weight.DecodeRow(0, new float[63]));
    }

    [Fact]
    public void GatherLooksUpRows()
    {
        using NativeBuffer bytes = LinearSamples.Weights(WeightType.Q4_K, 40, 256, 3);
        using WeightMatrix weight = LinearSamples.Matrix(WeightType.Q4_K, 40, 256, bytes, WeightStorage.Mapped, _team);
        using NativeBuffer y = NativeBuffer.AllocateFloats(3 * 256);
        int[] ids = [39, 0, 7];
        Embedding.Gather(weight, ids, y.AllFloats, _team);
        var expected = new float[256];
        for (int i = 0; i < ids.Length; i++)
        {
            weight.DecodeRow(ids[i], expected);
            Assert.Equal(expected, y.Floats(i * 256, 256).Span.ToArray());
        }

        Assert.Throws<ArgumentException>(() => Embedding.Gather(weight, [40], y.AllFloats, _team));
        Assert.Throws<ArgumentException>(() => Embedding.Gather(weight, [-1], y.AllFloats, _team));
        Assert.Throws<ArgumentException>(() => Embedding.Gather(weight, [1, 2, 3, 4], y.AllFloats, _team));
    }
}
