namespace Qian.Inference.Formats;

// Collects added tokens from the files of a Hugging Face folder, which repeat each other and must agree.
internal sealed class AddedTokenSet
{
    private readonly SortedDictionary<int, AddedToken> _tokens = [];
    private readonly Dictionary<string, int> _ids = [];

    public int MaxId { get; private set; } = -1;

    // A token object as in added_tokens and added_tokens_decoder. Stripping and whole-word matching would change where it matches; nobody in the
    // family has them. "normalized" is not looked at: the texts are ASCII, so matching before or after NFC is the same.
    public void Add(JsonNodeView token, int id)
    {
        JsonNodeView content = token.Require("content");
        string text = content.Text();
        foreach (string key in (ReadOnlySpan<string>)["single_word", "lstrip", "rstrip"])
        {
            if (token.Find(key) is { } value && !value.IsAbsentOrNeutral())
            {
                throw value.Unexpected($"false for added token {id}", value.Summary());
            }
        }

        if (id is < 0 or >= TokenizerSpec.MaxRowCount)
        {
            throw content.Unexpected($"ids from 0 to {TokenizerSpec.MaxRowCount - 1}", $"{id}");
        }

        bool isControl = token.Find("special")?.Boolean() ?? false;
        if (_ids.TryGetValue(text, out int known) ? known != id : _tokens.ContainsKey(id))
        {
            throw content.Unexpected("one id for each text in all tokenizer files", $"\"{text}\" as {id} against an earlier entry");
        }

        _ids[text] = id;
        _tokens[id] = new AddedToken(id, text, isControl);
        MaxId = Math.Max(MaxId, id);
    }

    public string? TextOf(int id)
    {
        return _tokens.TryGetValue(id, out AddedToken token) ? token.Text : null;
    }

    public int? IdOf(string text)
    {
        return _ids.TryGetValue(text, out int id) ? id : null;
    }

    public AddedToken[] ToArray()
    {
        return [.. _tokens.Values];
    }
}
