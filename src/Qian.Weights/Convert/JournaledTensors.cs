using System.Security.Cryptography;
using Qian.Inference.Formats;

namespace Qian.Weights;

// Sends a conversion's pieces through the encoders into a file, tensor by tensor as the journal has it: what an earlier run
// finished is checked and kept, what this one finishes is written down.
internal static class JournaledTensors
{
    // `chunks` in the writer's order, those of a tensor together. `written` hears of every piece, kept ones included.
    public static void Write(ITensorWriter writer, List<Chunk> chunks, ConversionJournal journal, int threadCount, Action<EncodedRows, bool> written, CancellationToken cancellation)
    {
        int first = 0, kept = 0;
        while (first < chunks.Count && kept < journal.Entries.Count && journal.Entries[kept].TensorName == chunks[first].TensorName && writer.TryKeep(journal.Entries[kept].Digest))
        {
            cancellation.ThrowIfCancellationRequested();
            kept++;
            for (string name = chunks[first].TensorName; first < chunks.Count && chunks[first].TensorName == name; first++)
                written((EncodedRows)chunks[first], true);
        }

        journal.Cut(kept);
        List<Chunk> left = chunks[first..];
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        int next = 0;
        new ChunkPipeline(left, threadCount).Run(
            (chunk, bytes) =>
            {
                writer.Write(bytes.Span);
                hash.AppendData(bytes.Span);
                next++;
                written((EncodedRows)chunk, false);
                if (next == left.Count || left[next].TensorName != chunk.TensorName)
                {
                    writer.Flush();
                    journal.Add(chunk.TensorName, hash.GetHashAndReset());
                }
            },
            cancellation);
    }
}
