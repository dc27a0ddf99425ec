namespace Qian.Kernels;

/// <summary>Looks up rows of an embedding matrix.</summary>
public static unsafe partial class Embedding
{
    /// <summary>y[i] = weight[ids[i]] as floats; row i starts at i * the weight's column count.</summary>
    /// <exception cref="ArgumentException">An id is outside the matrix, or y is too short.</exception>
    public static void Gather(WeightMatrix weight, ReadOnlySpan<int> ids, FloatView y, ThreadTeam team)
    {
        if (y.Length < (long)ids.Length * weight.ColumnCount)
            throw new ArgumentException($"{ids.Length} rows of {weight.ColumnCount} values do not fit a view of {y.Length} floats.", nameof(y));
        foreach (int id in ids)
        {
            if (id < 0 || id >= weight.RowCount)
                throw new ArgumentException($"Id {id} is outside an embedding of {weight.RowCount} rows.", nameof(ids));
        }

        fixed (int* pointer = ids)
        {
            var job = new Job { Weight = new WeightRows(weight), Ids = pointer, Y = y.Pointer };
            team.Run(ref job, ids.Length);
        }
    }

    private struct Job : IChunkedJob
    {
        public WeightRows Weight;
        public int* Ids;
        public float* Y;

        public readonly void Run(int chunk) =>
            Weight.Decode(Ids[chunk], 0, Weight.ColumnCount, Y + (long)chunk * Weight.ColumnCount);
    }
}
