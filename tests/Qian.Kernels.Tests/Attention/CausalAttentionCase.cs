using Qian.Kernels.Tests.Ops;

namespace Qian.Kernels.Tests;

// Random rows of samples laid end to end, with the gradient of their result. Every view is fenced (Arena).
internal sealed class CausalAttentionCase : IDisposable
{
    private readonly Arena _arena;

    public CausalAttentionCase(AttentionShape shape, int[] borders, int seed = 1, float scoreScale = 1)
    {
        _arena = new Arena(seed);
        Shape = shape;
        Borders = borders;
        RowCount = borders[^1];
        Q = _arena.Random(RowCount * shape.Heads * shape.HeadDim, 2 * scoreScale);
        K = _arena.Random(RowCount * shape.KvHeads * shape.HeadDim, 2);
        V = _arena.Random(RowCount * shape.KvHeads * shape.HeadDim);
        DY = _arena.Random(RowCount * shape.Heads * shape.HeadDim);
    }

    public AttentionShape Shape { get; }
    public int[] Borders { get; }
    public int RowCount { get; }
    public FloatView Q { get; }
    public FloatView K { get; }
    public FloatView V { get; }
    public FloatView DY { get; }

    public static int[] BordersOf(params int[] lengths)
    {
        int[] borders = new int[lengths.Length + 1];
        for (int i = 0; i < lengths.Length; i++)
            borders[i + 1] = borders[i] + lengths[i];
        return borders;
    }

    // Outputs start out as NaN: what is not written shows.
    public Outcome Run(Isa isa, int threadCount = 1)
    {
        using var team = new ThreadTeam(threadCount);
        using var scratch = new CausalAttentionScratch(Shape, Math.Max(RowCount, 1), threadCount);
        return Run(isa, team, scratch);
    }

    public Outcome Run(Isa isa, ThreadTeam team, CausalAttentionScratch scratch)
    {
        using var arena = new Arena();
        FloatView y = Unwritten(arena, Q), logSumExp = Unwritten(arena, RowCount * Shape.Heads);
        FloatView dq = Unwritten(arena, Q), dk = Unwritten(arena, K), dv = Unwritten(arena, V);
        CausalAttention.Forward(isa, Shape, Q, K, V, y, logSumExp, Borders, scratch, team);
        CausalAttention.Backward(isa, Shape, Q, K, V, y, logSumExp, DY, dq, dk, dv, Borders, scratch, team);
        return new Outcome(y.Span.ToArray(), logSumExp.Span.ToArray(), dq.Span.ToArray(), dk.Span.ToArray(), dv.Span.ToArray());
    }

    public void Dispose() => _arena.Dispose();

    private static FloatView Unwritten(Arena arena, FloatView like) => Unwritten(arena, (int)like.Length);

    private static FloatView Unwritten(Arena arena, int count)
    {
        FloatView view = arena.Zeros(count);
        view.Span.Fill(float.NaN);
        return view;
    }

    internal sealed record Outcome(float[] Y, float[] LogSumExp, float[] DQ, float[] DK, float[] DV)
    {
        public static void AssertNear(Outcome expected, Outcome actual, double tolerance, string what)
        {
            Near.Scaled(expected.Y, actual.Y, tolerance, $"{what} y");
            Near.Scaled(expected.LogSumExp, actual.LogSumExp, tolerance, $"{what} logSumExp");
            Near.Scaled(expected.DQ, actual.DQ, tolerance, $"{what} dq");
            Near.Scaled(expected.DK, actual.DK, tolerance, $"{what} dk");
            Near.Scaled(expected.DV, actual.DV, tolerance, $"{what} dv");
        }

        public static void AssertSame(Outcome expected, Outcome actual, string what)
        {
            Near.Bits(expected.Y, actual.Y, $"{what} y");
            Near.Bits(expected.LogSumExp, actual.LogSumExp, $"{what} logSumExp");
            Near.Bits(expected.DQ, actual.DQ, $"{what} dq");
            Near.Bits(expected.DK, actual.DK, $"{what} dk");
            Near.Bits(expected.DV, actual.DV, $"{what} dv");
        }
    }
}
