using Qian.Inference;
using Qian.Inference.Formats;

namespace Qian.Weights;

// What to make up.
internal sealed record SynthRequest
{
    public required SynthShape Shape { get; init; }

    public required QuantMix Mix { get; init; }

    // The first so many layers; null for all.
    public int? LayerCount { get; init; }

    public bool WithMtp { get; init; }

    // Same seed, same file.
    public ulong Seed { get; init; }

    // Rows of the embedding; null for the shape's own, or as many as a given tokenizer needs.
    public int? VocabularySize { get; init; }

    // A tokenizer.json, a Hugging Face folder or a GGUF file to take the tokenizer from; null for a made-up vocabulary.
    public string? TokenizerPath { get; init; }

    public required string ChatTemplate { get; init; }

    // Replace what is already there.
    public bool Overwrite { get; init; }

    public int ThreadCount { get; init; } = Environment.ProcessorCount;
}

internal readonly record struct SynthProgress(long BytesDone, long BytesTotal, string Tensor);

// `FileBytes`: of all files written; the time is that of making and writing them, in which the operating system may still hold
// the last of it in memory.
internal sealed record SynthResult(string Path, ModelConfig Config, long FileBytes, long ParameterCount, TimeSpan Elapsed);

// Everything about the file that is decided before its first byte.
internal sealed record SynthPlan(SynthRequest Request, ModelConfig Config, TokenizerSpec Tokenizer, IReadOnlyList<SynthTensor> Tensors)
{
    // The pieces are whole blocks of every type; larger ones gain nothing.
    private const int MostChunkBytes = 4 << 20;

    // The pieces of one tensor, whose values come from streams that depend on the seed, the tensor and the piece only.
    public void AddChunks(List<Chunk> chunks, string name, SynthTensor tensor, Kernels.WeightType type)
    {
        int blockBytes = Kernels.WeightFormat.BlockBytes(type);
        long left = tensor.ValueCount / Kernels.WeightFormat.BlockValues(type) * blockBytes;
        int mostBytes = MostChunkBytes / blockBytes * blockBytes;
        var blocks = new RandomBlocks(type, tensor.Deviation);
        for (ulong index = 0; left > 0; index++)
        {
            int byteCount = (int)Math.Min(left, mostBytes);
            chunks.Add(new RandomChunk(name, blocks, Key(tensor, index), byteCount));
            left -= byteCount;
        }
    }

    public ulong Key(SynthTensor tensor, ulong chunkIndex) =>
        RandomBytes.Key(Request.Seed, (ulong)tensor.Role, (ulong)(tensor.Layer + 1), chunkIndex);
}
