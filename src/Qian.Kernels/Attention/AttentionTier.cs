namespace Qian.Kernels;

// What a vector tier supplies to TiledPartition. One product serves scores and weighted sums, because keys and values are
// both laid out as rows of 16 lanes (KvLayout).
internal unsafe interface IAttentionTier
{
    // sum[r][g * 16 + lane] (+)= Σ_i factor[r][i] * x[g][i][lane], one chain of multiply-adds over i in order, for r < rowCount,
    // g < groupCount, i < count. Group g of x starts g * groupBytes after x; factors and sums of neighbouring r are a stride
    // apart. `fresh` starts the chains at +0. x is F32, F16 or BF16. `next` is what will be read after x, to be fetched meanwhile:
    // as long as x, or anything at all.
    static abstract void Product(
        KvType type,
        int rowCount,
        float* factors,
        long factorStride,
        byte* x,
        byte* next,
        long groupBytes,
        int groupCount,
        int count,
        float* sums,
        long sumStride,
        bool fresh);

    // Decodes `count` (a multiple of 16) F16 or BF16 values. `next` is what will be decoded after the source, to be
    // fetched meanwhile.
    static abstract void Decode(KvType type, byte* source, byte* next, float* destination, int count);

    // destination[i][lane] = source[i][lane] * scales[lane] (binary16), i < rowCount.
    static abstract void DecodeByLane(sbyte* source, byte* next, ushort* scales, float* destination, int rowCount);

    // destination[i][lane] = source[i][lane] * scales[i] (binary16), i < rowCount.
    static abstract void DecodeByRow(sbyte* source, byte* next, ushort* scales, float* destination, int rowCount);

    // scores[i] = exp(scores[i] - max) for i < count, 0 for count <= i < paddedCount (a multiple of 16); returns max and the sum.
    static abstract void Softmax(float* scores, int count, int paddedCount, out float max, out float total);
}

// Sizes of register tiles as types, so that the JIT compiles one straight loop for each.
internal static class TileSize
{
    internal interface ICount
    {
        static abstract int Count { get; }
    }

    internal readonly struct One : ICount
    {
        public static int Count => 1;
    }

    internal readonly struct Two : ICount
    {
        public static int Count => 2;
    }

    internal readonly struct Four : ICount
    {
        public static int Count => 4;
    }

    internal readonly struct Six : ICount
    {
        public static int Count => 6;
    }
}
