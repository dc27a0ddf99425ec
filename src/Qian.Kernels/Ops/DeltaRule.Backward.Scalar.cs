namespace Qian.Kernels;

// The definitions of the training forms, for one value head of one sample.
public static unsafe partial class DeltaRule
{
    private static void ScalarForward(in Head head, float* state)
    {
        int stateFloats = head.KeyDim * head.ValueDim;
        new Span<float>(state, stateFloats).Clear();
        Head chunk = head;
        chunk.State = state;
        float* kept = head.ChunkStates;
        for (int start = 0; start < head.RowCount; start += ChunkRows, kept += head.ChunkStateStride)
        {
            new ReadOnlySpan<float>(state, stateFloats).CopyTo(new Span<float>(kept, stateFloats));
            chunk.RowCount = Math.Min(ChunkRows, head.RowCount - start);
            ScalarStep(chunk);
            chunk.Q += ChunkRows * chunk.InputStride;
            chunk.K += ChunkRows * chunk.InputStride;
            chunk.V += ChunkRows * chunk.InputStride;
            chunk.G += ChunkRows * chunk.GateStride;
            chunk.Beta += ChunkRows * chunk.GateStride;
            chunk.Y += ChunkRows * chunk.OutputStride;
        }
    }

    // Row by row from behind, a column of the state at a time, because columns know nothing of each other. With D the gradient of
    // the state after the row, S' = e^g S and ε = v − kᵀS', so δ = βε and the new state is S' + kδ:
    //   dq += do · (S' + kδ);  D += q · do;  dk += δ · D;  dδ = kᵀD;  dβ += ε dδ;  dv = β dδ
    //   dk −= dv · S';  D −= k · dv;  dg += DᵀS';  D ← e^g D
    // Here dy is the head's Y. The first value head of a key head overwrites dq and dk, the others add to them.
    private static void ScalarBackward(in Head head, in Head gradient, in ScalarBackwardBuffers buffers, bool first)
    {
        int keyDim = head.KeyDim, valueDim = head.ValueDim;
        new Span<double>(buffers.StateGradient, keyDim * valueDim).Clear();
        for (int index = ChunksOf(head.RowCount) - 1; index >= 0; index--)
        {
            int start = index * ChunkRows;
            ChunkOfHead chunk = new(head, start), output = new(gradient, start);
            float* state = head.ChunkStates + index * head.ChunkStateStride;
            new Span<double>(buffers.QueryGradient, chunk.RowCount * keyDim).Clear();
            new Span<double>(buffers.KeyGradient, chunk.RowCount * keyDim).Clear();
            new Span<double>(buffers.GateGradient, chunk.RowCount).Clear();
            new Span<double>(buffers.BetaGradient, chunk.RowCount).Clear();
            for (int column = 0; column < valueDim; column++)
            {
                for (int i = 0; i < keyDim; i++)
                    buffers.Columns[i] = state[i * valueDim + column];
                ScalarColumnForward(chunk, column, keyDim, buffers);
                ScalarColumnBackward(chunk, output, column, keyDim, buffers);
            }

            for (int row = 0; row < chunk.RowCount; row++)
            {
                float* dq = output.Q + row * output.InputStride, dk = output.K + row * output.InputStride;
                for (int i = 0; i < keyDim; i++)
                {
                    dq[i] = (float)(buffers.QueryGradient[row * keyDim + i] + (first ? 0 : dq[i]));
                    dk[i] = (float)(buffers.KeyGradient[row * keyDim + i] + (first ? 0 : dk[i]));
                }

                output.G[row * output.GateStride] = (float)buffers.GateGradient[row];
                output.Beta[row * output.GateStride] = (float)buffers.BetaGradient[row];
            }
        }
    }

    // Fills the column before and after every row, and ε.
    private static void ScalarColumnForward(in ChunkOfHead chunk, int column, int keyDim, in ScalarBackwardBuffers buffers)
    {
        for (int row = 0; row < chunk.RowCount; row++)
        {
            double* before = buffers.Columns + row * keyDim, after = before + keyDim;
            float* k = chunk.K + row * chunk.InputStride;
            double decay = Math.Exp(chunk.G[row * chunk.GateStride]), read = 0;
            for (int i = 0; i < keyDim; i++)
                read += k[i] * (decay * before[i]);
            double error = chunk.V[row * chunk.InputStride + column] - read;
            double delta = chunk.Beta[row * chunk.GateStride] * error;
            for (int i = 0; i < keyDim; i++)
                after[i] = decay * before[i] + k[i] * delta;
            buffers.Error[row] = error;
        }
    }

    private static void ScalarColumnBackward(in ChunkOfHead chunk, in ChunkOfHead output, int column, int keyDim, in ScalarBackwardBuffers buffers)
    {
        double* gradient = buffers.StateGradient + (long)column * keyDim;
        for (int row = chunk.RowCount - 1; row >= 0; row--)
        {
            double* before = buffers.Columns + row * keyDim, after = before + keyDim;
            double* dq = buffers.QueryGradient + row * keyDim, dk = buffers.KeyGradient + row * keyDim;
            float* q = chunk.Q + row * chunk.InputStride, k = chunk.K + row * chunk.InputStride;
            double decay = Math.Exp(chunk.G[row * chunk.GateStride]), beta = chunk.Beta[row * chunk.GateStride];
            double dOutput = chunk.Y[row * chunk.OutputStride + column], dDelta = 0, dGate = 0;
            for (int i = 0; i < keyDim; i++)
            {
                dq[i] += dOutput * after[i];
                gradient[i] += q[i] * dOutput;
                dDelta += k[i] * gradient[i];
            }

            double error = buffers.Error[row], delta = beta * error, dValue = beta * dDelta;
            for (int i = 0; i < keyDim; i++)
            {
                double decayed = decay * before[i];
                dk[i] += delta * gradient[i] - dValue * decayed;
                gradient[i] -= k[i] * dValue;
                dGate += gradient[i] * decayed;
                gradient[i] *= decay;
            }

            output.V[row * output.InputStride + column] = (float)dValue;
            buffers.BetaGradient[row] += error * dDelta;
            buffers.GateGradient[row] += dGate;
        }
    }
}
