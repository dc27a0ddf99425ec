using System.Diagnostics;

namespace Qian.Kernels;

/// <summary>How long one product took: best of several.</summary>
/// <param name="Tier">The kernels that ran.</param>
/// <param name="Type">Type of the weights.</param>
/// <param name="RowCount">Rows of activations: 1 decodes, 2 to 8 verify drafts or serve several texts, more prefill.</param>
/// <param name="Seconds">Seconds of the fastest run.</param>
/// <param name="WeightBytes">Bytes of weights as they lie in memory.</param>
/// <param name="Macs">Multiply-adds.</param>
public readonly record struct ProductTiming(Isa Tier, WeightType Type, int RowCount, double Seconds, long WeightBytes, long Macs)
{
    /// <summary>Billion bytes of weights per second.</summary>
    public double GigabytesPerSecond => WeightBytes / Seconds / 1e9;

    /// <summary>Billion multiply-adds per second.</summary>
    public double GmacsPerSecond => Macs / Seconds / 1e9;
}

/// <summary>
/// Times <see cref="Linear.Project"/> with made-up weights for every type that has kernels of its own and every tier of the machine: the micro-benchmark
/// behind a new kernel. Matrices are several times the last cache, so that a single row shows what memory allows.
/// </summary>
public static class ProductTimings
{
    private const int Columns = 5120;
    private const int DistinctRows = 64;
    private const long MatrixBytes = 96 << 20;
    private const int ScalarShare = 64;

    private static readonly int[] s_rowCounts = [1, 4, 8, 64, 128];

    /// <summary>Types that are measured, in the order of the results.</summary>
    public static IReadOnlyList<WeightType> Types { get; } =
        Array.FindAll(Enum.GetValues<WeightType>(), type => WeightMatrix.HasPackedLayout(type) || type is WeightType.BF16 or WeightType.F16 or WeightType.F32);

    /// <summary>Runs all of it, each point at least <paramref name="seconds"/> long; <paramref name="share"/> of the full matrix size, for a look.</summary>
    public static IEnumerable<ProductTiming> Measure(ThreadTeam team, double seconds, double share = 1)
    {
        ArgumentNullException.ThrowIfNull(team);
        int most = s_rowCounts[^1];
        using NativeBuffer x = NativeBuffer.AllocateFloats((long)most * Columns);
        var random = new Random(1);
        foreach (ref float value in x.AllFloats.Span)
            value = 2 * random.NextSingle() - 1;
        using var scratch = new LinearScratch(most, Columns, team.ThreadCount);
        foreach (WeightType type in Types)
        {
            int rows = Math.Max(DistinctRows, (int)(share * MatrixBytes / WeightFormat.RowBytes(type, Columns)) / DistinctRows * DistinctRows);
            using NativeBuffer file = Rows(type, rows, random);
            using WeightMatrix whole = WeightMatrix.Create(type, rows, Columns, ByteView.Of(file), WeightStorage.Packed, team);
            int few = Math.Max(DistinctRows, rows / ScalarShare);
            using WeightMatrix part = WeightMatrix.Create(type, few, Columns, ByteView.Of(file).Slice(0, few * WeightFormat.RowBytes(type, Columns)), WeightStorage.Packed, team);
            using NativeBuffer y = NativeBuffer.AllocateFloats((long)most * rows);
            foreach (Isa tier in IsaTier.Offered)
            {
                // The definition is hundreds of times slower and never waits for memory: a small matrix says the same.
                WeightMatrix weight = tier == Isa.Scalar ? part : whole;
                foreach (int rowCount in tier == Isa.Scalar ? s_rowCounts.AsSpan(0, 1).ToArray() : s_rowCounts)
                    yield return Time(tier, weight, rowCount, x, y, scratch, team, seconds);
            }
        }
    }

    private static ProductTiming Time(Isa tier, WeightMatrix weight, int rowCount, NativeBuffer x, NativeBuffer y, LinearScratch scratch, ThreadTeam team, double seconds)
    {
        Projection[] projections = [new Projection(weight, y.AllFloats, weight.RowCount)];
        double best = double.PositiveInfinity;
        long start = Stopwatch.GetTimestamp();
        // The first run may compile; there is always a second.
        for (int run = 0; run < 2 || Stopwatch.GetElapsedTime(start).TotalSeconds < seconds; run++)
        {
            long one = Stopwatch.GetTimestamp();
            Linear.Project(tier, x.AllFloats, Columns, rowCount, projections, scratch, exact: false, team);
            best = Math.Min(best, Stopwatch.GetElapsedTime(one).TotalSeconds);
        }

        return new ProductTiming(tier, weight.Type, rowCount, best, weight.StoredBytes, (long)weight.RowCount * Columns * rowCount);
    }

    // A few rows over and over. Random bytes are as good as weights, once no scale claims a size that makes results infinite.
    private static NativeBuffer Rows(WeightType type, int rowCount, Random random)
    {
        int rowBytes = (int)WeightFormat.RowBytes(type, Columns), blockBytes = WeightFormat.BlockBytes(type);
        NativeBuffer rows = NativeBuffer.Allocate((long)rowCount * rowBytes);
        var values = new float[WeightFormat.BlockValues(type)];
        for (int at = 0; at < DistinctRows * rowBytes; at += blockBytes)
        {
            Span<byte> block = rows.Span<byte>(at, blockBytes);
            do
            {
                random.NextBytes(block);
                WeightFormat.Decode(type, block, values);
            }
            while (!Array.TrueForAll(values, value => MathF.Abs(value) < 1));
        }

        for (long row = DistinctRows; row < rowCount; row++)
            rows.Span<byte>(row % DistinctRows * rowBytes, rowBytes).CopyTo(rows.Span<byte>(row * rowBytes, rowBytes));
        return rows;
    }
}
