using System.Text;
using System.Text.Json;

namespace Qian.Inference.Formats;

// Reads the tokenizer of a Hugging Face folder: tokenizer.json, or vocab.json with merges.txt, and on top of either the added tokens and special
// ids of tokenizer_config.json (which lists tokens that tokenizer.json lacks). Whatever would change the ids and is not of this family is refused,
// naming it. Files are hostile until checked; their size bounds the work.
internal static class HuggingFaceTokenizer
{
    // The 248,320-row tokenizer.json has 12.8 MB.
    private const long MaxFileBytes = 64L << 20;

    private const string Qwen2Regex =
        @"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

    private const string Qwen35Regex =
        @"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

    // rowCount: the model's vocab_size, which adds padding rows; 0: no more rows than tokens.
    public static TokenizerSpec ReadFolder(string folder, int rowCount = 0)
    {
        ReadOnlyMemory<byte>? config = ReadFileIfPresent(folder, "tokenizer_config.json");
        if (ReadFileIfPresent(folder, "tokenizer.json") is { } tokenizer)
        {
            return ReadTokenizerJson(tokenizer, config, rowCount);
        }

        if (ReadFileIfPresent(folder, "vocab.json") is { } vocabulary && ReadFileIfPresent(folder, "merges.txt") is { } merges)
        {
            return ReadVocabularyAndMerges(vocabulary, merges, config, rowCount);
        }

        throw new BadModelFileException($"{folder} has neither tokenizer.json nor vocab.json with merges.txt; download one of them into the folder.");
    }

    public static TokenizerSpec ReadTokenizerJson(ReadOnlyMemory<byte> json, ReadOnlyMemory<byte>? config = null, int rowCount = 0)
    {
        using JsonDocument document = Parse("tokenizer.json", json);
        JsonNodeView root = new("tokenizer.json", document.RootElement);
        JsonNodeView model = root.Require("model");
        CheckModel(model);
        Dictionary<string, int> idOfPiece = ReadVocabulary(model.Require("vocab"));
        var addedTokens = new AddedTokenSet();
        if (root.Find("added_tokens") is { } list)
        {
            foreach (JsonNodeView token in list.Items())
            {
                addedTokens.Add(token, token.Require("id").Int32());
            }
        }

        bool normalizes = ReadNormalizer(root.Find("normalizer"));
        PreTokenizer preTokenizer = ReadPreTokenizer(root.Find("pre_tokenizer"));
        return Assemble(idOfPiece, ReadMerges(model.Require("merges"), idOfPiece), addedTokens, preTokenizer, normalizes, config, rowCount);
    }

    // These two files do not say how text is split and normalised; the family's way is assumed.
    public static TokenizerSpec ReadVocabularyAndMerges(
        ReadOnlyMemory<byte> vocabulary, ReadOnlyMemory<byte> merges, ReadOnlyMemory<byte>? config = null, int rowCount = 0)
    {
        using JsonDocument document = Parse("vocab.json", vocabulary);
        Dictionary<string, int> idOfPiece = ReadVocabulary(new JsonNodeView("vocab.json", document.RootElement));
        var rules = new List<MergeRule>();
        ReadOnlySpan<char> text = Encoding.UTF8.GetString(merges.Span);
        foreach (Range range in text.Split('\n'))
        {
            ReadOnlySpan<char> line = text[range].TrimEnd('\r');
            if (!line.IsEmpty && !(rules.Count == 0 && line.StartsWith("#version")))
            {
                rules.Add(MergeReader.ReadPair(idOfPiece, line, rules.Count));
            }
        }

        return Assemble(idOfPiece, [.. rules], new AddedTokenSet(), PreTokenizer.Qwen35, normalizes: true, config, rowCount);
    }

    private static TokenizerSpec Assemble(
        Dictionary<string, int> idOfPiece,
        MergeRule[] merges,
        AddedTokenSet addedTokens,
        PreTokenizer preTokenizer,
        bool normalizes,
        ReadOnlyMemory<byte>? config,
        int rowCount)
    {
        string? eos = null;
        string? padding = null;
        string? bos = null;
        if (config is not null)
        {
            using JsonDocument document = Parse("tokenizer_config.json", config.Value);
            JsonNodeView root = new("tokenizer_config.json", document.RootElement);
            if (root.Find("added_tokens_decoder") is { } decoder)
            {
                foreach ((string name, JsonNodeView token) in decoder.Members())
                {
                    addedTokens.Add(token, int.TryParse(name, out int id) ? id : throw token.Unexpected("a token id for a name", name));
                }
            }

            eos = SpecialTokenText(root.Find("eos_token"));
            padding = SpecialTokenText(root.Find("pad_token"));
            bos = SpecialTokenText(root.Find("bos_token"));
        }

        int tokenCount = Math.Max(addedTokens.MaxId, idOfPiece.Count == 0 ? -1 : idOfPiece.Values.Max()) + 1;
        if (rowCount != 0 && rowCount < tokenCount)
        {
            throw new BadModelFileException($"The tokenizer has tokens up to id {tokenCount - 1}, the model only {rowCount} rows; the files are of different models.");
        }

        rowCount = rowCount == 0 ? tokenCount : rowCount;
        TokenizerSpec.CheckRowCount(rowCount);
        var pieces = new string?[rowCount];
        foreach ((string piece, int id) in idOfPiece)
        {
            // Some files list added tokens in the vocabulary too.
            if (addedTokens.TextOf(id) != piece)
            {
                pieces[id] = piece;
            }
        }

        int? IdOf(string? text)
        {
            return text is null ? null : addedTokens.IdOf(text) ?? (idOfPiece.TryGetValue(text, out int id) ? id : null);
        }

        return new TokenizerSpec(pieces, merges, addedTokens.ToArray(), preTokenizer)
        {
            NormalizesToNfc = normalizes,
            EosId = IdOf(eos),
            PaddingId = IdOf(padding),
            BosId = IdOf(bos),
        };
    }

    private static string? SpecialTokenText(JsonNodeView? token)
    {
        return token?.Kind switch
        {
            null or JsonValueKind.Null => null,
            JsonValueKind.Object => token.Value.Require("content").Text(),
            _ => token.Value.Text(),
        };
    }

    private static void CheckModel(JsonNodeView model)
    {
        if (model.Find("type") is { } type && type.Text() != "BPE")
        {
            throw type.Unexpected("\"BPE\"", type.Text());
        }

        foreach (string key in (ReadOnlySpan<string>)["dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback", "ignore_merges"])
        {
            if (model.Find(key) is { } value && !value.IsAbsentOrNeutral())
            {
                throw value.Unexpected("nothing, as in all models of the family", value.Summary());
            }
        }
    }

    private static Dictionary<string, int> ReadVocabulary(JsonNodeView vocabulary)
    {
        var idOfPiece = new Dictionary<string, int>();
        var ids = new HashSet<int>();
        foreach ((string piece, JsonNodeView value) in vocabulary.Members())
        {
            int id = value.Int32();
            if (id is < 0 or >= TokenizerSpec.MaxRowCount)
            {
                throw value.Unexpected($"ids from 0 to {TokenizerSpec.MaxRowCount - 1}", id.ToString());
            }

            if (!idOfPiece.TryAdd(piece, id) || !ids.Add(id))
            {
                throw value.Unexpected("each token and each id once", $"\"{piece}\" with id {id} again");
            }
        }

        return idOfPiece;
    }

    private static MergeRule[] ReadMerges(JsonNodeView merges, Dictionary<string, int> idOfPiece)
    {
        var rules = new List<MergeRule>();
        foreach (JsonNodeView merge in merges.Items())
        {
            int rank = rules.Count;
            if (merge.Kind == JsonValueKind.Array)
            {
                List<string> parts = [];
                foreach (JsonNodeView part in merge.Items())
                {
                    parts.Add(part.Text());
                }

                rules.Add(parts.Count == 2 ? MergeReader.Resolve(idOfPiece, parts[0], parts[1], rank) : throw merge.Unexpected("two tokens", $"{parts.Count}"));
            }
            else
            {
                rules.Add(MergeReader.ReadPair(idOfPiece, merge.Text(), rank));
            }
        }

        return [.. rules];
    }

    private static bool ReadNormalizer(JsonNodeView? normalizer)
    {
        if (normalizer is null || normalizer.Value.Kind == JsonValueKind.Null)
        {
            return false;
        }

        JsonNodeView type = normalizer.Value.Require("type");
        return type.Text() == "NFC" ? true : throw type.Unexpected("\"NFC\"", type.Text());
    }

    // A Split by one of the two known expressions, then ByteLevel without an expression of its own.
    private static PreTokenizer ReadPreTokenizer(JsonNodeView? preTokenizer)
    {
        PreTokenizer? found = null;
        if (preTokenizer is { Kind: JsonValueKind.Object } sequence && sequence.Find("pretokenizers") is { } steps)
        {
            foreach (JsonNodeView step in steps.Items())
            {
                JsonNodeView type = step.Require("type");
                if (type.Text() == "Split" && found is null)
                {
                    JsonNodeView regex = step.Require("pattern").Require("Regex");
                    found = regex.Text() switch
                    {
                        Qwen35Regex => PreTokenizer.Qwen35,
                        Qwen2Regex => PreTokenizer.Qwen2,
                        _ => throw regex.Unexpected("the expression of Qwen3.5 or of Qwen2", regex.Text()),
                    };
                    CheckSplit(step);
                }
                else if (type.Text() == "ByteLevel" && found is not null)
                {
                    CheckNeutral(step, "add_prefix_space");
                    CheckNeutral(step, "use_regex");
                }
                else
                {
                    throw type.Unexpected("\"Split\" and then \"ByteLevel\"", type.Text());
                }
            }
        }

        return found ?? throw new BadModelFileException(
            "tokenizer.json: pre_tokenizer is not the sequence of Split and ByteLevel that models of the family have; found "
            + $"{preTokenizer?.Summary() ?? "nothing"}.");
    }

    private static void CheckSplit(JsonNodeView step)
    {
        if (step.Find("behavior") is { } behavior && behavior.Text() != "Isolated")
        {
            throw behavior.Unexpected("\"Isolated\"", behavior.Text());
        }

        CheckNeutral(step, "invert");
    }

    private static void CheckNeutral(JsonNodeView node, string key)
    {
        if (node.Find(key) is { } value && !value.IsAbsentOrNeutral())
        {
            throw value.Unexpected("false", value.Summary());
        }
    }

    private static JsonDocument Parse(string fileName, ReadOnlyMemory<byte> json)
    {
        CheckSize(fileName, json.Length);
        ReadOnlyMemory<byte> body = json.Span.StartsWith("\uFEFF"u8) ? json[3..] : json;
        try
        {
            return JsonDocument.Parse(body, new JsonDocumentOptions { MaxDepth = 32 });
        }
        catch (JsonException e)
        {
            throw new BadModelFileException($"{fileName} is not valid JSON ({e.Message}); download it again.", e);
        }
    }

    private static ReadOnlyMemory<byte>? ReadFileIfPresent(string folder, string fileName)
    {
        var file = new FileInfo(Path.Combine(folder, fileName));
        if (!file.Exists)
        {
            return null;
        }

        CheckSize(fileName, file.Length);
        return File.ReadAllBytes(file.FullName);
    }

    private static void CheckSize(string fileName, long bytes)
    {
        if (bytes > MaxFileBytes)
        {
            throw new BadModelFileException($"{fileName} has {bytes} bytes, more than the {MaxFileBytes} that a tokenizer can need; it is not a tokenizer.");
        }
    }
}
