using System.Diagnostics;

namespace Qian.Kernels;

/// <summary>How long one operation that multiplies no weights took: best of several.</summary>
/// <param name="Tier">The kernels that ran.</param>
/// <param name="Operation">What was done to how much.</param>
/// <param name="Seconds">Seconds of the fastest run.</param>
/// <param name="Bytes">Bytes that must be read and written: each input, result and state once.</param>
/// <param name="Macs">Float32 multiply-adds of the plain formula.</param>
public readonly record struct OperationTiming(Isa Tier, string Operation, double Seconds, long Bytes, long Macs)
{
    /// <summary>Billion bytes per second.</summary>
    public double GigabytesPerSecond => Bytes / Seconds / 1e9;

    /// <summary>Billion multiply-adds per second.</summary>
    public double GmacsPerSecond => Macs / Seconds / 1e9;
}

/// <summary>
/// Times attention, the delta rule, the convolution and the norms on every tier that has vectors of its own, on made-up data in the sizes of a layer of a large
/// model: the micro-benchmark beside <see cref="ProductTimings"/>. Knows how to call the kernels and what each has to move and multiply, nothing of ceilings.
/// </summary>
public sealed class OperationTimings : IDisposable
{
    private const int Context = 8192, PrefillRows = 256, Rows = 512, Width = 5120, BlockTokens = 64, Kernel = 4, RotaryDim = 64;
    private const int ScalarShare = 64;
    private const float Epsilon = 1e-6f;

    private static readonly AttentionShape s_heads = new(24, 4, 256);
    private static readonly DeltaShape s_delta = new(16, 48, 128, 128, Interleaved: true);
    private static readonly KvType[] s_kvTypes = [KvType.F16, KvType.Q8_0];

    private readonly ThreadTeam _team;
    private readonly double _seconds;
    private readonly int _rows, _prefillRows, _context;
    private readonly List<NativeBuffer> _buffers = [];
    private readonly List<KvBlock[]> _caches = [];
    private readonly Random _random = new(1);

    private OperationTimings(ThreadTeam team, double seconds, double share)
    {
        _team = team;
        _seconds = seconds;
        _rows = Part(Rows, share);
        _prefillRows = Part(PrefillRows, share);
        _context = Part(Context, share);
    }

    /// <summary>Runs all of it, each point at least <paramref name="seconds"/> long; <paramref name="share"/> of the full row counts and contexts, for a look.</summary>
    public static IEnumerable<OperationTiming> Measure(ThreadTeam team, double seconds, double share = 1)
    {
        ArgumentNullException.ThrowIfNull(team);
        foreach (Isa tier in IsaTier.Available)
        {
            // The definition is many times slower: a small part says the same.
            using var timings = new OperationTimings(team, seconds, tier == Isa.Scalar ? share / ScalarShare : share);
            foreach (OperationTiming timing in timings.AttentionOf(tier).Concat(timings.DeltaRuleOf(tier)).Concat(timings.RowsOf(tier)))
                yield return timing;
        }
    }

    /// <summary>Frees the made-up data.</summary>
    public void Dispose()
    {
        _buffers.ForEach(buffer => buffer.Dispose());
        _caches.ForEach(blocks => Array.ForEach(blocks, block => block.Dispose()));
    }

    // One row over a long context reads all of it; many rows are products of matrices.
    private IEnumerable<OperationTiming> AttentionOf(Isa tier)
    {
        int queryWidth = s_heads.Heads * s_heads.HeadDim, kvWidth = s_heads.KvHeads * s_heads.HeadDim;
        var shape = new KvShape(1, s_heads.KvHeads, s_heads.HeadDim, BlockTokens);
        FloatView q = Data((long)_prefillRows * queryWidth), y = Data((long)_prefillRows * queryWidth);
        FloatView k = Data((long)_context * kvWidth), v = Data((long)_context * kvWidth);
        using var scratch = new AttentionScratch(s_heads, _prefillRows, _context, _team.ThreadCount);
        foreach (KvType type in s_kvTypes)
        {
            var blocks = new KvBlock[(_context + BlockTokens - 1) / BlockTokens];
            for (int i = 0; i < blocks.Length; i++)
                blocks[i] = new KvBlock(shape, type);
            _caches.Add(blocks);
            KvCache.Write(shape, blocks, 0, 0, k, v, _context, _team);
            string name = type == KvType.F16 ? "f16" : "q8_0";
            foreach (int rowCount in new[] { 1, _prefillRows })
            {
                int first = _context - rowCount;
                long pairs = (long)rowCount * first + (long)rowCount * (rowCount + 1) / 2;
                yield return Time(
                    tier, FormattableString.Invariant($"attention, {rowCount} of {_context} tokens, KV {name}"),
                    blocks.Length * shape.BlockBytes(type), 2 * pairs * queryWidth,
                    () => Attention.Apply(tier, s_heads, shape, q, blocks, 0, first, rowCount, y, scratch, _team));
            }
        }
    }

    // A token reads and writes the whole state, and meets each of its values three times.
    private IEnumerable<OperationTiming> DeltaRuleOf(Isa tier)
    {
        FloatView qkv = Data((long)_rows * s_delta.RowWidth, scale: 0.05f), y = Data((long)_rows * s_delta.OutputWidth);
        FloatView g = Data((long)_rows * s_delta.ValueHeads, scale: 0.01f, offset: -0.05f), beta = Data((long)_rows * s_delta.ValueHeads, scale: 0.1f, offset: 0.5f);
        FloatView state = Data(s_delta.StateLength, scale: 0.01f);
        long stateBytes = 2 * s_delta.StateLength * sizeof(float), rowBytes = sizeof(float) * (long)(s_delta.RowWidth + s_delta.OutputWidth);
        yield return Time(
            tier, "delta rule, step of 1 token", stateBytes + rowBytes, 3 * s_delta.StateLength, () => DeltaRule.Step(tier, s_delta, qkv, g, beta, state, y, 1, _team));
        using var scratch = new DeltaScratch(s_delta, _team.ThreadCount);
        yield return Time(
            tier, FormattableString.Invariant($"delta rule, chunks, {_rows} tokens"), stateBytes + _rows * rowBytes, 3 * _rows * s_delta.StateLength,
            () => DeltaRule.Chunk(tier, s_delta, qkv, g, beta, state, y, _rows, _team, scratch));
    }

    private IEnumerable<OperationTiming> RowsOf(Isa tier)
    {
        int channels = s_delta.RowWidth, headDim = s_heads.HeadDim, headCount = s_heads.Heads;
        FloatView x = Data((long)_rows * channels), z = Data((long)_rows * channels), y = Data((long)_rows * channels);
        FloatView weight = Data((long)channels * Kernel), window = Data((long)channels * (Kernel - 1)), cosSin = Data((long)_rows * RotaryDim);
        long values = (long)_rows * Width, heads = (long)_rows * headCount * headDim, outputs = (long)_rows * s_delta.OutputWidth, inputs = (long)_rows * channels;
        yield return Time(
            tier, FormattableString.Invariant($"convolution and silu, {_rows} x {channels}"), 2 * inputs * sizeof(float), inputs * Kernel,
            () => ConvSilu.Apply(tier, x, weight, window, y, _rows, channels, Kernel, _team));
        yield return Time(
            tier, FormattableString.Invariant($"RMS norm, {_rows} x {Width}"), 2 * values * sizeof(float), 2 * values,
            () => RmsNorm.Apply(tier, x, weight, Epsilon, y, _rows, Width, _team));
        yield return Time(
            tier, FormattableString.Invariant($"gated norm, {_rows} x {s_delta.OutputWidth}"), 3 * outputs * sizeof(float), 3 * outputs,
            () => GatedNorm.Apply(tier, x, z, weight, Epsilon, y, _rows, s_delta.ValueHeads, s_delta.ValueDim, _team));
        yield return Time(
            tier, FormattableString.Invariant($"head norm and rotary, {_rows} x {headCount * headDim}"), 2 * heads * sizeof(float), 2 * heads,
            () => HeadNormRope.Apply(tier, x, headCount * headDim, headDim, _rows, headCount, headDim, weight, Epsilon, cosSin, RotaryDim, y, _team));
        yield return Time(
            tier, FormattableString.Invariant($"SwiGLU, {_rows} x {channels}"), 3 * inputs * sizeof(float), inputs,
            () => SwiGlu.Apply(tier, x, z, y, inputs, _team));
    }

    private OperationTiming Time(Isa tier, string operation, long bytes, long macs, Action run)
    {
        double best = double.PositiveInfinity;
        long start = Stopwatch.GetTimestamp();
        // The first run may compile; there is always a second.
        for (int i = 0; i < 2 || Stopwatch.GetElapsedTime(start).TotalSeconds < _seconds; i++)
        {
            long one = Stopwatch.GetTimestamp();
            run();
            best = Math.Min(best, Stopwatch.GetElapsedTime(one).TotalSeconds);
        }

        return new OperationTiming(tier, operation, best, bytes, macs);
    }

    private FloatView Data(long count, float scale = 1, float offset = 0)
    {
        NativeBuffer buffer = NativeBuffer.AllocateFloats(count);
        _buffers.Add(buffer);
        foreach (ref float value in buffer.AllFloats.Span)
            value = offset + scale * (2 * _random.NextSingle() - 1);
        return buffer.AllFloats;
    }

    private static int Part(int count, double share) => Math.Max(1, (int)(count * share));
}
