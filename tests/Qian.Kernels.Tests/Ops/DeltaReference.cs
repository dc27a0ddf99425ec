namespace Qian.Kernels.Tests.Ops;

/// <summary>Random inputs in the ranges the network produces, a random gradient of the output, and room for all results.</summary>
internal sealed class TrainingRun : IDisposable
{
    private readonly DeltaShape _shape;
    private readonly int[] _borders;
    private readonly Arena _arena;

    public TrainingRun(DeltaShape shape, int[] borders, int seed, string inputs = "usual")
    {
        _shape = shape;
        _borders = borders;
        _arena = new Arena(seed);
        int rows = borders[^1];
        Qkv = _arena.Random(rows * shape.RowWidth);
        G = _arena.Random(rows * shape.ValueHeads);
        Beta = _arena.Random(rows * shape.ValueHeads);
        Dy = _arena.Random(rows * shape.OutputWidth);
        Y = _arena.Zeros(rows * shape.OutputWidth);
        ChunkStates = _arena.Zeros(checked((int)(DeltaRule.ChunkCount(borders) * shape.StateLength)));
        DQkv = _arena.Zeros(rows * shape.RowWidth);
        Dg = _arena.Zeros(rows * shape.ValueHeads);
        Dbeta = _arena.Zeros(rows * shape.ValueHeads);
        for (int i = 0; i < G.Length; i++)
        {
            ref float g = ref G.Span[i], beta = ref Beta.Span[i];
            g = inputs == "strong" && i % 3 == 0 ? -20 : -MathF.Exp(4 * g - (inputs == "alike" ? 9 : 3));
            beta = inputs == "extreme beta" ? (i % 2 == 0 ? 1e-6f : 1 - 1e-6f) : (beta + 1) / 2;
        }

        int keyWidth = shape.KeyHeads * shape.KeyDim;
        for (int row = 0; row < rows && inputs == "alike"; row++)
        {
            foreach (ref float k in Qkv.Span.Slice(row * shape.RowWidth + keyWidth, keyWidth))
                k = 1 + 0.2f * k;
        }

        using var team = new ThreadTeam(1);
        L2Norm.Apply(Isa.Scalar, Qkv, shape.RowWidth, 0, rows, shape.KeyHeads, shape.KeyDim, 1e-6f, 1 / MathF.Sqrt(shape.KeyDim), team);
        L2Norm.Apply(Isa.Scalar, Qkv, shape.RowWidth, keyWidth, rows, shape.KeyHeads, shape.KeyDim, 1e-6f, 1, team);
    }

    /// <summary>Gates as the network makes them; every third forgetting at once; beta next to 0 and 1; keys almost the same, hardly a decay.</summary>
    public static string[] Cases => ["usual", "strong", "extreme beta", "alike"];

    public FloatView Qkv { get; }

    public FloatView G { get; }

    public FloatView Beta { get; }

    public FloatView Y { get; }

    public FloatView ChunkStates { get; }

    public FloatView Dy { get; }

    public FloatView DQkv { get; }

    public FloatView Dg { get; }

    public FloatView Dbeta { get; }

    public static string[] GradientNames => ["dq", "dk", "dv", "dg", "dbeta"];

    /// <summary>The gradients by <see cref="GradientNames"/>.</summary>
    public float[][] Gradients()
    {
        int keyWidth = _shape.KeyHeads * _shape.KeyDim;
        return [Columns(0, keyWidth), Columns(keyWidth, keyWidth), Columns(2 * keyWidth, _shape.OutputWidth), Dg.Span.ToArray(), Dbeta.Span.ToArray()];

        float[] Columns(int first, int count)
        {
            float[] columns = new float[_borders[^1] * count];
            for (int row = 0; row < _borders[^1]; row++)
                DQkv.Span.Slice(row * _shape.RowWidth + first, count).CopyTo(columns.AsSpan(row * count));
            return columns;
        }
    }

    public void Forward(Isa isa, ThreadTeam team)
    {
        using var scratch = new DeltaTrainingScratch(_shape, team.ThreadCount);
        DeltaRule.Forward(isa, _shape, Qkv, G, Beta, Y, ChunkStates, _borders, scratch, team);
    }

    public void Backward(Isa isa, ThreadTeam team)
    {
        using var scratch = new DeltaTrainingScratch(_shape, team.ThreadCount);
        Backward(isa, team, scratch);
    }

    // All results start as NaN: a backward overwrites.
    public void Backward(Isa isa, ThreadTeam team, DeltaTrainingScratch scratch)
    {
        DQkv.Span.Fill(float.NaN);
        Dg.Span.Fill(float.NaN);
        Dbeta.Span.Fill(float.NaN);
        DeltaRule.Backward(isa, _shape, Qkv, G, Beta, ChunkStates, Dy, DQkv, Dg, Dbeta, _borders, scratch, team);
    }

    public void Dispose() => _arena.Dispose();
}

/// <summary>
/// The delta rule in double, straight from its definition, and the central differences of Σ dy·y: for every input of short
/// samples, and for one in eleven of long ones. Only the sample that an input belongs to is run again.
/// </summary>
internal sealed class DeltaReference
{
    private const double Step = 1e-5;
    private const int LongSample = 10;
    private const int LongSampleStride = 11;

    private readonly DeltaShape _shape;
    private readonly int[] _borders;
    private readonly double[] _qkv, _g, _beta, _dy;

    public DeltaReference(DeltaShape shape, int[] borders, TrainingRun run)
    {
        _shape = shape;
        _borders = borders;
        _qkv = Doubles(run.Qkv);
        _g = Doubles(run.G);
        _beta = Doubles(run.Beta);
        _dy = Doubles(run.Dy);
    }

    public void Compare(TrainingRun run, double tolerance, string what)
    {
        int keyWidth = _shape.KeyHeads * _shape.KeyDim;
        Compare(_qkv, _shape.RowWidth, 0, keyWidth, run.DQkv.Span, tolerance, what + " dq");
        Compare(_qkv, _shape.RowWidth, keyWidth, keyWidth, run.DQkv.Span, tolerance, what + " dk");
        Compare(_qkv, _shape.RowWidth, 2 * keyWidth, _shape.OutputWidth, run.DQkv.Span, tolerance, what + " dv");
        Compare(_g, _shape.ValueHeads, 0, _shape.ValueHeads, run.Dg.Span, tolerance, what + " dg");
        Compare(_beta, _shape.ValueHeads, 0, _shape.ValueHeads, run.Dbeta.Span, tolerance, what + " dbeta");
    }

    private void Compare(double[] input, int stride, int first, int count, ReadOnlySpan<float> found, double tolerance, string what)
    {
        var expected = new List<float>();
        var actual = new List<float>();
        for (int sample = 0; sample + 1 < _borders.Length; sample++)
        {
            int rows = _borders[sample + 1] - _borders[sample];
            int step = rows < LongSample ? 1 : LongSampleStride;
            for (int i = 0; i < rows * count; i += step)
            {
                int index = (_borders[sample] + i / count) * stride + first + i % count;
                double value = input[index];
                input[index] = value + Step;
                double up = Loss(sample);
                input[index] = value - Step;
                double down = Loss(sample);
                input[index] = value;
                expected.Add((float)((up - down) / (2 * Step)));
                actual.Add(found[index]);
            }
        }

        Near.Scaled([.. expected], [.. actual], tolerance, what);
    }

    private double Loss(int sample)
    {
        int keyDim = _shape.KeyDim, valueDim = _shape.ValueDim;
        double[] state = new double[keyDim * valueDim];
        double loss = 0;
        for (int head = 0; head < _shape.ValueHeads; head++)
        {
            int keyHead = _shape.Interleaved ? head % _shape.KeyHeads : head / (_shape.ValueHeads / _shape.KeyHeads);
            Array.Clear(state);
            for (int t = _borders[sample]; t < _borders[sample + 1]; t++)
            {
                ReadOnlySpan<double> row = _qkv.AsSpan(t * _shape.RowWidth, _shape.RowWidth);
                ReadOnlySpan<double> q = row.Slice(keyHead * keyDim, keyDim), k = row.Slice((_shape.KeyHeads + keyHead) * keyDim, keyDim);
                ReadOnlySpan<double> v = row.Slice(2 * _shape.KeyHeads * keyDim + head * valueDim, valueDim);
                double decay = Math.Exp(_g[t * _shape.ValueHeads + head]), beta = _beta[t * _shape.ValueHeads + head];
                for (int c = 0; c < valueDim; c++)
                {
                    double read = 0, output = 0;
                    for (int d = 0; d < keyDim; d++)
                        read += k[d] * (state[d * valueDim + c] *= decay);
                    for (int d = 0; d < keyDim; d++)
                        output += q[d] * (state[d * valueDim + c] += k[d] * beta * (v[c] - read));
                    loss += output * _dy[t * _shape.OutputWidth + head * valueDim + c];
                }
            }
        }

        return loss;
    }

    private static double[] Doubles(FloatView view) => Array.ConvertAll(view.Span.ToArray(), value => (double)value);
}
