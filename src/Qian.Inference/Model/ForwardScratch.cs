using Qian.Kernels;

namespace Qian.Inference.Model;

// All buffers of a pass, allocated once for the largest batch, so that a pass allocates nothing. Names follow MODEL.md;
// R = rows of the batch. Buffers that never live at the same time share memory.
internal sealed class ForwardScratch : IDisposable
{
    private readonly NativeBuffer _floats;
    private long _taken;

    public ForwardScratch(ModelConfig config, LayerRange range, bool mtp, int maxRows, int maxContext, int threadCount)
    {
        MaxRows = maxRows;
        var sizes = new ScratchSizes(config, maxRows, mtp);
        _floats = NativeBuffer.AllocateFloats(sizes.TotalFloats);

        Residual = Take(sizes.Hidden);
        Normed = Take(sizes.Hidden);
        MixerOutput = Take(sizes.Hidden);
        Hidden = Take(sizes.Hidden);
        CosSin = Take(sizes.CosSin);
        Wide = Take(sizes.Wide);
        MtpHidden = Take(mtp ? sizes.Hidden : 0);
        MtpInput = Take(mtp ? 2 * sizes.Hidden : 0);

        // The mixers and the MLP run one after the other, so they share one region.
        var region = new Region(Wide);
        QGate = region.Take(sizes.QGate);
        Q = region.Take(sizes.Attention);
        K = region.Take(sizes.Kv);
        V = region.Take(sizes.Kv);
        AttentionRows = region.Take(sizes.Attention);

        region = new Region(Wide);
        RawQkv = region.Take(sizes.Conv);
        Qkv = region.Take(sizes.Conv);
        Z = region.Take(sizes.Value);
        DeltaRows = region.Take(sizes.Value);
        Alpha = region.Take(sizes.ValueHeads);
        B = region.Take(sizes.ValueHeads);
        Decay = region.Take(sizes.ValueHeads);
        Beta = region.Take(sizes.ValueHeads);

        region = new Region(Wide);
        Gate = region.Take(sizes.Ffn);
        Up = region.Take(sizes.Ffn);
        RouterLogits = region.Take(sizes.RouterLogits);
        RouterWeights = region.Take(sizes.Chosen);
        ExpertInput = region.Take(sizes.MoeHidden);
        ExpertDown = region.Take(sizes.MoeHidden);
        ExpertOutput = region.Take(sizes.ExpertOutput);
        SharedOutput = region.Take(sizes.MoeHidden);
        SharedLogits = region.Take(sizes.Rows);

        ChosenExperts = new int[Math.Max(1, maxRows * config.ExpertsPerToken)];
        ExpertFill = new int[config.ExpertCount + 1];
        ExpertRows = new int[ChosenExperts.Length];
        ExpertSlots = new int[ChosenExperts.Length];

        int widest = Math.Max(config.HiddenSize * (mtp ? 2 : 1), Math.Max(config.AttentionHeads * config.HeadDim, config.LinearValueHeads * config.LinearValueDim));
        widest = Math.Max(widest, Math.Max(config.IntermediateSize, Math.Max(config.ExpertIntermediateSize, config.SharedExpertIntermediateSize)));
        Linear = new LinearScratch(maxRows, widest, threadCount);
        DeltaShape = new DeltaShape(config.LinearKeyHeads, config.LinearValueHeads, config.LinearKeyDim, config.LinearValueDim, config.ValueHeadsInterleaved);
        Delta = new DeltaScratch(DeltaShape, threadCount);
        AttentionShape = new AttentionShape(config.AttentionHeads, config.KvHeads, config.HeadDim);
        Attention = new AttentionScratch(AttentionShape, maxRows, maxContext, threadCount);
    }

    public int MaxRows { get; }

    public FloatView Residual { get; }        // [R, hidden]: the stream
    public FloatView Normed { get; }          // [R, hidden]
    public FloatView MixerOutput { get; }     // [R, hidden]: what a mixer or MLP adds
    public FloatView Hidden { get; }          // [R, hidden]: after the final norm; stays until the next pass
    public FloatView CosSin { get; }          // [R, rotaryDim]
    public FloatView MtpHidden { get; }       // [R, hidden]: after mtp.norm
    public FloatView MtpInput { get; }        // [R, 2 * hidden]

    public FloatView QGate { get; }           // [R, heads * 2 * headDim]
    public FloatView Q { get; }               // [R, heads * headDim]
    public FloatView K { get; }               // [R, kvHeads * headDim], also the rotated copy's source
    public FloatView V { get; }               // [R, kvHeads * headDim]
    public FloatView AttentionRows { get; }   // [R, heads * headDim]

    public FloatView RawQkv { get; }          // [R, convChannels]: before the convolution
    public FloatView Qkv { get; }             // [R, convChannels]: after conv + SiLU, q and k L2-normed
    public FloatView Z { get; }               // [R, valueHeads * valueDim]
    public FloatView DeltaRows { get; }       // [R, valueHeads * valueDim]
    public FloatView Alpha { get; }           // [R, valueHeads]
    public FloatView B { get; }               // [R, valueHeads]
    public FloatView Decay { get; }           // [R, valueHeads]: g
    public FloatView Beta { get; }            // [R, valueHeads]

    public FloatView Gate { get; }            // [R, intermediate]
    public FloatView Up { get; }              // [R, intermediate]

    public FloatView RouterLogits { get; }    // [R, experts]
    public FloatView RouterWeights { get; }   // [R, chosen]
    public FloatView ExpertInput { get; }     // [rows of one expert, hidden]
    public FloatView ExpertDown { get; }      // [rows of one expert, hidden]
    public FloatView ExpertOutput { get; }    // [R * chosen, hidden]
    public FloatView SharedOutput { get; }    // [R, hidden]
    public FloatView SharedLogits { get; }    // [R]
    public int[] ChosenExperts { get; }       // [R, chosen]
    public int[] ExpertFill { get; }          // [experts + 1]: where each expert's rows start
    public int[] ExpertRows { get; }          // [R * chosen]: batch row, grouped by expert
    public int[] ExpertSlots { get; }         // [R * chosen]: row of ExpertOutput, grouped by expert

    public LinearScratch Linear { get; }
    public DeltaShape DeltaShape { get; private set; }
    public DeltaScratch Delta { get; private set; }
    public AttentionShape AttentionShape { get; }
    public AttentionScratch Attention { get; }

    private FloatView Wide { get; }

    // The same sizes with the value heads in the other order.
    public void ReadValueHeads(bool interleaved, int threadCount)
    {
        Delta.Dispose();
        DeltaShape = DeltaShape with { Interleaved = interleaved };
        Delta = new DeltaScratch(DeltaShape, threadCount);
    }

    public void Dispose()
    {
        Linear.Dispose();
        Delta.Dispose();
        Attention.Dispose();
        _floats.Dispose();
    }

    private FloatView Take(long count)
    {
        FloatView view = _floats.Floats(_taken, count);
        _taken += count;
        return view;
    }

    // Hands out consecutive parts of a shared region.
    private ref struct Region(FloatView memory)
    {
        private long _taken;

        public FloatView Take(long count)
        {
            FloatView view = memory.Slice(_taken, count);
            _taken += count;
            return view;
        }
    }
}

// How many floats each buffer needs for R rows; also what the memory plan adds up.
internal readonly record struct ScratchSizes
{
    public ScratchSizes(ModelConfig config, int maxRows, bool mtp)
    {
        long rows = maxRows;
        long chosen = rows * config.ExpertsPerToken;
        Rows = rows;
        Hidden = Align(rows * config.HiddenSize);
        CosSin = Align(rows * config.RotaryDim);
        QGate = Align(rows * config.AttentionHeads * config.HeadDim * 2);
        Attention = Align(rows * config.AttentionHeads * config.HeadDim);
        Kv = Align(rows * config.KvHeads * config.HeadDim);
        Conv = Align(rows * config.ConvChannels);
        Value = Align(rows * config.LinearValueHeads * config.LinearValueDim);
        ValueHeads = Align(rows * config.LinearValueHeads);
        int ffnWidth = Math.Max(config.IntermediateSize, Math.Max(config.ExpertIntermediateSize, config.SharedExpertIntermediateSize));
        Ffn = Align(rows * ffnWidth);
        RouterLogits = Align(rows * config.ExpertCount);
        Chosen = Align(chosen);
        MoeHidden = config.IsMoe ? Hidden : 0;
        ExpertOutput = Align(chosen * config.HiddenSize);
        long attention = QGate + 2 * Attention + 2 * Kv;
        long delta = 2 * Conv + 2 * Value + 4 * ValueHeads;
        long mlp = 2 * Ffn + RouterLogits + Chosen + 3 * MoeHidden + ExpertOutput + Align(rows);
        Wide = Math.Max(attention, Math.Max(delta, mlp));
        TotalFloats = 4 * Hidden + CosSin + Wide + (mtp ? 3 * Hidden : 0);
    }

    public long Rows { get; }
    public long Hidden { get; }
    public long CosSin { get; }
    public long QGate { get; }
    public long Attention { get; }
    public long Kv { get; }
    public long Conv { get; }
    public long Value { get; }
    public long ValueHeads { get; }
    public long Ffn { get; }
    public long RouterLogits { get; }
    public long Chosen { get; }
    public long MoeHidden { get; }
    public long ExpertOutput { get; }
    public long Wide { get; }
    public long TotalFloats { get; }

    // Every buffer starts on a cache line.
    private static long Align(long floats) => (floats + 15) & ~15L;
}
