using System.Runtime.Intrinsics;

namespace Qian.Kernels;

/// <summary>
/// The gated delta rule of one sequence. Per value head and token, with the state S [key, value]:
/// S ← e^g S; δ = β (v − kᵀS); S ← S + k δᵀ; o = qᵀS, in this order.
/// <see cref="Step"/> does that token by token; <see cref="Chunk"/> does the same algebra on 64 tokens at a time with matrix
/// products. Value heads run in parallel, and a row's result
/// depends on nothing after it.
/// </summary>
public static unsafe partial class DeltaRule
{
    /// <summary>Tokens per chunk of <see cref="Chunk"/>; the first chunk starts at row 0 of the call.</summary>
    public const int ChunkRows = 64;

    /// <summary>The recurrent form: the one for few rows. Splitting the rows over several calls changes no bit.</summary>
    /// <param name="shape">Sizes of the layer.</param>
    /// <param name="qkv">[rowCount, 2·KeyHeads·KeyDim + ValueHeads·ValueDim]: q, k, v; q and k normalised, q scaled.</param>
    /// <param name="g">[rowCount, ValueHeads], log of the decay, at most 0.</param>
    /// <param name="beta">[rowCount, ValueHeads].</param>
    /// <param name="state">[ValueHeads, KeyDim, ValueDim], updated.</param>
    /// <param name="y">[rowCount, ValueHeads·ValueDim]; must not overlap the inputs.</param>
    /// <param name="rowCount">Tokens.</param>
    /// <param name="team">Threads.</param>
    /// <exception cref="ArgumentException">A view is too short or the shape impossible.</exception>
    public static void Step(in DeltaShape shape, FloatView qkv, FloatView g, FloatView beta, FloatView state, FloatView y, int rowCount, ThreadTeam team) =>
        Step(IsaTier.Current, shape, qkv, g, beta, state, y, rowCount, team);

    /// <summary>The chunked form: the one for many rows. Splitting at multiples of <see cref="ChunkRows"/> changes no bit.</summary>
    /// <param name="shape">Sizes of the layer.</param>
    /// <param name="qkv">[rowCount, 2·KeyHeads·KeyDim + ValueHeads·ValueDim]: q, k, v; q and k normalised, q scaled.</param>
    /// <param name="g">[rowCount, ValueHeads], log of the decay, at most 0.</param>
    /// <param name="beta">[rowCount, ValueHeads].</param>
    /// <param name="state">[ValueHeads, KeyDim, ValueDim], updated.</param>
    /// <param name="y">[rowCount, ValueHeads·ValueDim]; must not overlap the inputs.</param>
    /// <param name="rowCount">Tokens.</param>
    /// <param name="team">Threads; no more than <paramref name="scratch"/> was made for are used.</param>
    /// <param name="scratch">Made for the same shape.</param>
    /// <exception cref="ArgumentException">A view is too short, the shape impossible or the scratch made for another.</exception>
    public static void Chunk(in DeltaShape shape, FloatView qkv, FloatView g, FloatView beta, FloatView state, FloatView y, int rowCount, ThreadTeam team,
        DeltaScratch scratch) => Chunk(IsaTier.Current, shape, qkv, g, beta, state, y, rowCount, team, scratch);

    internal static void Step(Isa isa, in DeltaShape shape, FloatView qkv, FloatView g, FloatView beta, FloatView state, FloatView y, int rowCount,
        ThreadTeam team)
    {
        var job = new StepJob { Isa = isa, Data = Checked(shape, qkv, g, beta, state, y, rowCount) };
        if (rowCount > 0)
            team.Run(ref job, shape.ValueHeads);
    }

    internal static void Chunk(Isa isa, in DeltaShape shape, FloatView qkv, FloatView g, FloatView beta, FloatView state, FloatView y, int rowCount,
        ThreadTeam team, DeltaScratch scratch)
    {
        if (scratch.Shape != shape)
            throw new ArgumentException($"scratch for {scratch.Shape} does not serve {shape}", nameof(scratch));
        int threadCount = Math.Min(team.ThreadCount, scratch.SlotCount);
        // Value heads of one key head share its products, unless that leaves threads idle. Either way gives the same bits.
        bool together = shape.KeyHeads % threadCount == 0 || shape.KeyHeads >= 4 * threadCount;
        var job = new ChunkJob
        {
            Isa = isa,
            Data = Checked(shape, qkv, g, beta, state, y, rowCount),
            Scratch = scratch.Pointer,
            SlotFloats = scratch.SlotFloats,
            HeadsPerUnit = together ? shape.ValueHeadsPerKeyHead : 1,
        };
        if (rowCount > 0)
            team.Run(ref job, Math.Min(threadCount, shape.ValueHeads / job.HeadsPerUnit));
    }

    private static Sequence Checked(in DeltaShape shape, FloatView qkv, FloatView g, FloatView beta, FloatView state, FloatView y, int rowCount)
    {
        shape.Check();
        Expect.AtLeast(rowCount, 0);
        Expect.Floats(qkv, (long)rowCount * shape.RowWidth);
        Expect.Floats(g, (long)rowCount * shape.ValueHeads);
        Expect.Floats(beta, (long)rowCount * shape.ValueHeads);
        Expect.Floats(state, shape.StateLength);
        Expect.Floats(y, (long)rowCount * shape.OutputWidth);
        return new Sequence
        {
            Shape = shape,
            Qkv = qkv.Pointer,
            G = g.Pointer,
            Beta = beta.Pointer,
            State = state.Pointer,
            Y = y.Pointer,
            RowCount = rowCount,
        };
    }

    /// <summary>The arguments of a call. Training has no state going in or out, but keeps the one before each chunk.</summary>
    private struct Sequence
    {
        public DeltaShape Shape;
        public float* Qkv, G, Beta, State, Y, ChunkStates;
        public int RowCount;

        public readonly Sequence Rows(int first, int count)
        {
            Sequence rows = this;
            rows.Qkv += (long)first * Shape.RowWidth;
            rows.G += (long)first * Shape.ValueHeads;
            rows.Beta += (long)first * Shape.ValueHeads;
            rows.Y += (long)first * Shape.OutputWidth;
            rows.RowCount = count;
            return rows;
        }

        public readonly Head HeadAt(int valueHead)
        {
            int keyHead = Shape.KeyHeadOf(valueHead);
            return new Head
            {
                Q = Qkv + (long)keyHead * Shape.KeyDim,
                K = Qkv + (long)(Shape.KeyHeads + keyHead) * Shape.KeyDim,
                V = Qkv + 2L * Shape.KeyHeads * Shape.KeyDim + (long)valueHead * Shape.ValueDim,
                G = G + valueHead,
                Beta = Beta + valueHead,
                State = State == null ? null : State + (long)valueHead * Shape.KeyDim * Shape.ValueDim,
                ChunkStates = ChunkStates == null ? null : ChunkStates + (long)valueHead * Shape.KeyDim * Shape.ValueDim,
                Y = Y + (long)valueHead * Shape.ValueDim,
                InputStride = Shape.RowWidth,
                GateStride = Shape.ValueHeads,
                OutputStride = Shape.OutputWidth,
                ChunkStateStride = (nint)Shape.StateLength,
                KeyDim = Shape.KeyDim,
                ValueDim = Shape.ValueDim,
                RowCount = RowCount,
            };
        }
    }

    /// <summary>One value head: pointers to its first row, strides in floats from row to row. State [KeyDim, ValueDim] is contiguous.</summary>
    private struct Head
    {
        public float* Q, K, V, G, Beta, State, Y, ChunkStates;
        public nint InputStride, GateStride, OutputStride, ChunkStateStride;
        public int KeyDim, ValueDim, RowCount;
    }

    private struct StepJob : IChunkedJob
    {
        public Isa Isa;
        public Sequence Data;

        public readonly void Run(int chunkIndex)
        {
            Head head = Data.HeadAt(chunkIndex);
            switch (Isa)
            {
                case Isa.Avx512:
                    Step<Lanes512, Vector512<float>>(head);
                    break;
                case Isa.Avx2 or Isa.Arm64:
                    Step<Lanes256, Vector256<float>>(head);
                    break;
                default:
                    ScalarStep(head);
                    break;
            }
        }
    }

    // The team numbers chunks, not threads, and scratch belongs to a thread: a chunk here is a slot of scratch that takes units of
    // value heads from the shared counter until none is left. The job lives once, on the caller's stack, so the counter is common.
    private struct ChunkJob : IChunkedJob
    {
        public Isa Isa;
        public Sequence Data;
        public float* Scratch;
        public long SlotFloats;
        public int HeadsPerUnit;
        private int _nextUnit;

        public void Run(int chunkIndex)
        {
            var buffers = new ChunkBuffers(Scratch + chunkIndex * SlotFloats, Data.Shape);
            int unitsPerKeyHead = Data.Shape.ValueHeadsPerKeyHead / HeadsPerUnit;
            while (true)
            {
                int unit = Interlocked.Increment(ref _nextUnit) - 1;
                int keyHead = unit / unitsPerKeyHead;
                if (keyHead >= Data.Shape.KeyHeads)
                    return;
                var heads = new HeadUnit { Data = Data, KeyHead = keyHead, First = unit % unitsPerKeyHead * HeadsPerUnit, Count = HeadsPerUnit };
                switch (Isa)
                {
                    case Isa.Avx512:
                        Chunks<Lanes512, Vector512<float>>(heads, buffers);
                        break;
                    case Isa.Avx2 or Isa.Arm64:
                        Chunks<Lanes256, Vector256<float>>(heads, buffers);
                        break;
                    default:
                        for (int i = 0; i < heads.Count; i++)
                            ScalarChunks(heads[i], buffers);
                        break;
                }
            }
        }
    }

    /// <summary>Value heads that read the same key head.</summary>
    private struct HeadUnit
    {
        public Sequence Data;
        public int KeyHead, First, Count;

        public readonly Head this[int index] => Data.HeadAt(Data.Shape.ValueHeadOf(KeyHead, First + index));
    }
}
