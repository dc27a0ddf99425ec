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
}
