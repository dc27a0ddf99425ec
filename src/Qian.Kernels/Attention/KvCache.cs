namespace Qian.Kernels;

/// <summary>Writes rows of keys and values into the blocks of one sequence and reads them back.</summary>
public static unsafe class KvCache
{
    // Rows that one thread encodes at a time; one row alone stays on the caller's thread.
    private const int ChunkRows = 8;

    /// <summary>
    /// Stores token <paramref name="firstToken"/> + i of the sequence, for i below <paramref name="rowCount"/>, in
    /// <c>blocks[(firstToken + i) / BlockTokens]</c>, in the type of that block. The stored bits do not depend on tier or threads.
    /// </summary>
    /// <param name="shape">Geometry of all blocks.</param>
    /// <param name="blocks">The sequence's blocks from token 0 on; written blocks must not be shared.</param>
    /// <param name="layerIndex">Layer within the blocks.</param>
    /// <param name="firstToken">Token index of the first row.</param>
    /// <param name="k">Keys [rowCount, KvHeads * HeadDim], normed and rotated.</param>
    /// <param name="v">Values [rowCount, KvHeads * HeadDim].</param>
    /// <param name="rowCount">Rows to store.</param>
    /// <param name="team">Threads to use.</param>
    /// <exception cref="ArgumentException">A view or the block table is too short, or a block has another shape.</exception>
    public static void Write(in KvShape shape, KvBlock[] blocks, int layerIndex, int firstToken, FloatView k, FloatView v, int rowCount, ThreadTeam team)
    {
        ArgumentNullException.ThrowIfNull(team);
        Check(shape, blocks, layerIndex, firstToken, rowCount, k, v);
        var job = new WriteJob
        {
            Shape = shape,
            Blocks = blocks,
            LayerIndex = layerIndex,
            FirstToken = firstToken,
            RowCount = rowCount,
            Keys = k.Pointer,
            Values = v.Pointer,
        };
        team.Run(ref job, (rowCount + ChunkRows - 1) / ChunkRows);
    }

    /// <summary>Decodes tokens firstToken … firstToken + rowCount - 1 of a layer to <paramref name="k"/> and <paramref name="v"/> [rowCount, KvHeads * HeadDim].</summary>
    /// <exception cref="ArgumentException">A view or the block table is too short, or a block has another shape.</exception>
    public static void Read(in KvShape shape, KvBlock[] blocks, int layerIndex, int firstToken, int rowCount, FloatView k, FloatView v)
    {
        Check(shape, blocks, layerIndex, firstToken, rowCount, k, v);
        long rowStride = (long)shape.KvHeads * shape.HeadDim;
        for (int row = 0; row < rowCount; row++)
        {
            KvBlock block = blocks[(firstToken + row) / shape.BlockTokens];
            int tokenInBlock = (firstToken + row) % shape.BlockTokens;
            for (int head = 0; head < shape.KvHeads; head++)
            {
                long offset = row * rowStride + (long)head * shape.HeadDim;
                KvCodec.LoadKey(block, layerIndex, head, tokenInBlock, k.Pointer + offset);
                KvCodec.LoadValue(block, layerIndex, head, tokenInBlock, v.Pointer + offset);
            }
        }
    }

    // Every block that tokens [firstToken, endToken) lie in must exist and have the shape.
    internal static void CheckBlocks(in KvShape shape, KvBlock[] blocks, int layerIndex, int firstToken, int endToken)
    {
        shape.Check();
        ArgumentNullException.ThrowIfNull(blocks);
        if ((uint)layerIndex >= (uint)shape.LayerCount)
            throw new ArgumentOutOfRangeException(nameof(layerIndex), layerIndex, $"the blocks hold {shape.LayerCount} layers");
        int endBlock = (int)(((long)endToken + shape.BlockTokens - 1) / shape.BlockTokens);
        if (endBlock > blocks.Length)
            throw new ArgumentException($"{blocks.Length} blocks of {shape.BlockTokens} tokens do not hold tokens up to {endToken}.", nameof(blocks));
        for (int i = firstToken / shape.BlockTokens; i < endBlock; i++)
        {
            if (blocks[i] is null || blocks[i].Shape != shape)
                throw new ArgumentException($"block {i} is {(blocks[i] is null ? "missing" : blocks[i].Shape.ToString())}; expected {shape}.", nameof(blocks));
        }
    }

    private static void Check(in KvShape shape, KvBlock[] blocks, int layerIndex, int firstToken, int rowCount, FloatView k, FloatView v)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(firstToken);
        ArgumentOutOfRangeException.ThrowIfNegative(rowCount);
        CheckBlocks(shape, blocks, layerIndex, firstToken, checked(firstToken + rowCount));
        long floatCount = (long)rowCount * shape.KvHeads * shape.HeadDim;
        if (k.Length < floatCount || v.Length < floatCount)
            throw new ArgumentException($"keys of {k.Length} and values of {v.Length} floats; {rowCount} rows of {shape} need {floatCount}.");
    }

    private struct WriteJob : IChunkedJob
    {
        public KvShape Shape;
        public KvBlock[] Blocks;
        public int LayerIndex;
        public int FirstToken;
        public int RowCount;
        public float* Keys;
        public float* Values;

        public readonly void Run(int chunkIndex)
        {
            long rowStride = (long)Shape.KvHeads * Shape.HeadDim;
            int end = Math.Min((chunkIndex + 1) * ChunkRows, RowCount);
            for (int row = chunkIndex * ChunkRows; row < end; row++)
            {
                KvBlock block = Blocks[(FirstToken + row) / Shape.BlockTokens];
                int tokenInBlock = (FirstToken + row) % Shape.BlockTokens;
                for (int head = 0; head < Shape.KvHeads; head++)
                {
                    long offset = row * rowStride + (long)head * Shape.HeadDim;
                    KvCodec.StoreKey(block, LayerIndex, head, tokenInBlock, Keys + offset);
                    KvCodec.StoreValue(block, LayerIndex, head, tokenInBlock, Values + offset);
                }
            }
        }
    }
}
