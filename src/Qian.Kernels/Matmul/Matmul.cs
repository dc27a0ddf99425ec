using System.Runtime.CompilerServices;

namespace Qian.Kernels;

/// <summary>
/// The dense products of training: c = a · b, or c += a · b, for any strides of a and b, so that the three uses of a weight are one call each:
/// y = x·Wᵀ is <c>Multiply(x, W.Transposed, y)</c>, dx = dy·W is <c>Multiply(dy, W, dx)</c>, dW += dyᵀ·x is <c>Multiply(dy.Transposed, x, dW, accumulate: true)</c>.
/// Definition (the scalar tier): each element is summed over K in ascending order in double, rounded to float once, then stored or added to c.
/// The fast tiers (Matmul.Packed.cs) sum in float32, K cut into blocks whose sizes depend on K alone; so a result depends neither on the
/// number of threads nor on where in a matrix an element stands, bit for bit.
/// </summary>
public static unsafe partial class Matmul
{
    // Below this many multiply-accumulates a fork-join costs more than it saves.
    private const double WorthForking = 128 * 1024;

    /// <summary>
    /// <paramref name="c"/> [M, N] = <paramref name="a"/> [M, K] · <paramref name="b"/> [K, N]; with <paramref name="accumulate"/>, added to what c holds.
    /// c must have a column stride of 1 and share no float with a or b. Allocates nothing.
    /// </summary>
    /// <exception cref="ArgumentException">Shapes do not match, or c's rows are not contiguous, overlap each other or are those of a or b.</exception>
    public static void Multiply(
        in MatrixView a, in MatrixView b, in MatrixView c, bool accumulate, MatmulPrecision precision, MatmulScratch scratch, ThreadTeam team) =>
        Multiply(IsaTier.Current, a, b, c, accumulate, precision, scratch, team);

    internal static void Multiply(
        Isa isa, in MatrixView a, in MatrixView b, in MatrixView c, bool accumulate, MatmulPrecision precision, MatmulScratch scratch, ThreadTeam team)
    {
        ArgumentNullException.ThrowIfNull(scratch);
        ArgumentNullException.ThrowIfNull(team);
        Check(a, b, c);
        if (precision is not (MatmulPrecision.Float32 or MatmulPrecision.BFloat16))
            throw new ArgumentOutOfRangeException(nameof(precision));
        if (c.RowCount == 0 || c.ColumnCount == 0)
            return;
        if (isa == Isa.Scalar || a.ColumnCount == 0)
            MultiplyScalar(a, b, c, accumulate, team);
        else
            MultiplyPacked(MicroKernel.For(isa, precision), a, b, c, accumulate, scratch, team);
    }

    private static void Check(in MatrixView a, in MatrixView b, in MatrixView c)
    {
        if (a.ColumnCount != b.RowCount || a.RowCount != c.RowCount || b.ColumnCount != c.ColumnCount)
            throw new ArgumentException(
                $"[{a.RowCount}, {a.ColumnCount}] times [{b.RowCount}, {b.ColumnCount}] is not [{c.RowCount}, {c.ColumnCount}].", nameof(c));
        if (c.ColumnCount > 1 && c.ColumnStride != 1)
            throw new ArgumentException($"The result's rows must be contiguous, not at a column stride of {c.ColumnStride}.", nameof(c));
        if (c.RowCount > 1 && c.RowStride < c.ColumnCount)
            throw new ArgumentException($"The result's rows of {c.ColumnCount} floats overlap at a stride of {c.RowStride}.", nameof(c));
        if (c.RowCount > 0 && c.ColumnCount > 0 && a.ColumnCount > 0 && (c.Pointer == a.Pointer || c.Pointer == b.Pointer))
            throw new ArgumentException("The result must not lie over an operand.", nameof(c));
    }

    private static void MultiplyScalar(in MatrixView a, in MatrixView b, in MatrixView c, bool accumulate, ThreadTeam team)
    {
        var job = new ScalarJob
        {
            A = Operand.Left(a),
            B = Operand.Right(b),
            C = c.Pointer,
            CStride = c.RowStride,
            RowCount = c.RowCount,
            ColumnCount = c.ColumnCount,
            InnerCount = a.ColumnCount,
            Accumulate = accumulate,
            RowsPerChunk = IsWorthForking(c, a.ColumnCount) ? Math.Max(1, c.RowCount / (8 * team.ThreadCount)) : c.RowCount,
        };
        team.Run(ref job, (c.RowCount + job.RowsPerChunk - 1) / job.RowsPerChunk);
    }

    private static bool IsWorthForking(in MatrixView c, int innerCount) => (double)c.RowCount * c.ColumnCount * innerCount >= WorthForking;

    // One factor, seen along its own dimension (a's rows or b's columns) and along K. A dimension of one has no stride to speak of,
    // whatever the view says: multiples of it must not run out of the address space.
    private readonly struct Operand
    {
        private readonly float* _values;

        private Operand(float* values, int count, long stride, int innerCount, long innerStride)
        {
            _values = values;
            Stride = count > 1 ? stride : 0;
            InnerStride = innerCount > 1 ? innerStride : 0;
        }

        public long Stride { get; }

        public long InnerStride { get; }

        public static Operand Left(in MatrixView a) => new(a.Pointer, a.RowCount, a.RowStride, a.ColumnCount, a.ColumnStride);

        public static Operand Right(in MatrixView b) => new(b.Pointer, b.ColumnCount, b.ColumnStride, b.RowCount, b.RowStride);

        public float* At(long index, long inner) => _values + index * Stride + inner * InnerStride;
    }

    private struct ScalarJob : IChunkedJob
    {
        // Columns summed side by side, so that rows of b are read along.
        private const int Width = 64;

        public Operand A, B;
        public float* C;
        public long CStride;
        public int RowCount, ColumnCount, InnerCount, RowsPerChunk;
        public bool Accumulate;

        [SkipLocalsInit]
        public readonly void Run(int chunkIndex)
        {
            double* sums = stackalloc double[Width];
            int end = (int)Math.Min((long)(chunkIndex + 1L) * RowsPerChunk, RowCount);
            for (int row = chunkIndex * RowsPerChunk; row < end; row++)
            {
                for (int first = 0; first < ColumnCount; first += Width)
                    Row(row, first, Math.Min(Width, ColumnCount - first), sums);
            }
        }

        private readonly void Row(int row, int firstColumn, int count, double* sums)
        {
            new Span<double>(sums, count).Clear();
            for (int k = 0; k < InnerCount; k++)
            {
                double factor = *A.At(row, k);
                float* from = B.At(firstColumn, k);
                for (int j = 0; j < count; j++)
                    sums[j] += factor * from[j * B.Stride];
            }

            float* to = C + row * CStride + firstColumn;
            for (int j = 0; j < count; j++)
                to[j] = Accumulate ? to[j] + (float)sums[j] : (float)sums[j];
        }
    }
}
