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
        // [ChunkRows, ValueDim]; the substitution happens in place.
        float* values = buffers.Products;
        for (int start = 0; start < head.RowCount; start += ChunkRows)
        {
            int rowCount = Math.Min(ChunkRows, head.RowCount - start);
            float* q = head.Q + start * head.InputStride;
            float* k = head.K + start * head.InputStride;
            float* v = head.V + start * head.InputStride;
            float* y = head.Y + start * head.OutputStride;
            double* logDecay = buffers.LogDecay;
            SumGates(head, start, rowCount, logDecay);

            for (int i = 0; i < rowCount; i++)
            {
                float beta = head.Beta[(start + i) * head.GateStride];
                float decay = (float)Math.Exp(logDecay[i]);
                for (int c = 0; c < valueDim; c++)
                {
                    float read = 0, output = 0;
                    for (int d = 0; d < keyDim; d++)
                    {
                        read += k[i * head.InputStride + d] * head.State[d * valueDim + c];
                        output += q[i * head.InputStride + d] * head.State[d * valueDim + c];
                    }

                    values[i * valueDim + c] = beta * (v[i * head.InputStride + c] - decay * read);
                    y[i * head.OutputStride + c] = decay * output;
                }

                for (int j = 0; j <= i; j++)
                {
                    float between = (float)Math.Exp(logDecay[i] - logDecay[j]);
                    float weight = beta * Dot(k + i * head.InputStride, k + j * head.InputStride, keyDim) * between;
                    for (int c = 0; j < i && c < valueDim; c++)
                        values[i * valueDim + c] -= weight * values[j * valueDim + c];
                }

                for (int j = 0; j <= i; j++)
                {
                    float between = (float)Math.Exp(logDecay[i] - logDecay[j]);
                    float score = Dot(q + i * head.InputStride, k + j * head.InputStride, keyDim) * between;
                    for (int c = 0; c < valueDim; c++)
                        y[i * head.OutputStride + c] += score * values[j * valueDim + c];
                }
            }

            double last = logDecay[rowCount - 1];
            float whole = (float)Math.Exp(last);
            for (int d = 0; d < keyDim; d++)
            {
                for (int c = 0; c < valueDim; c++)
                    head.State[d * valueDim + c] *= whole;
                for (int j = 0; j < rowCount; j++)
                {
                    float weight = (float)Math.Exp(last - logDecay[j]) * k[j * head.InputStride + d];
                    for (int c = 0; c < valueDim; c++)
                        head.State[d * valueDim + c] += weight * values[j * valueDim + c];
                }
            }
        }
    }

    // Sums are kept in double because their small differences are what counts. A single gate below MinLogDecay already makes
    // e^g zero in float, and a floor keeps −∞ − −∞ out of the differences.
    private const double MinLogDecay = -1000;

    private static void SumGates(in Head head, int start, int rowCount, double* logDecay)
    {
        double sum = 0;
        for (int i = 0; i < rowCount; i++)
        {
            sum += Math.Max(head.G[(start + i) * head.GateStride], MinLogDecay);
            logDecay[i] = sum;
        }
    }

    private static float Dot(float* a, float* b, int count)
    {
        float sum = 0;
        for (int i = 0; i < count; i++)
            sum += a[i] * b[i];
        return sum;
    }
}
