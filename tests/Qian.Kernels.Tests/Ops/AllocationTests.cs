namespace Qian.Kernels.Tests.Ops;

public class AllocationTests
{
    // The caller's thread runs chunks like any worker, so what it allocates is what each of them would.
    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void OperationsAllocateNothing(Isa isa)
    {
        using var arena = new Arena();
        using var team = new ThreadTeam(2);
        var shape = new DeltaShape(2, 4, 16, 16, Interleaved: true);
        using var scratch = new DeltaScratch(shape, 2);
        const int Rows = 70, Width = 1024;
        FloatView x = arena.Random(Rows * Width), z = arena.Random(Rows * Width), y = arena.Zeros(Rows * Width), weight = arena.Random(Width * 4);
        FloatView window = arena.Zeros(3 * Width), state = arena.Zeros((int)shape.StateLength), g = arena.Zeros(Rows * 4), beta = arena.Zeros(Rows * 4);
        FloatView table = arena.Zeros(Rows * 16), weights = arena.Zeros(Rows * 2);
        var rope = new RopeTable(16, 1e6, [3, 3, 2]);
        int[] positions = new int[3 * Rows], indices = new int[Rows * 2];

        All();
        long before = GC.GetAllocatedBytesForCurrentThread();
        All();
        Assert.Equal(before, GC.GetAllocatedBytesForCurrentThread());

        void All()
        {
            RmsNorm.Apply(isa, x, weight, 1e-6f, y, Rows, Width, team);
            Residual.Add(isa, x, y, Rows * Width, team);
            SwiGlu.Apply(isa, x, z, y, Rows * Width, team);
            rope.Fill(positions, Rows, table);
            HeadNormRope.Apply(isa, x, Width, 64, Rows, 16, 64, weight, 1e-6f, table, 16, y, team);
            OutputGate.Apply(isa, y, z, Rows, 8, 64, team);
            ConvSilu.Apply(isa, x, weight, window, y, Rows, Width, 4, team);
            L2Norm.Apply(isa, y, shape.RowWidth, 0, Rows, 4, 16, 1e-6f, 1, team);
            DeltaGates.Apply(isa, z, z, weight, weight, g, beta, Rows, 4, team);
            g.Clear();
            DeltaRule.Step(isa, shape, y, g, beta, state, z, Rows, team);
            DeltaRule.Chunk(isa, shape, y, g, beta, state, z, Rows, team, scratch);
            GatedNorm.Apply(isa, x, z, weight, 1e-6f, y, Rows, 16, 64, team);
            Router.TopK(isa, z, Rows, 8, 2, indices, weights, default);
            Router.Combine(isa, z, weights, z, g, y, Rows, 2, 16, team);
            Qian.Kernels.Rows.Gather(x, 8, indices, z);
        }
    }

    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void GradientsLossAndStepAllocateNothing(Isa isa)
    {
        using var arena = new Arena();
        using var team = new ThreadTeam(2);
        const int Rows = 70, Width = 1024, Count = Rows * Width;
        FloatView x = arena.Random(Count), z = arena.Random(Count), dy = arena.Random(Count), dx = arena.Zeros(Count), dz = arena.Zeros(Count);
        FloatView weight = arena.Random(Width * 4), dWeight = arena.Zeros(Width * 4), sums = arena.Zeros(Width), m = arena.Zeros(Count), v = arena.Zeros(Count);
        FloatView qGate = arena.Random(2 * Count), dQGate = arena.Zeros(2 * Count);
        int[] ids = new int[Rows], borders = [0, 3, Rows];

        All();
        long before = GC.GetAllocatedBytesForCurrentThread();
        All();
        Assert.Equal(before, GC.GetAllocatedBytesForCurrentThread());

        void All()
        {
            RmsNorm.Backward(isa, x, weight, 1e-6f, dy, dx, dWeight, Rows, Width, add: true, team);
            HeadNormRope.Backward(isa, x, Width, 64, Rows, 16, 64, weight, 1e-6f, z, 16, dy, dx, dWeight, team);
            L2Norm.Backward(isa, x, Width, 0, Rows, 4, 16, 1e-6f, 1, dy, dx, team);
            ConvSilu.ApplySamples(isa, x, weight, dx, borders, Width, 4, team);
            ConvSilu.Backward(isa, x, weight, dy, dx, dWeight, borders, Width, 4, team);
            DeltaGates.Backward(isa, x, z, weight, weight, dy, dy, dx, dz, dWeight, sums, Rows, 48, team);
            GatedNorm.Backward(isa, x, z, weight, 1e-6f, dy, dx, dz, dWeight, Rows, 16, 64, team);
            OutputGate.Backward(isa, x, qGate, dy, dx, dQGate, Rows, 16, 64, team);
            SwiGlu.Backward(isa, x, z, dy, dx, dz, Count, team);
            Router.TopKBackward(ids, weight, weight, dz, Rows, 8, 1);
            Router.CombineBackward(isa, x, weight, z, weight, dy, dx, dWeight, dz, sums, Rows / 2, 2, Width, team);
            Embedding.ScatterAdd(isa, ids, dy, dx, Width, 8, team);
            CrossEntropy.Run(isa, dz, Rows, Width, ids, 1, sums, withGradient: true, team);
            AdamW.Step(isa, x, dy, m, v, new AdamWStep(1e-3, 0.9, 0.99, 1e-8, 0.1, 1), team);
            SquaredSum.Of(isa, dy, team);
        }
    }
}
