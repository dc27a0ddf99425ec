namespace Qian.Kernels;

// The definition: each (row, head) alone, in plain loops. Every fast tier keeps this order of partitions, tokens and dimensions.
public static unsafe partial class Attention
{
    private static void ApplyScalar(in AttentionCall call, ThreadTeam team)
    {
        var job = new ScalarJob { Call = call };
        team.Run(ref job, checked(call.RowCount * call.Shape.Heads));
    }

    private struct ScalarJob : IChunkedJob
    {
        public AttentionCall Call;

        public readonly void Run(int chunkIndex)
        {
            int rowIndex = chunkIndex / Call.Shape.Heads, headIndex = chunkIndex % Call.Shape.Heads;
            int kvHeadIndex = headIndex / Call.Shape.HeadsPerKvHead;
            int headDim = Call.Shape.HeadDim;
            int keyCount = Call.FirstToken + rowIndex + 1;
            float scale = Call.Scale;
            float* vector = stackalloc float[headDim];
            float* query = stackalloc float[headDim];
            float* sum = stackalloc float[headDim];
            float* scores = stackalloc float[PartitionTokens];
            float* y = Call.Results + Call.Offset(rowIndex, headIndex);
            float* q = Call.Queries + Call.Offset(rowIndex, headIndex);
            for (int d = 0; d < headDim; d++)
                query[d] = q[d] * scale;

            float max = 0, total = 0;
            for (int first = 0; first < keyCount; first += PartitionTokens)
            {
                int count = Math.Min(PartitionTokens, keyCount - first);
                float partMax = float.NegativeInfinity, partTotal = 0;
                for (int i = 0; i < count; i++)
                {
                    int token = first + i;
                    KvCodec.LoadKey(Call.Blocks[token / Call.Kv.BlockTokens], Call.LayerIndex, kvHeadIndex, token % Call.Kv.BlockTokens, vector);
                    float score = 0;
                    for (int d = 0; d < headDim; d++)
                        score += query[d] * vector[d];
                    scores[i] = score;
                    partMax = MathF.Max(partMax, score);
                }

                new Span<float>(sum, headDim).Clear();
                for (int i = 0; i < count; i++)
                {
                    int token = first + i;
                    float weight = MathF.Exp(scores[i] - partMax);
                    partTotal += weight;
                    KvCodec.LoadValue(Call.Blocks[token / Call.Kv.BlockTokens], Call.LayerIndex, kvHeadIndex, token % Call.Kv.BlockTokens, vector);
                    for (int d = 0; d < headDim; d++)
                        sum[d] += weight * vector[d];
                }

                AttentionFold.Fold(first == 0, ref max, ref total, y, partMax, partTotal, sum, headDim);
            }

            AttentionFold.Finish(total, y, headDim);
        }
    }
}
