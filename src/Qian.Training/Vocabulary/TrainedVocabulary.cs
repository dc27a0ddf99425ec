using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using Qian.Inference.Formats;
using Qian.Inference.Text;

namespace Qian.Training.Vocabulary;

// A vocabulary as BytePairTrainer leaves it: tokens by id as bytes, then the control tokens; merges by rank. Writes the files of a Hugging
// Face folder as the published ones of the family have them.
internal sealed class TrainedVocabulary
{
    // As tokenizer.json of Qwen3.5 spells it; readers compare it as text.
    private const string SplitExpression =
        @"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

    private const string EndOfMessage = "<|im_end|>";
    private const string Padding = "<|endoftext|>";

    private static readonly JsonWriterOptions s_options = new() { Indented = true, NewLine = "\n", Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    private readonly string[] _pieces;
    private readonly IReadOnlyList<MergeRule> _merges;
    private readonly AddedToken[] _addedTokens;

    public TrainedVocabulary(IReadOnlyList<byte[]> tokens, IReadOnlyList<MergeRule> merges)
    {
        _pieces = [.. tokens.Select(token => ByteAlphabet.Spell(token))];
        _merges = merges;
        _addedTokens = ControlTokens.From(_pieces.Length);
    }

    // All tokens, the control tokens included.
    public int Size => _pieces.Length + _addedTokens.Length;

    public int IdOf(string controlToken) => _addedTokens.First(token => token.Text == controlToken).Id;

    // rowCount: the model's vocabulary size, when it has padding rows; 0: none.
    public Tokenizer ToTokenizer(int rowCount = 0)
    {
        var pieces = new string?[rowCount == 0 ? Size : rowCount];
        _pieces.CopyTo(pieces, 0);
        return new Tokenizer(new TokenizerSpec(pieces, [.. _merges], _addedTokens, PreTokenizer.Qwen35) { EosId = IdOf(EndOfMessage), PaddingId = IdOf(Padding) });
    }

    // Writes tokenizer.json, tokenizer_config.json, vocab.json and merges.txt.
    public void Write(string folder)
    {
        Directory.CreateDirectory(folder);
        WriteJson(Path.Combine(folder, "tokenizer.json"), WriteTokenizer);
        WriteJson(Path.Combine(folder, "tokenizer_config.json"), WriteConfig);
        WriteJson(Path.Combine(folder, "vocab.json"), WriteVocabulary);
        var merges = new StringBuilder("#version: 0.2\n");
        foreach (MergeRule merge in _merges)
            merges.Append(_pieces[merge.Left]).Append(' ').Append(_pieces[merge.Right]).Append('\n');
        File.WriteAllText(Path.Combine(folder, "merges.txt"), merges.ToString());
    }

    private static void WriteJson(string path, Action<Utf8JsonWriter> write)
    {
        using FileStream stream = File.Create(path);
        using var json = new Utf8JsonWriter(stream, s_options);
        write(json);
        json.Flush();
        stream.WriteByte((byte)'\n');
    }

    private void WriteTokenizer(Utf8JsonWriter json)
    {
        json.WriteStartObject();
        json.WriteString("version", "1.0");
        json.WriteNull("truncation");
        json.WriteNull("padding");
        json.WriteStartArray("added_tokens");
        foreach (AddedToken token in _addedTokens)
        {
            json.WriteStartObject();
            json.WriteNumber("id", token.Id);
            WriteAddedToken(json, token);
            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteStartObject("normalizer");
        json.WriteString("type", "NFC");
        json.WriteEndObject();
        WritePreTokenizer(json);
        json.WriteStartObject("post_processor");
        WriteByteLevel(json);
        json.WriteStartObject("decoder");
        WriteByteLevel(json);
        WriteModel(json);
        json.WriteEndObject();
    }

    private static void WritePreTokenizer(Utf8JsonWriter json)
    {
        json.WriteStartObject("pre_tokenizer");
        json.WriteString("type", "Sequence");
        json.WriteStartArray("pretokenizers");
        json.WriteStartObject();
        json.WriteString("type", "Split");
        json.WriteStartObject("pattern");
        json.WriteString("Regex", SplitExpression);
        json.WriteEndObject();
        json.WriteString("behavior", "Isolated");
        json.WriteBoolean("invert", false);
        json.WriteEndObject();
        json.WriteStartObject();
        WriteByteLevel(json);
        json.WriteEndArray();
        json.WriteEndObject();
    }

    // The body of a ByteLevel step, and the end of its object.
    private static void WriteByteLevel(Utf8JsonWriter json)
    {
        json.WriteString("type", "ByteLevel");
        json.WriteBoolean("add_prefix_space", false);
        json.WriteBoolean("trim_offsets", false);
        json.WriteBoolean("use_regex", false);
        json.WriteEndObject();
    }

    private void WriteModel(Utf8JsonWriter json)
    {
        json.WriteStartObject("model");
        json.WriteString("type", "BPE");
        json.WriteNull("dropout");
        json.WriteNull("unk_token");
        json.WriteString("continuing_subword_prefix", "");
        json.WriteString("end_of_word_suffix", "");
        json.WriteBoolean("fuse_unk", false);
        json.WriteBoolean("byte_fallback", false);
        json.WriteBoolean("ignore_merges", false);
        json.WritePropertyName("vocab");
        WriteVocabulary(json);
        json.WriteStartArray("merges");
        foreach (MergeRule merge in _merges)
        {
            json.WriteStartArray();
            json.WriteStringValue(_pieces[merge.Left]);
            json.WriteStringValue(_pieces[merge.Right]);
            json.WriteEndArray();
        }

        json.WriteEndArray();
        json.WriteEndObject();
    }

    private void WriteVocabulary(Utf8JsonWriter json)
    {
        json.WriteStartObject();
        for (int id = 0; id < _pieces.Length; id++)
            json.WriteNumber(_pieces[id], id);
        json.WriteEndObject();
    }

    private void WriteConfig(Utf8JsonWriter json)
    {
        json.WriteStartObject();
        json.WriteBoolean("add_bos_token", false);
        json.WriteBoolean("add_prefix_space", false);
        json.WriteStartObject("added_tokens_decoder");
        foreach (AddedToken token in _addedTokens)
        {
            json.WriteStartObject(token.Id.ToString(System.Globalization.CultureInfo.InvariantCulture));
            WriteAddedToken(json, token);
            json.WriteEndObject();
        }

        json.WriteEndObject();
        json.WriteStartArray("additional_special_tokens");
        foreach (AddedToken token in _addedTokens.Where(token => token.IsControl && token.Text != Padding))
            json.WriteStringValue(token.Text);
        json.WriteEndArray();
        json.WriteNull("bos_token");
        json.WriteBoolean("clean_up_tokenization_spaces", false);
        json.WriteString("eos_token", EndOfMessage);
        json.WriteString("errors", "replace");
        json.WriteNumber("model_max_length", 262144);
        json.WriteString("pad_token", Padding);
        json.WriteBoolean("split_special_tokens", false);
        // The class that takes tokenizer.json as it is; the family's own can fall back to Qwen2's splitter.
        json.WriteString("tokenizer_class", "PreTrainedTokenizerFast");
        json.WriteNull("unk_token");
        json.WriteEndObject();
    }

    private static void WriteAddedToken(Utf8JsonWriter json, AddedToken token)
    {
        json.WriteString("content", token.Text);
        json.WriteBoolean("single_word", false);
        json.WriteBoolean("lstrip", false);
        json.WriteBoolean("rstrip", false);
        json.WriteBoolean("normalized", false);
        json.WriteBoolean("special", token.IsControl);
    }
}
