namespace Qian.Kernels.Tests.Ops;

public class DeltaRuleTests
{
    private static readonly SafetensorsData s_golden = new("goldens", "ops", "gated_delta_rule.safetensors");

    private static readonly DeltaShape[] s_shapes =
    [
        new(1, 3, 128, 128, Interleaved: false),
        new(2, 4, 16, 16, Interleaved: true),
        new(2, 6, 16, 8, Interleaved: false),
        new(1, 2, 13, 21, Interleaved: true),
        new(3, 3, 7, 70, Interleaved: false),
        new(1, 1, 1, 1, Interleaved: false),
        new(2, 2, 33, 150, Interleaved: true),
    ];

    public static TheoryData<Isa, string, bool> GoldenCases
    {
        get
        {
            var cases = new TheoryData<Isa, string, bool>();
            foreach (Isa isa in IsaTier.Available)
            {
                foreach (string name in new[] { "a", "b", "strong_decay" })
                {
                    cases.Add(isa, name, false);
                    cases.Add(isa, name, true);
                }
            }

            return cases;
        }
    }

    [Theory]
    [MemberData(nameof(GoldenCases))]
    public void BothFormsAreTheFloat64Reference(Isa isa, string name, bool initial)
    {
        using var arena = new Arena();
        using var team = new ThreadTeam(2);
        int[] qShape = s_golden.Shape($"{name}.q"), vShape = s_golden.Shape($"{name}.v");
        int rows = qShape[0];
        var shape = new DeltaShape(qShape[1], vShape[1], qShape[2], vShape[2], Interleaved: false);
        int keyWidth = shape.KeyHeads * shape.KeyDim;
        FloatView qkv = arena.Zeros(rows * shape.RowWidth);
        for (int t = 0; t < rows; t++)
        {
            Span<float> row = qkv.Span.Slice(t * shape.RowWidth, shape.RowWidth);
            s_golden.Floats($"{name}.q").AsSpan(t * keyWidth, keyWidth).CopyTo(row);
            s_golden.Floats($"{name}.k").AsSpan(t * keyWidth, keyWidth).CopyTo(row[keyWidth..]);
            s_golden.Floats($"{name}.v").AsSpan(t * shape.OutputWidth, shape.OutputWidth).CopyTo(row[(2 * keyWidth)..]);
        }

        L2Norm.Apply(isa, qkv, shape.RowWidth, 0, rows, shape.KeyHeads, shape.KeyDim, 1e-6f, 1 / MathF.Sqrt(shape.KeyDim), team);
        L2Norm.Apply(isa, qkv, shape.RowWidth, keyWidth, rows, shape.KeyHeads, shape.KeyDim, 1e-6f, 1, team);
        FloatView g = arena.Of(s_golden.Floats($"{name}.g")), beta = arena.Of(s_golden.Floats($"{name}.beta"));
        FloatView start = initial ? arena.Of(s_golden.Floats($"{name}.initial_state")) : arena.Zeros((int)shape.StateLength);
        string kind = initial ? "init" : "zero";
        float[] expected = s_golden.Floats($"{name}.{kind}.out"), expectedState = s_golden.Floats($"{name}.{kind}.state");

        FloatView state = arena.Copy(start), y = arena.Zeros(rows * shape.OutputWidth);
        DeltaRule.Step(isa, shape, qkv, g, beta, state, y, rows, team);
        Near.Scaled(expected, y.Span, 2e-6, "step out");
        Near.Scaled(expectedState, state.Span, 2e-6, "step state");

        using var scratch = new DeltaScratch(shape, team.ThreadCount);
        state.CopyFrom(start);
        y.Clear();
        DeltaRule.Chunk(isa, shape, qkv, g, beta, state, y, rows, team, scratch);
        Near.Scaled(expected, y.Span, 2e-6, "chunk out");
        Near.Scaled(expectedState, state.Span, 2e-6, "chunk state");
    }

    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void ChunkIsStep(Isa isa)
    {
        using var team = new ThreadTeam(3);
        foreach (DeltaShape shape in s_shapes)
        {
            using var scratch = new DeltaScratch(shape, team.ThreadCount);
            foreach (int rows in new[] { 1, 2, 63, 64, 65, 130, 200 })
            {
                using var run = new Run(shape, rows, rows);
                (float[] y, float[] state) = run.Step(Isa.Scalar, team, 0, rows);
                (float[] stepY, float[] stepState) = run.Step(isa, team, 0, rows);
                Near.Scaled(y, stepY, 1e-5, $"step {shape} {rows}");
                Near.Scaled(state, stepState, 1e-5, $"step state {shape} {rows}");
                (float[] chunkY, float[] chunkState) = run.Chunk(isa, team, scratch, 0, rows);
                Near.Scaled(y, chunkY, 1e-4, $"chunk {shape} {rows}");
                Near.Scaled(state, chunkState, 1e-4, $"chunk state {shape} {rows}");
            }
        }
    }

    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void SplittingTheRowsChangesNoBit(Isa isa)
    {
        using var one = new ThreadTeam(1);
        using var three = new ThreadTeam(3);
        foreach (DeltaShape shape in s_shapes)
        {
            using var scratch = new DeltaScratch(shape, 3);
            using var seven = new Run(shape, 7, 1);
            (float[] y, float[] state) = seven.Step(isa, three, 0, 7);
            (float[] first, float[] middle) = seven.Step(isa, one, 0, 3);
            (float[] second, float[] end) = seven.Step(isa, one, 3, 4, middle);
            Near.Bits(y, [.. first, .. second], $"{shape}");
            Near.Bits(state, end, $"{shape} state");

            // The chunked form may be cut where its grid is; and a row knows nothing of the rows behind it.
            using var many = new Run(shape, 150, 2);
            (y, state) = many.Chunk(isa, three, scratch, 0, 150);
            (first, middle) = many.Chunk(isa, one, scratch, 0, 64);
            (second, end) = many.Chunk(isa, one, scratch, 64, 86, middle);
            Near.Bits(y, [.. first, .. second], $"{shape} chunks");
            Near.Bits(state, end, $"{shape} chunks state");
            (first, _) = many.Chunk(isa, one, scratch, 0, 101);
            Near.Bits(y.AsSpan(0, first.Length), first, $"{shape} shorter");
        }
    }

    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void TryingIsSteppingWithoutTheState(Isa isa)
    {
        foreach (int threadCount in new[] { 1, 3 })
        {
            using var team = new ThreadTeam(threadCount);
            foreach (DeltaShape shape in s_shapes)
            {
                using var scratch = new DeltaScratch(shape, threadCount);
                using var arena = new Arena();
                FloatView qkv = arena.Random(5 * shape.RowWidth), beta = arena.Random(5 * shape.ValueHeads), g = arena.Random(5 * shape.ValueHeads);
                foreach (ref float gate in g.Span)
                    gate = -MathF.Abs(gate);
                FloatView start = arena.Random((int)shape.StateLength), state = arena.Copy(start), kept = arena.Copy(start);
                FloatView y = arena.Zeros(5 * shape.OutputWidth), tried = arena.Zeros(5 * shape.OutputWidth);
                DeltaRule.Step(isa, shape, qkv, g, beta, state, y, 5, team);
                DeltaRule.StepKeepingState(isa, shape, qkv, g, beta, kept, tried, 5, team, scratch);
                Near.Bits(y.Span, tried.Span, $"{shape}");
                Near.Bits(start.Span, kept.Span, $"state {shape}");
            }
        }
    }

    [Fact]
    public void OrderOfHeadsPicksTheKeyHead()
    {
        var blocks = new DeltaShape(2, 6, 1, 1, Interleaved: false);
        Assert.Equal([0, 0, 0, 1, 1, 1], Enumerable.Range(0, 6).Select(blocks.KeyHeadOf));
        Assert.Equal([0, 1, 0, 1, 0, 1], Enumerable.Range(0, 6).Select((blocks with { Interleaved = true }).KeyHeadOf));
    }

    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void TotalForgettingAndNaNKeepToTheirRows(Isa isa)
    {
        var shape = new DeltaShape(1, 2, 16, 24, Interleaved: false);
        using var team = new ThreadTeam(1);
        using var scratch = new DeltaScratch(shape, 1);
        using var run = new Run(shape, 70, 5);
        // Head 0 forgets everything at row 20 (and by a finite hair less at 40); head 1 sees a NaN value at row 30.
        run.G.Span[20 * 2] = float.NegativeInfinity;
        run.G.Span[40 * 2] = -1e4f;
        run.Qkv.Span[30 * shape.RowWidth + 2 * shape.KeyDim + shape.ValueDim + 5] = float.NaN;
        (float[] expected, float[] expectedState) = run.Step(Isa.Scalar, team, 0, 70);
        Assert.DoesNotContain(float.NaN, expected[..(30 * shape.OutputWidth)]);
        Assert.Contains(float.NaN, expected);
        foreach ((float[] y, float[] state) in new[] { run.Step(isa, team, 0, 70), run.Chunk(isa, team, scratch, 0, 70) })
        {
            Near.Each(expected, y, 1e-4, 1);
            Near.Each(expectedState, state, 1e-4, 1);
        }
    }

    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void LargeInputsStayFinite(Isa isa)
    {
        var shape = new DeltaShape(1, 1, 16, 16, Interleaved: false);
        using var team = new ThreadTeam(1);
        using var scratch = new DeltaScratch(shape, 1);
        using var run = new Run(shape, 100, 3);
        for (int t = 0; t < 100; t++)
            run.Qkv.Slice(t * shape.RowWidth + 2 * shape.KeyDim, shape.ValueDim).Span.Fill(t % 2 == 0 ? 1e4f : -1e4f);
        (float[] expected, _) = run.Step(Isa.Scalar, team, 0, 100);
        Near.Scaled(expected, run.Step(isa, team, 0, 100).Y, 1e-5);
        Near.Scaled(expected, run.Chunk(isa, team, scratch, 0, 100).Y, 1e-4);
        Assert.All(expected, v => Assert.True(float.IsFinite(v)));
    }

    [Fact]
    public void WrongArgumentsAreRefused()
    {
        var shape = new DeltaShape(2, 4, 8, 8, Interleaved: false);
        using var team = new ThreadTeam(1);
        using var run = new Run(shape, 3, 1);
        using var other = new DeltaScratch(shape with { ValueDim = 16 }, 1);
        Assert.Throws<ArgumentException>(() => run.Chunk(Isa.Scalar, team, other, 0, 3));
        Assert.Throws<ArgumentException>(() => new DeltaScratch(shape with { ValueHeads = 3 }, 1));
        Assert.Throws<ArgumentException>(() => new DeltaScratch(shape with { KeyDim = 0 }, 1));
        Assert.Throws<ArgumentException>(() => DeltaRule.Step(shape, run.Qkv, run.G, run.Beta, run.Qkv, run.G, 3, team));
    }

    /// <summary>Random inputs in the ranges the network produces: unit keys, scaled queries, gates in their domain.</summary>
    private sealed class Run : IDisposable
    {
        private readonly DeltaShape _shape;
        private readonly Arena _arena;
        private readonly FloatView _state;

        public Run(DeltaShape shape, int rows, int seed)
        {
            _shape = shape;
            _arena = new Arena(seed);
            Qkv = _arena.Random(rows * shape.RowWidth);
            G = _arena.Random(rows * shape.ValueHeads);
            Beta = _arena.Random(rows * shape.ValueHeads);
            _state = _arena.Random((int)shape.StateLength);
            foreach (ref float g in G.Span)
                g = -MathF.Exp(4 * g - 3);
            foreach (ref float beta in Beta.Span)
                beta = (beta + 1) / 2;
            using var team = new ThreadTeam(1);
            L2Norm.Apply(Isa.Scalar, Qkv, shape.RowWidth, 0, rows, shape.KeyHeads, shape.KeyDim, 1e-6f, 1 / MathF.Sqrt(shape.KeyDim), team);
            L2Norm.Apply(Isa.Scalar, Qkv, shape.RowWidth, shape.KeyHeads * shape.KeyDim, rows, shape.KeyHeads, shape.KeyDim, 1e-6f, 1, team);
        }

        public FloatView Qkv { get; }

        public FloatView G { get; }

        public FloatView Beta { get; }

        public (float[] Y, float[] State) Step(Isa isa, ThreadTeam team, int first, int count, float[]? from = null)
        {
            (FloatView state, FloatView y) = Outputs(count, from);
            DeltaRule.Step(isa, _shape, Qkv.Slice(first * _shape.RowWidth), G.Slice(first * _shape.ValueHeads), Beta.Slice(first * _shape.ValueHeads),
                state, y, count, team);
            return (y.Span.ToArray(), state.Span.ToArray());
        }

        public (float[] Y, float[] State) Chunk(Isa isa, ThreadTeam team, DeltaScratch scratch, int first, int count, float[]? from = null)
        {
            (FloatView state, FloatView y) = Outputs(count, from);
            DeltaRule.Chunk(isa, _shape, Qkv.Slice(first * _shape.RowWidth), G.Slice(first * _shape.ValueHeads), Beta.Slice(first * _shape.ValueHeads),
                state, y, count, team, scratch);
            return (y.Span.ToArray(), state.Span.ToArray());
        }

        public void Dispose() => _arena.Dispose();

        private (FloatView State, FloatView Y) Outputs(int count, float[]? from) =>
            (from == null ? _arena.Copy(_state) : _arena.Of(from), _arena.Zeros(count * _shape.OutputWidth));
    }
}
