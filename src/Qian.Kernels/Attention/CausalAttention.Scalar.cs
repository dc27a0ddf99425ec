namespace Qian.Kernels;

// The definition: each output row alone, in plain loops and double precision, rounded once at the end. Scores are computed
// wherever they are needed instead of being kept.
public static unsafe partial class CausalAttention
{
    private static void ForwardScalar(in CausalCall call, ReadOnlySpan<int> borders, ThreadTeam team)
    {
        for (int sample = 0; sample + 1 < borders.Length; sample++)
        {
            var job = new ScalarForwardJob { Call = call, FirstRow = borders[sample] };
            team.Run(ref job, checked((borders[sample + 1] - borders[sample]) * call.Shape.Heads));
        }
    }

    private static void BackwardScalar(in CausalCall call, ReadOnlySpan<int> borders, ThreadTeam team)
    {
        for (int sample = 0; sample + 1 < borders.Length; sample++)
        {
            int rowCount = borders[sample + 1] - borders[sample];
            var queries = new ScalarQueryJob { Call = call, FirstRow = borders[sample] };
            team.Run(ref queries, checked(rowCount * call.Shape.Heads));
            var keys = new ScalarKeyJob { Call = call, FirstRow = borders[sample], EndRow = borders[sample + 1] };
            team.Run(ref keys, checked(rowCount * call.Shape.KvHeads));
        }
    }

    private static double Dot(float* a, float* b, int count)
    {
        double sum = 0;
        for (int i = 0; i < count; i++)
            sum += (double)a[i] * b[i];
        return sum;
    }

    private static void AddScaled(double factor, float* x, double* sum, int count)
    {
        for (int i = 0; i < count; i++)
            sum[i] += factor * x[i];
    }

    private static void Round(double* sum, double factor, float* to, int count)
    {
        for (int i = 0; i < count; i++)
            to[i] = (float)(sum[i] * factor);
    }

    private static double Score(in CausalCall call, int row, int head, int key) =>
        Dot(call.Q + call.QueryOffset(row, head), call.K + call.KeyOffset(key, head / call.Shape.HeadsPerKvHead), call.Shape.HeadDim) / Math.Sqrt(call.Shape.HeadDim);

    // One row of one query head: y and logSumExp.
    private struct ScalarForwardJob : IChunkedJob
    {
        public CausalCall Call;
        public int FirstRow;

        public readonly void Run(int chunkIndex)
        {
            int row = FirstRow + chunkIndex / Call.Shape.Heads, head = chunkIndex % Call.Shape.Heads;
            int kvHead = head / Call.Shape.HeadsPerKvHead, headDim = Call.Shape.HeadDim;
            double* sum = stackalloc double[headDim];
            new Span<double>(sum, headDim).Clear();
            double max = double.NegativeInfinity, total = 0;
            for (int key = FirstRow; key <= row; key++)
                max = Math.Max(max, Score(Call, row, head, key));
            for (int key = FirstRow; key <= row; key++)
            {
                double weight = Math.Exp(Score(Call, row, head, key) - max);
                total += weight;
                AddScaled(weight, Call.V + Call.KeyOffset(key, kvHead), sum, headDim);
            }

            Round(sum, 1 / total, Call.Y + Call.QueryOffset(row, head), headDim);
            Call.LogSumExp[Call.RowOffset(row, head)] = (float)(max + Math.Log(total));
        }
    }

    // One row of one query head: y·dy and dq.
    private struct ScalarQueryJob : IChunkedJob
    {
        public CausalCall Call;
        public int FirstRow;

        public readonly void Run(int chunkIndex)
        {
            int row = FirstRow + chunkIndex / Call.Shape.Heads, head = chunkIndex % Call.Shape.Heads;
            int kvHead = head / Call.Shape.HeadsPerKvHead, headDim = Call.Shape.HeadDim;
            double* sum = stackalloc double[headDim];
            new Span<double>(sum, headDim).Clear();
            long offset = Call.QueryOffset(row, head);
            double dot = Dot(Call.Y + offset, Call.DY + offset, headDim);
            Call.Dots[Call.RowOffset(row, head)] = dot;
            for (int key = FirstRow; key <= row; key++)
            {
                double weight = Math.Exp(Score(Call, row, head, key) - Call.LogSumExp[Call.RowOffset(row, head)]);
                double slope = weight * (Dot(Call.DY + offset, Call.V + Call.KeyOffset(key, kvHead), headDim) - dot);
                AddScaled(slope, Call.K + Call.KeyOffset(key, kvHead), sum, headDim);
            }

            Round(sum, 1 / Math.Sqrt(headDim), Call.DQ + offset, headDim);
        }
    }

    // One row of one key/value head: dk and dv, summed over the query heads that read it, one after the other.
    private struct ScalarKeyJob : IChunkedJob
    {
        public CausalCall Call;
        public int FirstRow;
        public int EndRow;

        public readonly void Run(int chunkIndex)
        {
            int key = FirstRow + chunkIndex / Call.Shape.KvHeads, kvHead = chunkIndex % Call.Shape.KvHeads;
            int headDim = Call.Shape.HeadDim, group = Call.Shape.HeadsPerKvHead;
            double* keySum = stackalloc double[headDim];
            double* valueSum = stackalloc double[headDim];
            new Span<double>(keySum, headDim).Clear();
            new Span<double>(valueSum, headDim).Clear();
            long offset = Call.KeyOffset(key, kvHead);
            for (int head = kvHead * group; head < (kvHead + 1) * group; head++)
            {
                for (int row = key; row < EndRow; row++)
                {
                    float* dy = Call.DY + Call.QueryOffset(row, head);
                    double weight = Math.Exp(Score(Call, row, head, key) - Call.LogSumExp[Call.RowOffset(row, head)]);
                    double slope = weight * (Dot(dy, Call.V + offset, headDim) - Call.Dots[Call.RowOffset(row, head)]);
                    AddScaled(weight, dy, valueSum, headDim);
                    AddScaled(slope, Call.Q + Call.QueryOffset(row, head), keySum, headDim);
                }
            }

            Round(keySum, 1 / Math.Sqrt(headDim), Call.DK + offset, headDim);
            Round(valueSum, 1, Call.DV + offset, headDim);
        }
    }
}
