namespace Qian.Kernels.Tests;

// A store must hold what packing each matrix alone holds, wherever the bytes come from: files read past the page cache or through it, in windows
// that outnumber the ring, memory, encoded rows, or another store's file.
public sealed class WeightStoreTests : IDisposable
{
    private const int LeadBytes = 100; // an offset that is no page border
    private const int Columns = 2048;

    private readonly string _folder = Directory.CreateTempSubdirectory("qian-test-").FullName;
    private readonly ThreadTeam _team = new(2);

    public void Dispose()
    {
        _team.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(long.MaxValue)]
    public void MatricesOfFilesHoldTheirRows(long directFromBytes)
    {
        // 27 MB in 2 MiB windows: more than the ring has places. The second matrix' last panel is padded.
        const int FirstRows = 12000, SecondRows = 1003;
        using NativeBuffer some = LinearSamples.Weights(WeightType.Q8_0, 40, Columns, 3);
        using NativeBuffer others = LinearSamples.Weights(WeightType.Q4_K, SecondRows, Columns, 4);
        using MappedFile file = Write("weights", some, FirstRows / 40, others);
        using var store = new WeightStore();
        // Added against the order of the file, with one that is in memory and one that is encoded.
        long firstBytes = FirstRows / 40 * some.Bytes;
        WeightMatrix second = store.Pack(WeightType.Q4_K, SecondRows, Columns, file.View(LeadBytes + firstBytes, others.Bytes));
        WeightMatrix first = store.Pack(WeightType.Q8_0, FirstRows, Columns, file.View(LeadBytes, firstBytes));
        WeightMatrix third = store.Pack(WeightType.Q8_0, 40, Columns, ByteView.Of(some));
        WeightMatrix encoded = store.Encode(WeightType.BF16, 21, Columns, (row, values) => values.Fill(row));
        var reports = new List<(int Index, long Bytes)>();
        store.Fill(_team, (index, bytes) => reports.Add((index, bytes)), directFromBytes, CancellationToken.None);

        RowsAre(WeightType.Q8_0, some, first);
        RowsAre(WeightType.Q4_K, others, second);
        RowsAre(WeightType.Q8_0, some, third);
        var row = new float[Columns];
        encoded.DecodeRow(20, row);
        Assert.All(row, value => Assert.Equal(20, value));
        Assert.Equal((3, firstBytes + others.Bytes + some.Bytes + 21 * Columns * 2), reports[^1]);
        Assert.Equal(reports.Select(report => report.Bytes).Order(), reports.Select(report => report.Bytes));
    }

    [Fact]
    public void AnotherStoreTakesItsBytes()
    {
        using NativeBuffer weights = LinearSamples.Weights(WeightType.Q6_K, 50, 256, 3);
        using NativeBuffer others = LinearSamples.Weights(WeightType.MXFP4, 7, 96, 3);
        using var store = new WeightStore();
        (WeightMatrix first, WeightMatrix second) = Two(store, weights, others);
        Assert.Throws<InvalidOperationException>(() => store.Region.Length);
        Assert.Throws<InvalidOperationException>(() => first.DecodeRow(0, new float[256]));
        store.Fill(_team);
        Assert.Throws<InvalidOperationException>(() => Two(store, weights, others));
        Assert.Throws<InvalidOperationException>(() => store.Fill(_team));
        string path = Path.Combine(_folder, "store");
        using (FileStream stream = File.Create(path))
        {
            stream.Write(new byte[4096]);
            stream.Write(store.Region.Span(0, (int)store.Bytes));
        }

        using var another = new WeightStore();
        (WeightMatrix firstAgain, WeightMatrix secondAgain) = Two(another, weights, others);
        Assert.Equal(store.Describe(), another.Describe());
        Assert.Throws<ArgumentOutOfRangeException>(() => another.Use(MappedFile.Open(path), 4097));
        another.Use(MappedFile.Open(path), 4096);
        Assert.True(another.IsMapped);
        RowsAre(WeightType.Q6_K, weights, firstAgain);
        RowsAre(WeightType.MXFP4, others, secondAgain);
        RowsAre(WeightType.MXFP4, others, second);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(long.MaxValue)]
    public void AFileThatShrankIsAnError(long directFromBytes)
    {
        const int Rows = 4000;
        using NativeBuffer weights = LinearSamples.Weights(WeightType.Q8_0, 40, Columns, 3);
        using MappedFile file = Write("weights", weights, Rows / 40, null);
        using (var stream = new FileStream(file.Path, FileMode.Open, FileAccess.Write, FileShare.ReadWrite))
            stream.SetLength(stream.Length / 2);
        using var store = new WeightStore();
        store.Pack(WeightType.Q8_0, Rows, Columns, file.View(LeadBytes, file.Length - LeadBytes));
        IOException error = Assert.Throws<IOException>(() => store.Fill(_team, null, directFromBytes, CancellationToken.None));
        Assert.Contains(file.Path, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void CancellingStopsTheFilling()
    {
        const int Rows = 80000;
        using NativeBuffer weights = LinearSamples.Weights(WeightType.Q8_0, 40, Columns, 3);
        using MappedFile file = Write("weights", weights, Rows / 40, null);
        using var store = new WeightStore();
        store.Pack(WeightType.Q8_0, Rows, Columns, file.View(LeadBytes, file.Length - LeadBytes));
        using var stop = new CancellationTokenSource();
        Assert.Throws<OperationCanceledException>(() => store.Fill(_team, (_, _) => stop.Cancel(), stop.Token));
    }

    [Fact]
    public void WhatCannotBePackedOrEncodedIsRefused()
    {
        using NativeBuffer bytes = NativeBuffer.Allocate(16 * 64 * 2);
        using var store = new WeightStore();
        Assert.Throws<ArgumentException>(() => store.Pack(WeightType.BF16, 16, 64, ByteView.Of(bytes)));
        Assert.Throws<ArgumentException>(() => store.Pack(WeightType.Q8_0, 16, 64, ByteView.Of(bytes)));
        Assert.Throws<ArgumentException>(() => store.Encode(WeightType.IQ1_S, 16, 256, (_, _) => { }));
        Assert.Equal((0, 0), (store.Count, store.Bytes));
    }

    private static (WeightMatrix First, WeightMatrix Second) Two(WeightStore store, NativeBuffer weights, NativeBuffer others) =>
        (store.Pack(WeightType.Q6_K, 50, 256, ByteView.Of(weights)), store.Pack(WeightType.MXFP4, 7, 96, ByteView.Of(others)));

    // `repeated` so many times, then `last`.
    private MappedFile Write(string name, NativeBuffer repeated, int count, NativeBuffer? last)
    {
        string path = Path.Combine(_folder, name);
        using (FileStream stream = File.Create(path))
        {
            stream.Write(new byte[LeadBytes]);
            for (int i = 0; i < count; i++)
                stream.Write(repeated.Span<byte>(0, (int)repeated.Bytes));
            if (last is not null)
                stream.Write(last.Span<byte>(0, (int)last.Bytes));
        }

        return MappedFile.Open(path);
    }

    // The matrix' rows are those of `bytes`, over and over.
    private static void RowsAre(WeightType type, NativeBuffer bytes, WeightMatrix matrix)
    {
        int rowBytes = (int)WeightFormat.RowBytes(type, matrix.ColumnCount);
        int rowCount = (int)(bytes.Bytes / rowBytes);
        var expected = new float[matrix.ColumnCount];
        var actual = new float[matrix.ColumnCount];
        for (int row = 0; row < matrix.RowCount; row += matrix.RowCount > 4000 ? 7 : 1)
        {
            WeightFormat.Decode(type, bytes.Span<byte>(row % rowCount * rowBytes, rowBytes), expected);
            matrix.DecodeRow(row, actual);
            Assert.Equal(expected, actual);
        }
    }
}
