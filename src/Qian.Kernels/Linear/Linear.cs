using System.Numerics;
using System.Runtime.CompilerServices;

namespace Qian.Kernels;

/// <summary>One product of a call: <paramref name="Output"/> row t starts at t * <paramref name="OutputStride"/> and takes the weight's row count of floats.</summary>
public readonly record struct Projection(WeightMatrix Weight, FloatView Output, int OutputStride);

/// <summary>
/// y[rows, out] = x[rows, in] . W[out, in]^T. Float weights (and every type when asked to be exact) are multiplied as floats;
/// quantised ones meet activations rounded to 8 bits with a scale per 32 values: integer sums within a sub-block, float sums over
/// them in the order of K. That order depends neither on the number of rows nor on tiles, chunks or threads, so one row
/// computed alone equals the same row computed among many, bit for bit, within a tier.
/// </summary>
public static unsafe partial class Linear
{
    private const int MaxProjections = 16;
    private const int MinChunkRows = 32, MaxChunkRows = 256, MaxChunkRowsOfFew = 512;

    /// <summary>
    /// Multiplies the <paramref name="rowCount"/> rows of <paramref name="x"/> (row t at t * <paramref name="xStride"/>) by each weight, all of the same
    /// column count. <paramref name="exact"/> decodes quantised weights to floats instead of rounding the activations.
    /// </summary>
    /// <exception cref="ArgumentException">Shapes do not match, or the scratch is too small.</exception>
    public static void Project(
        FloatView x, int xStride, int rowCount, ReadOnlySpan<Projection> projections, LinearScratch scratch, bool exact, ThreadTeam team) =>
        Project(IsaTier.Products, x, xStride, rowCount, projections, scratch, exact, team);

    [SkipLocalsInit]
    internal static void Project(
        Isa isa, FloatView x, int xStride, int rowCount, ReadOnlySpan<Projection> projections, LinearScratch scratch, bool exact, ThreadTeam team)
    {
        if (rowCount == 0 || projections.IsEmpty)
            return;
        int columnCount = projections[0].Weight.ColumnCount;
        bool rounds = Check(x, xStride, rowCount, projections, scratch, exact, columnCount);
        bool emits = isa == Isa.Vnni;
        if (emits)
            isa = Isa.Avx512;
        scratch.Observer?.Invoke(x, xStride, rowCount, projections);

        ActivationTiles tiles = default;
        if (rounds)
        {
            tiles = new ActivationTiles(scratch.Activations.Pointer, isa, rowCount, columnCount);
            ActivationQuantizer.Quantize(isa, x.Pointer, xStride, tiles, team);
        }

        Part* parts = stackalloc Part[projections.Length];
        int chunkCount = 0;
        int chunkRows = RowsPerChunk(projections, rowCount, team.ThreadCount);
        for (int i = 0; i < projections.Length; i++)
        {
            var weight = new WeightRows(projections[i].Weight);
            bool isFloat = exact || !WeightFormat.IsQuantized(weight.Type);
            parts[i] = new Part
            {
                Weight = weight,
                Output = projections[i].Output.Pointer,
                OutputStride = projections[i].OutputStride,
                FirstChunk = chunkCount,
                IsFloat = isFloat,
                Emitted = emits && !isFloat && EmittedDot.Prepare(weight, tiles),
            };
            chunkCount += (projections[i].Weight.RowCount + chunkRows - 1) / chunkRows;
        }

        var job = new Job
        {
            Isa = isa,
            X = x.Pointer,
            XStride = xStride,
            RowCount = rowCount,
            Tiles = tiles,
            Parts = parts,
            PartCount = projections.Length,
            ChunkRows = chunkRows,
        };
        team.Run(ref job, chunkCount);
    }

    // Whole panels, in pairs. Large chunks let many rows of weights share the activations in the second cache, which pays with many of them; with few rows
    // of activations they keep reading in order (64 rows a chunk: 5 to 10 % slower). Small ones do not leave threads idle at the end.
    private static int RowsPerChunk(ReadOnlySpan<Projection> projections, int rowCount, int threadCount)
    {
        long rows = 0;
        foreach (Projection projection in projections)
            rows += projection.Weight.RowCount;
        int chunkRows = rowCount > 16 ? MaxChunkRows : rowCount > 8 ? 2 * MinChunkRows : MaxChunkRowsOfFew;
        while (chunkRows > MinChunkRows && rows < (long)chunkRows * 8 * threadCount)
            chunkRows /= 2;
        return chunkRows;
    }

    // Returns whether any weight needs rounded activations.
    private static bool Check(
        FloatView x, int xStride, int rowCount, ReadOnlySpan<Projection> projections, LinearScratch scratch, bool exact, int columnCount)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(rowCount);
        if (projections.Length > MaxProjections)
            throw new ArgumentException($"At most {MaxProjections} weights in one call, not {projections.Length}.", nameof(projections));
        if (xStride < columnCount || x.Length < (rowCount - 1L) * xStride + columnCount)
            throw new ArgumentException($"{rowCount} rows of {columnCount} values at stride {xStride} do not fit a view of {x.Length} floats.", nameof(x));

        bool rounds = false;
        foreach (Projection projection in projections)
        {
            WeightMatrix weight = projection.Weight;
            if (weight.ColumnCount != columnCount)
                throw new ArgumentException($"Weights of one call must agree on columns: {columnCount} and {weight.ColumnCount}.", nameof(projections));
            if (projection.OutputStride < weight.RowCount || projection.Output.Length < (rowCount - 1L) * projection.OutputStride + weight.RowCount)
                throw new ArgumentException(
                    $"{rowCount} rows of {weight.RowCount} values at stride {projection.OutputStride} do not fit an output of {projection.Output.Length} floats.", nameof(projections));
            rounds |= !exact && WeightFormat.IsQuantized(weight.Type);
        }

        if (rounds && ActivationTiles.Bytes(rowCount, columnCount) > scratch.Activations.Bytes)
            throw new ArgumentException(
                $"{rowCount} rows of {columnCount} values do not fit scratch made for {scratch.MaxRows} of {scratch.MaxColumns}.", nameof(scratch));
        return rounds;
    }

    // One weight of a call, free of managed references. Output[t * OutputStride + row].
    private struct Part
    {
        public WeightRows Weight;
        public float* Output;
        public long OutputStride;
        public int FirstChunk;
        public bool IsFloat;
        public bool Emitted;
    }

    private struct Job : IChunkedJob
    {
        public Isa Isa;
        public float* X;
        public long XStride;
        public int RowCount;
        public ActivationTiles Tiles;
        public Part* Parts;
        public int PartCount;
        public int ChunkRows;

        public readonly void Run(int chunk)
        {
            Part* part = Parts + PartCount - 1;
            while (chunk < part->FirstChunk)
                part--;
            int first = (chunk - part->FirstChunk) * ChunkRows;
            int end = Math.Min(first + ChunkRows, part->Weight.RowCount);
            if (Isa == Isa.Scalar && part->IsFloat)
                FloatScalar(part, first, end, X, XStride, RowCount);
            else if (Isa == Isa.Scalar)
                IntegerScalar(part, first, end, Tiles);
            else if (part->IsFloat)
                FloatRows(Isa, part, first, end, X, XStride, RowCount);
            else if (part->Emitted && EmittedDot.TakesPacked(part->Weight, Tiles))
                PackedRows(part, first, end, Tiles);
            else
                IntegerRows(Isa, part, first, end, Tiles);
            // Products of floats have met it in the weights already.
            if (part->Weight.Factor != 1 && !part->IsFloat)
                Scale(part, first, end);
        }

        private readonly void Scale(Part* part, int first, int end)
        {
            var factor = new Vector<float>(part->Weight.Factor);
            for (int t = 0; t < RowCount; t++)
            {
                float* values = part->Output + t * part->OutputStride;
                int row = first;
                for (; row <= end - Vector<float>.Count; row += Vector<float>.Count)
                    (Vector.Load(values + row) * factor).Store(values + row);
                for (; row < end; row++)
                    values[row] *= part->Weight.Factor;
            }
        }
    }
}
