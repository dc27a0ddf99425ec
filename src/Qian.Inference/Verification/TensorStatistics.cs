using Qian.Inference.Formats;

namespace Qian.Inference.Verification;

// What one pass over (some rows of) a tensor tells of it. Rows are decoded piece by piece on several threads, so memory holds
// a piece per thread and one number per row, whatever the tensor's size.
internal sealed record TensorStatistics(string Name, TensorRole Role, int Layer, int RowCount, int RowsRead)
{
    private const int PieceValues = 1 << 18;

    public long NotFinite { get; private set; }

    // Rows of nothing but zeros, and rows that are the row before them once more (zeros left out).
    public int ZeroRows { get; private set; }

    public int RepeatedRows { get; private set; }

    public double Rms { get; private set; }

    public double Smallest { get; private set; } = double.PositiveInfinity;

    public double Largest { get; private set; } = double.NegativeInfinity;

    // Share of values below zero.
    public double NegativeShare { get; private set; }

    // The largest row's rms over that of the row in the middle.
    public double RowSpread { get; private set; }

    // Reads every `stride`-th row and its successor (two together show repetition), and always the last one.
    public static TensorStatistics Of(TensorSource source, TensorRole role, int layer, int stride, int threadCount, bool releasePages, CancellationToken cancellation)
    {
        int groupRows = stride == 1 ? Math.Clamp(PieceValues / source.ColumnCount, 2, 4096) : 2;
        int step = stride == 1 ? groupRows : stride * 2;
        int groupCount = (source.RowCount + step - 1) / step;
        var groups = new Group[groupCount];
        var options = new ParallelOptions { MaxDegreeOfParallelism = threadCount, CancellationToken = cancellation };
        Parallel.For(0, groupCount, options, () => new float[groupRows * source.ColumnCount], (index, _, buffer) =>
        {
            int first = index == groupCount - 1 && stride > 1 ? Math.Max(source.RowCount - groupRows, 0) : index * step;
            groups[index] = Read(source, first, Math.Min(groupRows, source.RowCount - first), buffer, releasePages);
            return buffer;
        }, _ => { });
        return Together(groups, source, role, layer);
    }

    private static TensorStatistics Together(Group[] groups, TensorSource source, TensorRole role, int layer)
    {
        int rows = groups.Sum(group => group.RowRms.Length);
        var result = new TensorStatistics(source.Name, role, layer, source.RowCount, rows);
        long values = 0, negative = 0;
        double squares = 0;
        var rms = new List<float>(rows);
        foreach (Group group in groups)
        {
            result.NotFinite += group.NotFinite;
            result.RepeatedRows += group.Repeated;
            result.Smallest = Math.Min(result.Smallest, group.Smallest);
            result.Largest = Math.Max(result.Largest, group.Largest);
            negative += group.Negative;
            values += (long)group.RowRms.Length * source.ColumnCount;
            foreach (float row in group.RowRms)
            {
                squares += (double)row * row * source.ColumnCount;
                result.ZeroRows += row == 0 ? 1 : 0;
                if (row > 0)
                    rms.Add(row);
            }
        }

        result.Rms = Math.Sqrt(squares / values);
        result.NegativeShare = negative / (double)values;
        rms.Sort();
        result.RowSpread = rms.Count == 0 ? 1 : rms[^1] / (double)rms[rms.Count / 2];
        return result;
    }

    private static Group Read(TensorSource source, int firstRow, int count, float[] buffer, bool releasePages)
    {
        int width = source.ColumnCount;
        Span<float> values = buffer.AsSpan(0, count * width);
        source.DecodeRows(firstRow, count, values);
        if (releasePages && source.Type is { } type)
        {
            long rowBytes = Kernels.WeightFormat.RowBytes(type, width);
            source.Data.Slice(firstRow * rowBytes, count * rowBytes).Release();
        }

        var group = new Group { RowRms = new float[count], Smallest = double.PositiveInfinity, Largest = double.NegativeInfinity };
        for (int row = 0; row < count; row++)
        {
            ReadOnlySpan<float> own = values.Slice(row * width, width);
            double squares = 0;
            float least = float.PositiveInfinity, most = float.NegativeInfinity;
            foreach (float value in own)
            {
                if (!float.IsFinite(value))
                {
                    group.NotFinite++;
                    continue;
                }

                squares += (double)value * value;
                least = Math.Min(least, value);
                most = Math.Max(most, value);
                group.Negative += value < 0 ? 1 : 0;
            }

            group.RowRms[row] = (float)Math.Sqrt(squares / width);
            group.Smallest = Math.Min(group.Smallest, least);
            group.Largest = Math.Max(group.Largest, most);
            if (row > 0 && squares > 0 && own.SequenceEqual(values.Slice((row - 1) * width, width)))
                group.Repeated++;
        }

        return group;
    }

    private struct Group
    {
        public float[] RowRms;
        public long NotFinite;
        public long Negative;
        public int Repeated;
        public double Smallest;
        public double Largest;
    }
}
