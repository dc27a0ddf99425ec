namespace Qian.Weights;

// Whole blocks from one random stream.
internal sealed class RandomChunk(string tensorName, RandomBlocks blocks, ulong key, int byteCount) : Chunk(tensorName, byteCount)
{
    public override void Make(Span<byte> destination) => blocks.Fill(key, destination);
}
