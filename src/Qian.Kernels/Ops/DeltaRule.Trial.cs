using System.Runtime.Intrinsics;

namespace Qian.Kernels;

// The recurrent form on tokens that may turn out not to belong to the text: outputs as Step gives them, the state left alone.
// A value head's state (64 KiB at 128 x 128) is copied to the scratch of the thread that works on it and changes there, in the
// second-level cache; memory sees the state read once and never written. What belongs to the text is replayed through Step.
public static unsafe partial class DeltaRule
{
    /// <summary>The outputs of <see cref="Step"/>, bit for bit, without changing <paramref name="state"/>.</summary>
    /// <param name="shape">Sizes of the layer.</param>
    /// <param name="qkv">[rowCount, 2·KeyHeads·KeyDim + ValueHeads·ValueDim]: q, k, v; q and k normalised, q scaled.</param>
    /// <param name="g">[rowCount, ValueHeads], log of the decay, at most 0.</param>
    /// <param name="beta">[rowCount, ValueHeads].</param>
    /// <param name="state">[ValueHeads, KeyDim, ValueDim], read only.</param>
    /// <param name="y">[rowCount, ValueHeads·ValueDim]; must not overlap the inputs.</param>
    /// <param name="rowCount">Tokens.</param>
    /// <param name="team">Threads; no more than <paramref name="scratch"/> was made for are used.</param>
    /// <param name="scratch">Made for the same shape.</param>
    /// <exception cref="ArgumentException">A view is too short, the shape impossible or the scratch made for another.</exception>
    public static void StepKeepingState(in DeltaShape shape, FloatView qkv, FloatView g, FloatView beta, FloatView state, FloatView y, int rowCount, ThreadTeam team,
        DeltaScratch scratch) => StepKeepingState(IsaTier.Current, shape, qkv, g, beta, state, y, rowCount, team, scratch);

    internal static void StepKeepingState(Isa isa, in DeltaShape shape, FloatView qkv, FloatView g, FloatView beta, FloatView state, FloatView y, int rowCount,
        ThreadTeam team, DeltaScratch scratch)
    {
        if (scratch.Shape != shape)
            throw new ArgumentException($"scratch for {scratch.Shape} does not serve {shape}", nameof(scratch));
        var job = new TrialJob
        {
            Isa = isa,
            Data = Checked(shape, qkv, g, beta, state, y, rowCount),
            Scratch = scratch.Pointer,
            SlotFloats = scratch.SlotFloats,
        };
        if (rowCount > 0)
            team.Run(ref job, Math.Min(Math.Min(team.ThreadCount, scratch.SlotCount), shape.ValueHeads));
    }

    // As in ChunkJob, a chunk is a slot of scratch that takes heads from the shared counter until none is left.
    private struct TrialJob : IChunkedJob
    {
        public Isa Isa;
        public Sequence Data;
        public float* Scratch;
        public long SlotFloats;
        private int _nextHead;

        public void Run(int chunkIndex)
        {
            float* copy = Scratch + chunkIndex * SlotFloats;
            long stateBytes = (long)Data.Shape.KeyDim * Data.Shape.ValueDim * sizeof(float);
            while (true)
            {
                int valueHead = Interlocked.Increment(ref _nextHead) - 1;
                if (valueHead >= Data.Shape.ValueHeads)
                    return;
                Head head = Data.HeadAt(valueHead);
                Buffer.MemoryCopy(head.State, copy, stateBytes, stateBytes);
                head.State = copy;
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
    }
}
