namespace Qian.Kernels;

// The definitions of both forms, for one value head.
public static unsafe partial class DeltaRule
{
    private static void ScalarStep(in Head head)
    {
        int keyDim = head.KeyDim, valueDim = head.ValueDim;
        for (int t = 0; t < head.RowCount; t++)
        {
            float* q = head.Q + t * head.InputStride;
            float* k = head.K + t * head.InputStride;
            float* v = head.V + t * head.InputStride;
            float* y = head.Y + t * head.OutputStride;
            float decay = MathF.Exp(head.G[t * head.GateStride]);
            float beta = head.Beta[t * head.GateStride];
            for (int j = 0; j < valueDim; j++)
            {
                float* column = head.State + j;
                float read = 0;
                for (int i = 0; i < keyDim; i++)
                    read += k[i] * (decay * column[i * valueDim]);

                float delta = beta * (v[j] - read);
                float sum = 0;
                for (int i = 0; i < keyDim; i++)
                {
                    float updated = decay * column[i * valueDim] + k[i] * delta;
                    column[i * valueDim] = updated;
                    sum += q[i] * updated;
                }

                y[j] = sum;
            }
        }
    }

    // With G the running sum of g inside the chunk and S the state on entry:
    //   V'_i = β_i (v_i − e^{G_i} k_iᵀS) − Σ_{j<i} β_i (k_i·k_j) e^{G_i−G_j} V'_j    (forward substitution: unit lower triangle)
    //   o_i  = e^{G_i} q_iᵀS + Σ_{j≤i} (q_i·k_j) e^{G_i−G_j} V'_j
    //   S    ← e^{G_C} S + Σ_j e^{G_C−G_j} k_j V'_jᵀ
    // The substitution is applied to the right-hand side itself, so the inverse and its product with K are never formed.
    private static void ScalarChunks(in Head head, in ChunkBuffers buffers)
    {
        int keyDim = head.KeyDim, valueDim = head.ValueDim;
        float* state = head.State;
        float* values = buffers.Values;
        double* logDecay = stackalloc double[ChunkRows];
        for (int start = 0; start < head.RowCount; start += ChunkRows)
        {
            var chunk = new ChunkOfHead(head, start);
            double sum = 0;
            for (int i = 0; i < chunk.RowCount; i++)
                logDecay[i] = sum += Math.Max(chunk.G[i * chunk.GateStride], MinLogDecay);

            for (int i = 0; i < chunk.RowCount; i++)
            {
                float* q = chunk.Q + i * chunk.InputStride, k = chunk.K + i * chunk.InputStride, v = chunk.V + i * chunk.InputStride;
                float* value = values + i * valueDim, y = chunk.Y + i * chunk.OutputStride;
                float beta = chunk.Beta[i * chunk.GateStride];
                float decay = (float)Math.Exp(logDecay[i]);
                for (int c = 0; c < valueDim; c++)
                {
                    float read = 0, output = 0;
                    for (int d = 0; d < keyDim; d++)
                    {
                        read += k[d] * state[d * valueDim + c];
                        output += q[d] * state[d * valueDim + c];
                    }

                    value[c] = beta * (v[c] - decay * read);
                    y[c] = decay * output;
                }

                for (int j = 0; j < i; j++)
                {
                    float weight = beta * Dot(k, chunk.K + j * chunk.InputStride, keyDim) * (float)Math.Exp(logDecay[i] - logDecay[j]);
                    for (int c = 0; c < valueDim; c++)
                        value[c] -= weight * values[j * valueDim + c];
                }

                for (int j = 0; j <= i; j++)
                {
                    float weight = Dot(q, chunk.K + j * chunk.InputStride, keyDim) * (float)Math.Exp(logDecay[i] - logDecay[j]);
                    for (int c = 0; c < valueDim; c++)
                        y[c] += weight * values[j * valueDim + c];
                }
            }

            float whole = (float)Math.Exp(sum);
            for (int i = 0; i < keyDim * valueDim; i++)
                state[i] *= whole;
            for (int j = 0; j < chunk.RowCount; j++)
            {
                float decay = (float)Math.Exp(sum - logDecay[j]);
                for (int d = 0; d < keyDim; d++)
                {
                    float weight = decay * chunk.K[j * chunk.InputStride + d];
                    for (int c = 0; c < valueDim; c++)
                        state[d * valueDim + c] += weight * values[j * valueDim + c];
                }
            }
        }
    }

    // Sums are kept in double because their small differences are what counts. A single gate below MinLogDecay already makes
    // e^g zero in float, and a floor keeps −∞ − −∞ out of the differences.
    private const double MinLogDecay = -1000;

    private static float Dot(float* a, float* b, int count)
    {
        float sum = 0;
        for (int i = 0; i < count; i++)
            sum += a[i] * b[i];
        return sum;
    }
}
