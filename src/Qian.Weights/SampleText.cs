using System.Text;
using System.Text.Json;
using System.Text.Unicode;
using Qian.Inference;
using Qian.Inference.Chat;

namespace Qian.Weights;

// Texts to read with a model, as one stream of token ids. A .jsonl file holds one sample per line: {"messages": […], "tools": […]},
// rendered with the model's own template, or {"text": "…"}; any other file is plain text. Samples end with the end-of-text token
// where the tokenizer has it.
internal static class SampleText
{
    private const long MostBytes = 1L << 30;

    // What can be said before a model is loaded.
    public static void RequireFiles(IEnumerable<string> paths)
    {
        foreach (string path in paths)
        {
            if (!File.Exists(path))
                throw new BadRequestException($"{path}: no such file");
            if (new FileInfo(path).Length > MostBytes)
                throw new BadRequestException($"{path}: larger than {MostBytes >> 30} GiB; a few megabytes of text are enough");
        }
    }

    public static int[] Tokens(IReadOnlyList<string> paths, Engine engine)
    {
        RequireFiles(paths);
        var ids = new List<int>();
        foreach (string path in paths)
        {
            if (Path.GetExtension(path).Equals(".jsonl", StringComparison.OrdinalIgnoreCase))
                AddLines(path, engine, ids);
            else
                engine.Tokenizer.Encode(PlainText(path), matchAddedTokens: false, ids);
        }

        return [.. ids];
    }

    // UTF-8, or what its first bytes say it is. Anything else would be read as a long row of replacement characters.
    private static string PlainText(string path)
    {
        byte[] bytes = File.ReadAllBytes(path);
        bool isMarked = bytes.AsSpan().StartsWith(Encoding.Unicode.Preamble) || bytes.AsSpan().StartsWith(Encoding.BigEndianUnicode.Preamble);
        if (!isMarked && (!Utf8.IsValid(bytes) || bytes.Contains((byte)0)))
            throw new BadRequestException($"{path}: expected text in UTF-8 (or .jsonl), found other bytes");
        using var reader = new StreamReader(new MemoryStream(bytes), Encoding.UTF8, detectEncodingFromByteOrderMarks: true);
        return reader.ReadToEnd();
    }

    private static void AddLines(string path, Engine engine, List<int> ids)
    {
        int number = 0;
        foreach (string line in File.ReadLines(path))
        {
            number++;
            if (string.IsNullOrWhiteSpace(line))
                continue;
            try
            {
                using JsonDocument document = JsonDocument.Parse(line);
                AddSample(document.RootElement, engine, ids);
            }
            catch (Exception error) when (error is JsonException or BadRequestException)
            {
                throw new BadRequestException($"{path}, line {number}: {error.Message}", error);
            }
        }
    }

    private static void AddSample(JsonElement sample, Engine engine, List<int> ids)
    {
        if (sample.ValueKind == JsonValueKind.Object && sample.TryGetProperty("messages", out JsonElement messages))
        {
            IReadOnlyList<ToolDefinition>? tools = sample.TryGetProperty("tools", out JsonElement given) ? MessageJson.ReadTools(given) : null;
            var options = ChatTemplateOptions.Default with { AddGenerationPrompt = false };
            IReadOnlyList<Message> normal = MessageNormalizer.Normalize(MessageJson.Read(messages), engine.Template.Summary);
            ids.AddRange(PromptEncoder.Encode(engine.Tokenizer, engine.Template.RenderSegments(normal, tools, options)));
        }
        else if (sample.ValueKind == JsonValueKind.Object && sample.TryGetProperty("text", out JsonElement text) && text.ValueKind == JsonValueKind.String)
        {
            engine.Tokenizer.Encode(MessageJson.String(text), matchAddedTokens: false, ids);
        }
        else
        {
            throw new BadRequestException("expected an object with \"messages\" or \"text\"");
        }

        if (engine.Tokenizer.TryGetId("<|endoftext|>", out int end))
            ids.Add(end);
    }
}
