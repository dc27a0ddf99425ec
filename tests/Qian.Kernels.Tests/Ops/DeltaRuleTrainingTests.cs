namespace Qian.Kernels.Tests.Ops;

public class DeltaRuleTrainingTests
{
    // Lengths about the chunk, a sample of no rows among them.
    private static readonly int[] s_borders = [0, 1, 3, 66, 66, 130, 195, 395];

    private static readonly int[] s_fewer = [0, 65, 195];

    // Of each tensor's largest gradient. Both forms sum in float some hundred terms per result, and in orders of their own; the worst
    // of these cases lies at 1e-6.
    private const double FastBound = 5e-6;

    private static readonly DeltaShape[] s_small =
    [
        new(2, 4, 6, 5, Interleaved: true),
        new(2, 4, 5, 6, Interleaved: false),
        new(1, 3, 8, 3, Interleaved: false),
    ];

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

    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void ForwardIsTheFormsOfInferenceSampleBySample(Isa isa)
    {
        using var team = new ThreadTeam(2);
        foreach (DeltaShape shape in s_shapes)
        {
            using var run = new TrainingRun(shape, s_borders, 1);
            run.Forward(isa, team);
            using var arena = new Arena();
            using var scratch = new DeltaScratch(shape, 2);
            int chunk = 0;
            for (int s = 0; s + 1 < s_borders.Length; s++)
            {
                FloatView state = arena.Zeros((int)shape.StateLength);
                for (int row = s_borders[s]; row < s_borders[s + 1]; row += DeltaRule.ChunkRows, chunk++)
                {
                    string what = $"{shape} row {row}";
                    int count = Math.Min(DeltaRule.ChunkRows, s_borders[s + 1] - row);
                    Near.Bits(state.Span, run.ChunkStates.Slice(chunk * shape.StateLength, shape.StateLength).Span, what);
                    FloatView y = arena.Zeros(count * shape.OutputWidth);
                    FloatView qkv = run.Qkv.Slice((long)row * shape.RowWidth);
                    FloatView g = run.G.Slice(row * shape.ValueHeads), beta = run.Beta.Slice(row * shape.ValueHeads);
                    if (isa == Isa.Scalar)
                        DeltaRule.Step(isa, shape, qkv, g, beta, state, y, count, team);
                    else
                        DeltaRule.Chunk(isa, shape, qkv, g, beta, state, y, count, team, scratch);
                    Near.Bits(y.Span, run.Y.Slice((long)row * shape.OutputWidth, y.Length).Span, what);
                }
            }

            Assert.Equal(chunk, DeltaRule.ChunkCount(s_borders));
        }
    }

    [Fact]
    public void ScalarBackwardIsTheFiniteDifference()
    {
        using var team = new ThreadTeam(1);
        foreach (DeltaShape shape in s_small)
        {
            foreach (string inputs in TrainingRun.Cases)
            {
                using var run = new TrainingRun(shape, s_borders, 7, inputs);
                run.Forward(Isa.Scalar, team);
                run.Backward(Isa.Scalar, team);
                var reference = new DeltaReference(shape, s_borders, run);
                reference.Compare(run, 1e-5, $"{shape} {inputs}");
            }
        }
    }

    [Theory]
    [MemberData(nameof(Arena.FastTiers), MemberType = typeof(Arena))]
    public void FastBackwardIsTheScalarOne(Isa isa)
    {
        using var team = new ThreadTeam(2);
        foreach (DeltaShape shape in s_shapes)
        {
            using var scratch = new DeltaTrainingScratch(shape, team.ThreadCount);
            foreach (string inputs in TrainingRun.Cases)
            {
                using var run = new TrainingRun(shape, shape.KeyDim < 128 ? s_borders : s_fewer, 5, inputs);
                run.Forward(Isa.Scalar, team);
                run.Backward(Isa.Scalar, team);
                float[][] expected = run.Gradients();
                run.Backward(isa, team, scratch);
                float[][] found = run.Gradients();
                for (int i = 0; i < expected.Length; i++)
                    Near.Scaled(expected[i], found[i], FastBound, $"{shape} {inputs} {TrainingRun.GradientNames[i]}");
            }
        }
    }

    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void NaNKeepsToItsSample(Isa isa)
    {
        DeltaShape shape = s_small[1];
        int[] borders = [0, 70, 75, 80];
        using var team = new ThreadTeam(1);
        using var scratch = new DeltaTrainingScratch(shape, 1);
        using var clean = new TrainingRun(shape, borders, 2);
        using var spoilt = new TrainingRun(shape, borders, 2);
        spoilt.Qkv.Span[72 * shape.RowWidth] = float.NaN;
        spoilt.G.Span[72 * shape.ValueHeads] = float.NaN;
        foreach (TrainingRun run in new[] { spoilt, clean })
        {
            DeltaRule.Forward(isa, shape, run.Qkv, run.G, run.Beta, run.Y, run.ChunkStates, borders, scratch, team);
            run.Backward(isa, team, scratch);
        }

        foreach ((FloatView expected, FloatView found) in new[] { (clean.Y, spoilt.Y), (clean.DQkv, spoilt.DQkv), (clean.Dg, spoilt.Dg), (clean.Dbeta, spoilt.Dbeta) })
        {
            int width = (int)(expected.Length / 80);
            Near.Bits(expected.Span[..(70 * width)], found.Span[..(70 * width)]);
            Near.Bits(expected.Span[(75 * width)..], found.Span[(75 * width)..]);
            Assert.DoesNotContain(float.NaN, expected.Span.ToArray());
            Assert.Contains(float.NaN, found.Span.ToArray());
        }
    }

    // A gate that forgets all cuts the sample in two: gradients in front of it know nothing of what is behind.
    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void TotalForgettingIsABorder(Isa isa)
    {
        var shape = new DeltaShape(1, 2, 16, 24, Interleaved: false);
        using var team = new ThreadTeam(1);
        foreach (float forget in new[] { float.NegativeInfinity, -1e4f, -200 })
        {
            using var whole = new TrainingRun(shape, [0, 150], 9);
            using var parts = new TrainingRun(shape, [0, 70, 150], 9);
            foreach (TrainingRun run in new[] { whole, parts })
            {
                run.G.Span.Slice(70 * shape.ValueHeads, shape.ValueHeads).Fill(forget);
                run.Forward(isa, team);
                run.Backward(isa, team);
            }

            float[][] expected = parts.Gradients(), found = whole.Gradients();
            for (int i = 0; i < expected.Length; i++)
                Near.Scaled(expected[i], found[i], FastBound, $"{forget} {TrainingRun.GradientNames[i]}");
        }
    }

    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void TrainingAllocatesNothing(Isa isa)
    {
        DeltaShape shape = s_small[0];
        using var team = new ThreadTeam(2);
        using var scratch = new DeltaTrainingScratch(shape, 2);
        using var run = new TrainingRun(shape, s_borders, 1);
        All();
        long before = GC.GetAllocatedBytesForCurrentThread();
        All();
        Assert.Equal(before, GC.GetAllocatedBytesForCurrentThread());

        void All()
        {
            DeltaRule.Forward(isa, shape, run.Qkv, run.G, run.Beta, run.Y, run.ChunkStates, s_borders, scratch, team);
            run.Backward(isa, team, scratch);
        }
    }

    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void ThreadsChangeNoBit(Isa isa)
    {
        using var one = new ThreadTeam(1);
        using var two = new ThreadTeam(2);
        using var five = new ThreadTeam(5);
        foreach (DeltaShape shape in s_small)
        {
            using var expected = new TrainingRun(shape, s_borders, 3);
            expected.Forward(isa, one);
            expected.Backward(isa, one);
            foreach (ThreadTeam team in new[] { two, five })
            {
                using var run = new TrainingRun(shape, s_borders, 3);
                run.Forward(isa, team);
                run.Backward(isa, team);
                Near.Bits(expected.Y.Span, run.Y.Span, "y");
                Near.Bits(expected.ChunkStates.Span, run.ChunkStates.Span, "states");
                Near.Bits(expected.DQkv.Span, run.DQkv.Span, "dQkv");
                Near.Bits(expected.Dg.Span, run.Dg.Span, "dg");
                Near.Bits(expected.Dbeta.Span, run.Dbeta.Span, "dbeta");
            }
        }
    }

    [Fact]
    public void WrongArgumentsAreRefused()
    {
        DeltaShape shape = s_small[0];
        int[] borders = [0, 2, 70];
        using var team = new ThreadTeam(1);
        using var run = new TrainingRun(shape, borders, 1);
        using var scratch = new DeltaTrainingScratch(shape, 1);
        using var other = new DeltaTrainingScratch(shape with { ValueDim = 16 }, 1);
        FloatView[] forward = [run.Qkv, run.G, run.Beta, run.Y, run.ChunkStates];
        FloatView[] backward = [run.Qkv, run.G, run.Beta, run.ChunkStates, run.Dy, run.DQkv, run.Dg, run.Dbeta];
        Forward(forward, borders, scratch);
        Backward(backward, borders, scratch);
        for (int i = 0; i < forward.Length; i++)
            Assert.Throws<ArgumentException>(() => Forward(Shortened(forward, i), borders, scratch));
        for (int i = 0; i < backward.Length; i++)
            Assert.Throws<ArgumentException>(() => Backward(Shortened(backward, i), borders, scratch));
        Assert.Throws<ArgumentException>(() => Forward(forward, borders, other));
        Assert.Throws<ArgumentException>(() => Backward(backward, borders, other));
        foreach (int[] wrong in new int[][] { [], [1, 2], [0, 3, 2], [0, 2, 71], [0, -1] })
        {
            Assert.Throws<ArgumentException>(() => Forward(forward, wrong, scratch));
            Assert.Throws<ArgumentException>(() => Backward(backward, wrong, scratch));
        }

        Assert.Throws<ArgumentException>(() => DeltaRule.ChunkCount([0, 5, 4]));
        Assert.Throws<ArgumentException>(() => new DeltaTrainingScratch(shape with { ValueHeads = 3 }, 1));
        Assert.Throws<ArgumentOutOfRangeException>(() => new DeltaTrainingScratch(shape, 0));

        FloatView[] Shortened(FloatView[] views, int index)
        {
            FloatView[] copy = [.. views];
            copy[index] = copy[index].Slice(0, copy[index].Length - 1);
            return copy;
        }

        void Forward(FloatView[] v, int[] borders, DeltaTrainingScratch scratch) =>
            DeltaRule.Forward(shape, v[0], v[1], v[2], v[3], v[4], borders, scratch, team);

        void Backward(FloatView[] v, int[] borders, DeltaTrainingScratch scratch) =>
            DeltaRule.Backward(shape, v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7], borders, scratch, team);
    }
}
