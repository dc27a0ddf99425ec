namespace Qian.Kernels.Tests;

// One sequence with random queries, keys and values for every token, and its blocks. The blocks start out full of 0xFF (NaN in
// every float type), as recycled blocks may hold anything beyond the tokens written.
internal sealed class AttentionCase : IDisposable
{
    private readonly NativeBuffer _q;
    private readonly NativeBuffer _k;
    private readonly NativeBuffer _v;

    public AttentionCase(AttentionShape shape, int tokenCount, int blockTokens, KvType[] types, int seed = 1, float scoreScale = 1, int layerCount = 2, int layerIndex = 1)
    {
        Shape = shape;
        Kv = new KvShape(layerCount, shape.KvHeads, shape.HeadDim, blockTokens);
        LayerIndex = layerIndex;
        TokenCount = tokenCount;
        Blocks = new KvBlock[(tokenCount + blockTokens - 1) / blockTokens];
        for (int i = 0; i < Blocks.Length; i++)
        {
            Blocks[i] = new KvBlock(Kv, types[i % types.Length]);
            Blocks[i].Content.Fill(0xFF);
        }

        _q = NativeBuffer.AllocateFloats((long)tokenCount * QueryWidth);
        _k = NativeBuffer.AllocateFloats((long)tokenCount * KvWidth);
        _v = NativeBuffer.AllocateFloats((long)tokenCount * KvWidth);
        var random = new Random(seed);
        Fill(_q, random, scoreScale);
        Fill(_k, random, 1);
        Fill(_v, random, 1);
    }

    public AttentionShape Shape { get; }
    public KvShape Kv { get; }
    public int LayerIndex { get; }
    public int TokenCount { get; }
    public KvBlock[] Blocks { get; }
    public int QueryWidth => Shape.Heads * Shape.HeadDim;
    public int KvWidth => Shape.KvHeads * Shape.HeadDim;

    public Span<float> Queries => _q.AllFloats.Span;
    public Span<float> Keys => _k.AllFloats.Span;
    public Span<float> Values => _v.AllFloats.Span;

    public void Write(int firstToken, int rowCount, ThreadTeam team) =>
        KvCache.Write(Kv, Blocks, LayerIndex, firstToken, Rows(_k, firstToken, rowCount, KvWidth), Rows(_v, firstToken, rowCount, KvWidth), rowCount, team);

    // What the blocks hold, decoded: the exact inputs of attention.
    public (float[] Keys, float[] Values) Stored()
    {
        using NativeBuffer k = NativeBuffer.AllocateFloats((long)TokenCount * KvWidth);
        using NativeBuffer v = NativeBuffer.AllocateFloats((long)TokenCount * KvWidth);
        KvCache.Read(Kv, Blocks, LayerIndex, 0, TokenCount, k.AllFloats, v.AllFloats);
        return (k.AllFloats.Span.ToArray(), v.AllFloats.Span.ToArray());
    }

    public float[] Attend(Isa isa, int firstToken, int rowCount, ThreadTeam team, AttentionScratch scratch)
    {
        using NativeBuffer y = NativeBuffer.AllocateFloats((long)rowCount * QueryWidth);
        Attend(isa, firstToken, rowCount, team, scratch, y.AllFloats);
        return y.AllFloats.Span.ToArray();
    }

    public void Attend(Isa isa, int firstToken, int rowCount, ThreadTeam team, AttentionScratch scratch, FloatView y) =>
        Attention.Apply(isa, Shape, Kv, Rows(_q, firstToken, rowCount, QueryWidth), Blocks, LayerIndex, firstToken, rowCount, y, scratch, team);

    public float[] Attend(Isa isa, int firstToken, int rowCount, int threadCount = 1)
    {
        using var team = new ThreadTeam(threadCount);
        using var scratch = new AttentionScratch(Shape, rowCount, firstToken + rowCount, threadCount);
        return Attend(isa, firstToken, rowCount, team, scratch);
    }

    public void Dispose()
    {
        _q.Dispose();
        _k.Dispose();
        _v.Dispose();
        foreach (KvBlock block in Blocks)
            block.Dispose();
    }

    private static FloatView Rows(NativeBuffer buffer, int firstRow, int rowCount, int width) =>
        buffer.Floats((long)firstRow * width, (long)rowCount * width);

    // Roughly normal: the sum of four uniform values.
    private static void Fill(NativeBuffer buffer, Random random, float scale)
    {
        foreach (ref float x in buffer.AllFloats.Span)
            x = (random.NextSingle() + random.NextSingle() + random.NextSingle() + random.NextSingle() - 2f) * 1.7f * scale;
    }
}
