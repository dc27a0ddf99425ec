using Qian.Inference.Chat;
using Qian.Inference.Formats;
using Qian.Inference.Text;
using System.Text.Json;

namespace Qian.Inference.Verification;

// The tokenizer and the template of a model file at work: texts come back as they went in, control tokens are where a
// conversation needs them, and every kind of conversation renders with its text in it.
internal static class TextChecks
{
    private static readonly string[] s_texts =
    [
        "The quick brown fox jumps over the lazy dog. It's 12,345.67 today!",
        "public static int F(int[] a)\n{\n\treturn a.Length > 0 ? a[^1] : -1; // \u00e9\n}\r\n",
        "Zwölf Boxkämpfer; Съешь ещё этих булок; 天地玄黄,宇宙洪荒; العربية; हिन्दी; 👩‍💻 \u0000\u0001\u007f",
        "   leading and trailing spaces   \n\n\n",
    ];

    public static IEnumerable<(string Quantity, List<string> Faults)> Run(Checkpoint checkpoint)
    {
        Tokenizer? tokenizer = null;
        var faults = new List<string>();
        try
        {
            if (checkpoint.LoadTokenizer() is { } spec)
            {
                tokenizer = new Tokenizer(spec);
                faults.AddRange(OfVocabulary(spec, tokenizer, checkpoint));
                faults.AddRange(OfTexts(tokenizer));
            }
            else
            {
                faults.Add("there is none");
            }
        }
        catch (BadModelFileException error)
        {
            faults.Add(error.Message);
        }

        yield return ("faults of the tokenizer", faults);
        yield return ("faults of the chat template", [.. OfTemplate(checkpoint, tokenizer)]);
    }

    private static IEnumerable<string> OfVocabulary(TokenizerSpec spec, Tokenizer tokenizer, Checkpoint checkpoint)
    {
        if (spec.RowCount > checkpoint.Config.VocabularySize)
            yield return $"{spec.RowCount} ids, but {checkpoint.Config.VocabularySize} rows of the embedding";
        int defined = 0;
        for (int id = 0; id < spec.RowCount; id++)
            defined += tokenizer.IsDefined(id) ? 1 : 0;
        if (defined < checkpoint.Config.VocabularySize / 2)
            yield return $"{defined} tokens for {checkpoint.Config.VocabularySize} rows of the embedding";
        var bytes = new HashSet<byte>();
        foreach (string? piece in spec.Pieces)
        {
            if (piece is { Length: 1 })
                bytes.Add((byte)ByteAlphabet.ByteOf(piece[0]));
        }

        if (bytes.Count < 256)
            yield return $"{256 - bytes.Count} of the 256 bytes have no token of their own, so not every text can be written";
        foreach (int id in checkpoint.Generation.EosTokenIds)
        {
            if (!tokenizer.IsDefined(id) || !tokenizer.IsControl(id))
                yield return $"the end of text is token {id}, which is {(tokenizer.IsDefined(id) ? $"ordinary text ({FileText.Quote(tokenizer.Decode([id]))})" : "undefined")}";
        }
    }

    private static IEnumerable<string> OfTexts(Tokenizer tokenizer)
    {
        foreach (string text in s_texts)
        {
            string back = tokenizer.Decode(tokenizer.Encode(text));
            if (back != text.Normalize())
                yield return $"{FileText.Quote(text[..Math.Min(20, text.Length)])} comes back as {FileText.Quote(back)}";
        }
    }

    private static IEnumerable<string> OfTemplate(Checkpoint checkpoint, Tokenizer? tokenizer)
    {
        if (checkpoint.ChatTemplate is not { } source)
            return [];
        var faults = new List<string>();
        ChatTemplate? template = null;
        foreach ((string name, IReadOnlyList<Message> messages, IReadOnlyList<ToolDefinition>? tools) in Conversations())
        {
            try
            {
                template ??= ChatTemplate.Compile(source);
                if (tools is not null && !template.Summary.HasTools)
                    continue;
                IReadOnlyList<PromptSegment> prompt = template.RenderSegments(messages, tools, ChatTemplateOptions.Default);
                string text = PromptEncoder.Join(prompt);
                string wanted = messages[^1].Text;
                if (!text.Contains(wanted, StringComparison.Ordinal))
                    faults.Add($"{name}: the last message is not in the prompt");
                if (tokenizer is not null && tokenizer.TryGetId("<|im_start|>", out int start) && !PromptEncoder.Encode(tokenizer, prompt).Contains(start))
                    faults.Add($"{name}: no turn begins with <|im_start|>, which the tokenizer has");
            }
            catch (Exception error) when (error is BadModelFileException or BadRequestException)
            {
                faults.Add($"{name}: {error.Message}");
            }

            if (template is null)
                break;
        }

        return faults;
    }

    private static IEnumerable<(string Name, IReadOnlyList<Message> Messages, IReadOnlyList<ToolDefinition>? Tools)> Conversations()
    {
        var user = new Message(MessageRole.User, "What is in notes.txt?");
        var system = new Message(MessageRole.System, "Be brief.");
        yield return ("a question", [user], null);
        yield return ("a system message", [system, user], null);
        yield return ("several turns", [user, new Message(MessageRole.Assistant, "A list.") { ReasoningContent = "I saw it." }, new Message(MessageRole.User, "Of what?")], null);
        using JsonDocument tool = JsonDocument.Parse("""{"type":"function","function":{"name":"read_file","description":"Reads a file","parameters":{"type":"object","properties":{"path":{"type":"string"}},"required":["path"]}}}""");
        using JsonDocument arguments = JsonDocument.Parse("""{"path":"notes.txt"}""");
        ToolDefinition[] tools = [new ToolDefinition(tool.RootElement.Clone())];
        yield return ("tools", [system, user], tools);
        var call = new Message(MessageRole.Assistant, "") { ToolCalls = [new ToolCall("1", "read_file", arguments.RootElement.Clone())] };
        yield return ("a tool's answer", [user, call, new Message(MessageRole.Tool, "milk, eggs") { ToolCallId = "1", Name = "read_file" }], tools);
    }
}
