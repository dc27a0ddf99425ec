using System.IO.Compression;
using System.Text;
using System.Text.Json;
using Qian.Inference.Text;

using Qian.Inference.Formats;

namespace Qian.Inference.Verification;

// Compares the tokenizer with recorded answers of other implementations. A golden folder holds cases.jsonl ({"text", "ids", "decoded"} a line),
// or decode.jsonl ({"ids", "decoded"}), or both, and the tokenizer.json they were made with, plain or as tokenizer*.json.gz.
internal static class TokenizerGoldens
{
    private const int ShownFailureCount = 5;
    private const long MaxTokenizerBytes = 64L << 20;

    internal sealed record Comparison(string Name, int ComparedCount, int FailedCount, string FirstFailures);

    // Compares every golden folder found at the path or directly below it; an empty list when there is none.
    public static IReadOnlyList<Comparison> Run(string path)
    {
        var comparisons = new List<Comparison>();
        var folders = new List<string> { path };
        folders.AddRange(Directory.GetDirectories(path).Order(StringComparer.Ordinal));
        foreach (string folder in folders)
        {
            string encodeFile = Path.Combine(folder, "cases.jsonl");
            string decodeFile = Path.Combine(folder, "decode.jsonl");
            if ((!File.Exists(encodeFile) && !File.Exists(decodeFile)) || FindTokenizer(folder) is not { } tokenizerFile)
            {
                continue;
            }

            var tokenizer = new Tokenizer(HuggingFaceTokenizer.ReadTokenizerJson(ReadTokenizer(tokenizerFile)));
            string name = Path.GetFileName(Path.TrimEndingDirectorySeparator(Path.GetFullPath(folder)));
            CompareFile(encodeFile, $"{name}: encode", tokenizer, CompareEncoding, comparisons);
            CompareFile(encodeFile, $"{name}: decode what was encoded", tokenizer, CompareDecoding, comparisons);
            CompareFile(decodeFile, $"{name}: decode", tokenizer, CompareDecoding, comparisons);
        }

        return comparisons;
    }

    private static string? FindTokenizer(string folder)
    {
        string plain = Path.Combine(folder, "tokenizer.json");
        return File.Exists(plain) ? plain : Directory.GetFiles(folder, "tokenizer*.json.gz").Order(StringComparer.Ordinal).FirstOrDefault();
    }

    private static byte[] ReadTokenizer(string file)
    {
        if (!file.EndsWith(".gz", StringComparison.Ordinal))
        {
            return File.ReadAllBytes(file);
        }

        using var unpacked = new GZipStream(File.OpenRead(file), CompressionMode.Decompress);
        using var bytes = new MemoryStream();
        var buffer = new byte[1 << 16];
        for (int count = unpacked.Read(buffer); count > 0; count = unpacked.Read(buffer))
        {
            bytes.Write(buffer, 0, count);
            if (bytes.Length > MaxTokenizerBytes)
            {
                throw new BadModelFileException($"{file} unpacks to more than {MaxTokenizerBytes} bytes; it is not a tokenizer.");
            }
        }

        return bytes.ToArray();
    }

    private static void CompareFile(
        string file, string name, Tokenizer tokenizer, Func<Tokenizer, JsonElement, string?> compare, List<Comparison> comparisons)
    {
        if (!File.Exists(file))
        {
            return;
        }

        int comparedCount = 0;
        int failedCount = 0;
        var failures = new StringBuilder();
        foreach (string line in File.ReadLines(file))
        {
            using JsonDocument golden = JsonDocument.Parse(line);
            comparedCount++;
            if (compare(tokenizer, golden.RootElement) is { } failure && failedCount++ < ShownFailureCount)
            {
                failures.Append("line ").Append(comparedCount).Append(": ").AppendLine(failure);
            }
        }

        comparisons.Add(new Comparison(name, comparedCount, failedCount, failures.ToString()));
    }

    private static string? CompareEncoding(Tokenizer tokenizer, JsonElement golden)
    {
        string text = golden.GetProperty("text").GetString()!;
        int[] expected = IdsOf(golden);
        int[] found = tokenizer.Encode(text, matchAddedTokens: true);
        return expected.AsSpan().SequenceEqual(found)
            ? null
            : $"{JsonSerializer.Serialize(text)}: expected [{string.Join(", ", expected)}], found [{string.Join(", ", found)}]";
    }

    private static string? CompareDecoding(Tokenizer tokenizer, JsonElement golden)
    {
        string expected = golden.GetProperty("decoded").GetString()!;
        int[] ids = IdsOf(golden);
        string whole = tokenizer.Decode(ids);
        var streamed = new StringBuilder();
        var stream = new StreamingDetokenizer(tokenizer);
        foreach (int id in ids)
        {
            streamed.Append(stream.Append(id));
        }

        streamed.Append(stream.Flush());
        return whole == expected && streamed.Equals(expected)
            ? null
            : $"[{string.Join(", ", ids)}]: expected {JsonSerializer.Serialize(expected)}, found {JsonSerializer.Serialize(whole)}, "
                + $"streamed {JsonSerializer.Serialize(streamed.ToString())}";
    }

    private static int[] IdsOf(JsonElement golden)
    {
        return [.. golden.GetProperty("ids").EnumerateArray().Select(static id => id.GetInt32())];
    }
}
