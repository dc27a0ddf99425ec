using Qian.Inference;
using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Weights;

// What each type costs each matrix: the share of its output's energy that the encoder's error makes, columns weighed by how
// strongly the importance matrix saw them driven. Large matrices are judged by evenly spread rows.
internal static class TensorErrors
{
    // From fewest to most bits. Types whose blocks do not fit a row are left out for that row.
    public static IReadOnlyList<WeightType> Types { get; } =
        [WeightType.Q2_K, WeightType.Q3_K, WeightType.IQ4_XS, WeightType.Q4_K, WeightType.Q5_K, WeightType.Q6_K, WeightType.Q8_0, WeightType.BF16];

    private const long MostValues = 1 << 19;   // of a tensor

    // Of every tensor: for each type that fits its rows, the relative squared error.
    public static Dictionary<PlannedTensor, SortedDictionary<WeightType, double>> Measure(
        IReadOnlyList<PlannedTensor> tensors, ModelConfig config, ImportanceMatrix? importance, int threadCount, Action<long, long>? progress, CancellationToken cancellation)
    {
        ValueHeadMove move = ValueHeadMove.ToGguf(config);
        var errors = tensors.ToDictionary(tensor => tensor, _ => new SortedDictionary<WeightType, double>());
        (PlannedTensor Tensor, WeightType Type)[] work = [.. tensors.SelectMany(tensor => Types.Where(type => tensor.ColumnCount % WeightFormat.BlockValues(type) == 0).Select(type => (tensor, type)))];
        long done = 0;
        Parallel.ForEach(work, new ParallelOptions { MaxDegreeOfParallelism = threadCount, CancellationToken = cancellation }, item =>
        {
            double error = RelativeError(item.Tensor, item.Type, move, importance);
            lock (errors)
            {
                errors[item.Tensor].Add(item.Type, error);
                progress?.Invoke(++done, work.Length);
            }
        });
        return errors;
    }

    private static double RelativeError(PlannedTensor tensor, WeightType type, ValueHeadMove move, ImportanceMatrix? importance)
    {
        int width = tensor.ColumnCount;
        long rowsInAll = (long)tensor.RowCount * tensor.Sources.Count;
        long stride = Math.Max(1, rowsInAll * width / MostValues);
        var stored = new float[width];
        var values = new float[width];
        var decoded = new float[width];
        var weights = new float[width];
        var bytes = new byte[WeightFormat.RowBytes(type, width)];
        double error = 0, energy = 0;
        int matrix = -1;
        bool isWeighed = false;
        for (long row = stride / 2; row < rowsInAll; row += stride)
        {
            int sourceIndex = (int)(row / tensor.RowCount);
            if (sourceIndex != matrix)
            {
                matrix = sourceIndex;
                isWeighed = importance?.Find(tensor.Name, width, matrix, tensor.Sources.Count)?.TryRead(weights) == true;
            }

            tensor.Sources[matrix].DecodeRows(move.SourceRow(tensor.Role, (int)(row % tensor.RowCount)), 1, stored);
            move.Reorder(tensor.Role, stored, values);
            WeightFormat.Encode(type, values, bytes, isWeighed && WeightFormat.IsQuantized(type) ? weights : default);
            WeightFormat.Decode(type, bytes, decoded);
            for (int i = 0; i < width; i++)
            {
                double weight = isWeighed ? weights[i] : 1, difference = (double)values[i] - decoded[i];
                error += weight * difference * difference;
                energy += weight * values[i] * values[i];
            }
        }

        return energy > 0 ? error / energy : 0;
    }
}
