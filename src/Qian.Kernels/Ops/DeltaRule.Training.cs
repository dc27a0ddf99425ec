using System.Runtime.Intrinsics;

namespace Qian.Kernels;

// The delta rule of training: samples laid end to end, each from an empty state and with chunks counted from its own border. The
// forward keeps the state before every chunk, so that the backward can run through the chunks from behind and recompute only
// what lies inside one. A unit of work is one sample and one key head with its value heads, because these add up in the gradients
// of q and k: always in the same order, whatever the threads do.
public static unsafe partial class DeltaRule
{
    /// <summary>Chunks of all samples: what the states of <c>Forward</c> are counted by.</summary>
    /// <param name="borders">Sample s takes the rows borders[s]…borders[s+1]−1; the first is 0.</param>
    /// <exception cref="ArgumentException">Borders that do not start at 0 or that fall.</exception>
    public static int ChunkCount(ReadOnlySpan<int> borders)
    {
        CheckBorders(borders);
        int count = 0;
        for (int sample = 0; sample + 1 < borders.Length; sample++)
            count += ChunksOf(borders[sample + 1] - borders[sample]);
        return count;
    }

    /// <summary>All samples forward, keeping what <c>Backward</c> needs. The state is zero at each border.</summary>
    /// <param name="shape">Sizes of the layer.</param>
    /// <param name="qkv">[rows, 2·KeyHeads·KeyDim + ValueHeads·ValueDim]: q, k, v; q and k normalised, q scaled.</param>
    /// <param name="g">[rows, ValueHeads], log of the decay, at most 0.</param>
    /// <param name="beta">[rows, ValueHeads].</param>
    /// <param name="y">[rows, ValueHeads·ValueDim]; must not overlap the inputs.</param>
    /// <param name="chunkStates">[<see cref="ChunkCount"/>, ValueHeads, KeyDim, ValueDim], written: the state before each chunk.</param>
    /// <param name="borders">Sample s takes the rows borders[s]…borders[s+1]−1; the first is 0, the last the row count.</param>
    /// <param name="scratch">Made for the same shape.</param>
    /// <param name="team">Threads; no more than <paramref name="scratch"/> was made for are used.</param>
    /// <exception cref="ArgumentException">A view is too short, the shape or the borders impossible, or the scratch made for another shape.</exception>
    public static void Forward(in DeltaShape shape, FloatView qkv, FloatView g, FloatView beta, FloatView y, FloatView chunkStates,
        ReadOnlySpan<int> borders, DeltaTrainingScratch scratch, ThreadTeam team) =>
        Forward(IsaTier.Current, shape, qkv, g, beta, y, chunkStates, borders, scratch, team);

    /// <summary>Gradients of all inputs of <c>Forward</c> from those of its output.</summary>
    /// <param name="shape">Sizes of the layer.</param>
    /// <param name="qkv">As the forward took it.</param>
    /// <param name="g">As the forward took it.</param>
    /// <param name="beta">As the forward took it.</param>
    /// <param name="chunkStates">As the forward left it.</param>
    /// <param name="dy">[rows, ValueHeads·ValueDim], gradient of the output.</param>
    /// <param name="dQkv">[rows, 2·KeyHeads·KeyDim + ValueHeads·ValueDim], overwritten; must not overlap the inputs.</param>
    /// <param name="dg">[rows, ValueHeads], overwritten.</param>
    /// <param name="dbeta">[rows, ValueHeads], overwritten.</param>
    /// <param name="borders">As the forward took them.</param>
    /// <param name="scratch">Made for the same shape.</param>
    /// <param name="team">Threads; no more than <paramref name="scratch"/> was made for are used.</param>
    /// <exception cref="ArgumentException">A view is too short, the shape or the borders impossible, or the scratch made for another shape.</exception>
    public static void Backward(in DeltaShape shape, FloatView qkv, FloatView g, FloatView beta, FloatView chunkStates, FloatView dy, FloatView dQkv,
        FloatView dg, FloatView dbeta, ReadOnlySpan<int> borders, DeltaTrainingScratch scratch, ThreadTeam team) =>
        Backward(IsaTier.Current, shape, qkv, g, beta, chunkStates, dy, dQkv, dg, dbeta, borders, scratch, team);

    internal static void Forward(Isa isa, in DeltaShape shape, FloatView qkv, FloatView g, FloatView beta, FloatView y, FloatView chunkStates,
        ReadOnlySpan<int> borders, DeltaTrainingScratch scratch, ThreadTeam team)
    {
        CheckTraining(shape, qkv, g, beta, chunkStates, borders, scratch);
        int rowCount = borders[^1], unitCount = checked((borders.Length - 1) * shape.KeyHeads);
        Expect.Floats(y, (long)rowCount * shape.OutputWidth);
        int threadCount = Math.Min(team.ThreadCount, scratch.SlotCount);
        // As in Chunk: heads of one key head together, unless that leaves threads idle; the bits are the same.
        bool together = unitCount % threadCount == 0 || unitCount >= 4 * threadCount;
        int headsPerUnit = together ? shape.ValueHeadsPerKeyHead : 1;
        fixed (int* samples = borders)
        {
            var job = new TrainingForwardJob
            {
                Isa = isa,
                Data = new Sequence { Shape = shape, Qkv = qkv.Pointer, G = g.Pointer, Beta = beta.Pointer, Y = y.Pointer, RowCount = rowCount },
                ChunkStates = chunkStates.Pointer,
                Scratch = scratch.Pointer,
                SlotFloats = scratch.SlotFloats,
                HeadsPerUnit = headsPerUnit,
                Samples = new SampleBorders { Starts = samples, Count = borders.Length - 1 },
            };
            if (rowCount > 0)
                team.Run(ref job, threadCount);
        }
    }

    internal static void Backward(Isa isa, in DeltaShape shape, FloatView qkv, FloatView g, FloatView beta, FloatView chunkStates, FloatView dy,
        FloatView dQkv, FloatView dg, FloatView dbeta, ReadOnlySpan<int> borders, DeltaTrainingScratch scratch, ThreadTeam team)
    {
        CheckTraining(shape, qkv, g, beta, chunkStates, borders, scratch);
        int rowCount = borders[^1];
        Expect.Floats(dy, (long)rowCount * shape.OutputWidth);
        Expect.Floats(dQkv, (long)rowCount * shape.RowWidth);
        Expect.Floats(dg, (long)rowCount * shape.ValueHeads);
        Expect.Floats(dbeta, (long)rowCount * shape.ValueHeads);
        fixed (int* samples = borders)
        {
            var job = new TrainingBackwardJob
            {
                Isa = isa,
                Data = new Sequence { Shape = shape, Qkv = qkv.Pointer, G = g.Pointer, Beta = beta.Pointer, Y = dy.Pointer, RowCount = rowCount },
                ChunkStates = chunkStates.Pointer,
                Gradients = new Sequence { Shape = shape, Qkv = dQkv.Pointer, G = dg.Pointer, Beta = dbeta.Pointer, RowCount = rowCount },
                Scratch = scratch.Pointer,
                SlotFloats = scratch.SlotFloats,
                Samples = new SampleBorders { Starts = samples, Count = borders.Length - 1 },
            };
            if (rowCount > 0)
                team.Run(ref job, Math.Min(team.ThreadCount, scratch.SlotCount));
        }
    }

    private static void CheckTraining(in DeltaShape shape, FloatView qkv, FloatView g, FloatView beta, FloatView chunkStates, ReadOnlySpan<int> borders,
        DeltaTrainingScratch scratch)
    {
        shape.Check();
        if (scratch.Shape != shape)
            throw new ArgumentException($"scratch for {scratch.Shape} does not serve {shape}", nameof(scratch));
        int chunkCount = ChunkCount(borders), rowCount = borders[^1];
        Expect.Floats(qkv, (long)rowCount * shape.RowWidth);
        Expect.Floats(g, (long)rowCount * shape.ValueHeads);
        Expect.Floats(beta, (long)rowCount * shape.ValueHeads);
        Expect.Floats(chunkStates, chunkCount * shape.StateLength);
    }

    private static void CheckBorders(ReadOnlySpan<int> borders)
    {
        if (borders.Length == 0 || borders[0] != 0)
            throw new ArgumentException("borders: expected the first to be 0", nameof(borders));
        for (int i = 1; i < borders.Length; i++)
        {
            if (borders[i] < borders[i - 1])
                throw new ArgumentException($"borders: {borders[i]} follows {borders[i - 1]}", nameof(borders));
        }
    }

    private static int ChunksOf(int rowCount) => (int)((rowCount + (ChunkRows - 1L)) / ChunkRows);

    /// <summary>The borders, with a cursor that knows how many chunks lie before the sample: one moves forward only.</summary>
    private struct SampleBorders
    {
        public int* Starts;
        public int Count;
        private int _sample, _chunksBefore;

        public readonly int First => Starts[_sample];

        public readonly int RowCount => Starts[_sample + 1] - Starts[_sample];

        public readonly int ChunksBefore => _chunksBefore;

        public void MoveTo(int sample)
        {
            for (; _sample < sample; _sample++)
                _chunksBefore += ChunksOf(RowCount);
        }
    }

    // Like ChunkJob: a chunk of the team is a slot of scratch, which takes units from the shared counter until none is left.
    private struct TrainingForwardJob : IChunkedJob
    {
        public Isa Isa;
        public Sequence Data;
        public SampleBorders Samples;
        public float* ChunkStates, Scratch;
        public long SlotFloats;
        public int HeadsPerUnit;
        private int _nextUnit;

        public void Run(int chunkIndex)
        {
            DeltaShape shape = Data.Shape;
            float* slot = Scratch + chunkIndex * SlotFloats;
            SampleBorders samples = Samples;
            int unitsPerKeyHead = shape.ValueHeadsPerKeyHead / HeadsPerUnit, unitsPerSample = unitsPerKeyHead * shape.KeyHeads;
            while (true)
            {
                int unit = Interlocked.Increment(ref _nextUnit) - 1;
                if (unit / unitsPerSample >= samples.Count)
                    return;
                samples.MoveTo(unit / unitsPerSample);
                unit %= unitsPerSample;
                var heads = new HeadUnit
                {
                    Data = Data.Rows(samples.First, samples.RowCount),
                    KeyHead = unit / unitsPerKeyHead,
                    First = unit % unitsPerKeyHead * HeadsPerUnit,
                    Count = HeadsPerUnit,
                };
                heads.Data.ChunkStates = ChunkStates + samples.ChunksBefore * shape.StateLength;
                switch (Isa)
                {
                    case Isa.Avx512:
                        Chunks<Lanes512, Vector512<float>>(heads, new ChunkBuffers(slot, shape));
                        break;
                    case Isa.Avx2 or Isa.Arm64:
                        Chunks<Lanes256, Vector256<float>>(heads, new ChunkBuffers(slot, shape));
                        break;
                    default:
                        for (int i = 0; i < heads.Count; i++)
                            ScalarForward(heads[i], slot);
                        break;
                }
            }
        }
    }

    private struct TrainingBackwardJob : IChunkedJob
    {
        public Isa Isa;
        public Sequence Data, Gradients;
        public SampleBorders Samples;
        public float* ChunkStates, Scratch;
        public long SlotFloats;
        private int _nextUnit;

        public void Run(int chunkIndex)
        {
            DeltaShape shape = Data.Shape;
            float* slot = Scratch + chunkIndex * SlotFloats;
            SampleBorders samples = Samples;
            while (true)
            {
                int unit = Interlocked.Increment(ref _nextUnit) - 1;
                if (unit / shape.KeyHeads >= samples.Count)
                    return;
                samples.MoveTo(unit / shape.KeyHeads);
                int keyHead = unit % shape.KeyHeads;
                var heads = new HeadUnit { Data = Data.Rows(samples.First, samples.RowCount), KeyHead = keyHead, Count = shape.ValueHeadsPerKeyHead };
                heads.Data.ChunkStates = ChunkStates + samples.ChunksBefore * shape.StateLength;
                var gradients = new HeadUnit { Data = Gradients.Rows(samples.First, samples.RowCount), KeyHead = keyHead, Count = heads.Count };
                switch (Isa)
                {
                    case Isa.Avx512:
                        ChunksBackward<Lanes512, Vector512<float>>(heads, gradients, new DeltaBackwardBuffers(slot, shape), slot);
                        break;
                    case Isa.Avx2 or Isa.Arm64:
                        ChunksBackward<Lanes256, Vector256<float>>(heads, gradients, new DeltaBackwardBuffers(slot, shape), slot);
                        break;
                    default:
                        for (int i = 0; i < heads.Count; i++)
                            ScalarBackward(heads[i], gradients[i], new ScalarBackwardBuffers(slot, shape), first: i == 0);
                        break;
                }
            }
        }
    }
}
