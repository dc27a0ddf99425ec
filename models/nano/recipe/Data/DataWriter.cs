using System.Buffers;
using System.Text.Encodings.Web;
using System.Text.Json;
using Qian.Inference.Formats;

namespace Qian.Nano;

internal sealed record DataSummary(long SampleCount, long CharacterCount, IReadOnlyDictionary<string, (long Samples, long Written)> Families)
{
    public long TokenEstimate => CharacterCount / DataWriter.CharactersPerToken;
}

// Writes samples of the mixture to a JSONL file until a count or an estimate of tokens is reached.
internal static class DataWriter
{
    // Of the rendered text, with a vocabulary of 4,096 that is made for it: an estimate.
    public const int CharactersPerToken = 4;

    public static DataSummary Write(string path, ulong seed, Split split, long? count, long? tokens, IReadOnlyDictionary<string, double>? shares = null)
    {
        var mixture = new Mixture(seed, split, shares);
        var families = new Dictionary<string, (long Samples, long Written)>();
        long sampleCount = 0;
        long characters = 0;
        using (var file = new PartialFile(path))
        {
            var buffer = new ArrayBufferWriter<byte>(1 << 14);
            using var json = new Utf8JsonWriter(buffer, new JsonWriterOptions { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping });
            while (count is { } wanted ? sampleCount < wanted : characters < tokens * CharactersPerToken)
            {
                Conversation sample = mixture.Next();
                buffer.ResetWrittenCount();
                json.Reset();
                sample.WriteTo(json);
                json.Flush();
                file.Write(buffer.WrittenSpan);
                file.Write("\n"u8);
                sampleCount++;
                characters += sample.TotalLength;
                (long samples, long written) = families.GetValueOrDefault(sample.Family);
                families[sample.Family] = (samples + 1, written + sample.WrittenLength);
            }

            file.Commit();
        }

        return new DataSummary(sampleCount, characters, families);
    }
}
