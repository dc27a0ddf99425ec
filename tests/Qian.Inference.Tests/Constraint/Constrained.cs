using System.Text;
using Qian.Inference.Constraint;
using Qian.Inference.Formats;
using Qian.Inference.Text;

namespace Qian.Inference.Tests.Constraint;

// A constraint over a made-up vocabulary: does a text fulfil it, which tokens may come, and what comes out when tokens are drawn at random.
internal sealed class Constrained
{
    private static readonly Lazy<Tokenizer> s_tokenizer = new(() => new Tokenizer(Vocabulary()));
    private static readonly Lazy<TokenTrie> s_trie = new(() => TokenTrie.Of(s_tokenizer.Value, s_tokenizer.Value.VocabularySize));

    private readonly Automaton _automaton;
    private readonly MaskPlan _plan;
    private readonly int _endId;

    public Constrained(OutputConstraint constraint)
    {
        _automaton = Automaton.Compile(constraint.ToGrammar());
        _plan = new MaskPlan(_automaton, s_trie.Value);
        Assert.True(s_tokenizer.Value.TryGetId("<|im_end|>", out _endId));
    }

    public Automaton Automaton => _automaton;

    public static Tokenizer Tokenizer => s_tokenizer.Value;

    public static TokenTrie Trie => s_trie.Value;

    public int EndId => _endId;

    public static Constrained Schema(string schema) => new(OutputConstraint.JsonSchema(schema));

    public TokenConstraint Begin() => new(_plan, [_endId]);

    public bool Matches(string text) => Read(Encoding.UTF8.GetBytes(text)) == true;

    // Null: a beginning of something that matches.
    public bool? Read(byte[] bytes)
    {
        var walk = new ConstraintWalk(_automaton, bytes.Length);
        bool isWhole = walk.Begin();
        for (int i = 0; i < bytes.Length; i++)
        {
            if (!walk.Step(i, bytes[i], out isWhole))
                return false;
        }

        return isWhole ? true : null;
    }

    // A text drawn token by token, every allowed token alike, the end preferred as the text grows. Null when it is still not whole after `mostTokens`.
    public string? Draw(Random random, int mostTokens = 400)
    {
        TokenConstraint constraint = Begin();
        var ids = new List<int>();
        var choices = new List<int>();
        for (int count = 0; count < mostTokens; count++)
        {
            ReadOnlySpan<ulong> allowed = constraint.Allowed;
            choices.Clear();
            for (int id = 0; id < Tokenizer.VocabularySize; id++)
            {
                if ((allowed[id >> 6] >> (id & 63) & 1) != 0)
                    choices.Add(id);
            }

            Assert.NotEmpty(choices);
            if (choices.Contains(_endId) && (choices.Count == 1 || random.Next(4) == 0))
                return Tokenizer.Decode([.. ids]);
            // Marks of structure more often than their share of the vocabulary.
            int id2 = choices[random.Next(choices.Count)];
            if (random.Next(3) == 0 && choices.Where(id => id < 128).ToArray() is { Length: > 0 } marks)
                id2 = marks[random.Next(marks.Length)];
            if (choices.Contains('"') && random.Next(4) == 0)
                id2 = '"';
            if (id2 == _endId)
                return Tokenizer.Decode([.. ids]);
            constraint.Accept(id2);
            ids.Add(id2);
        }

        return null;
    }

    // Every token of every mask along a text against reading the token's bytes one by one; masks made by shapes and
    // shared by two replies, made by slices, and made as usual.
    public void CheckMasks(string text)
    {
        var shared = new MaskPlan(_automaton, s_trie.Value, leastSteps: 0, mostShapeNodes: int.MaxValue);
        var alone = new MaskPlan(_automaton, s_trie.Value, leastSteps: int.MaxValue, mostShapeNodes: 0);
        Assert.Null(alone.Shapes.Of(_automaton.Start));
        byte[] bytes = Encoding.UTF8.GetBytes(text);
        TokenConstraint[] places = [new(shared, [_endId]), new(shared, [_endId]), new(alone, [_endId]), Begin()];
        bool[] fits = new bool[Tokenizer.VocabularySize];
        for (int at = 0; at <= bytes.Length; at++)
        {
            for (int id = 0; id < fits.Length; id++)
            {
                fits[id] = id == _endId ? places[0].IsWhole
                    : Tokenizer.IsDefined(id) && (!Tokenizer.IsAdded(id) || (_automaton.UsesMarkup && !Tokenizer.IsControl(id))) && Read([.. bytes[..at], .. Tokenizer.TokenBytes(id)]) != false;
            }

            foreach (TokenConstraint place in places)
            {
                ReadOnlySpan<ulong> allowed = place.Allowed;
                for (int id = 0; id < fits.Length; id++)
                {
                    bool isAllowed = (allowed[id >> 6] >> (id & 63) & 1) != 0;
                    Assert.True(isAllowed == fits[id], $"token {id} '{Tokenizer.Decode([id])}' after '{Encoding.UTF8.GetString(bytes[..at])}': allowed {isAllowed}, fits {fits[id]}");
                }

                if (at < bytes.Length)
                    place.Accept(bytes[at]);
            }
        }
    }

    // Bytes are ids 0 to 255; beside made-up words there are pieces of JSON and of calls, as real vocabularies have them.
    private static TokenizerSpec Vocabulary()
    {
        TokenizerSpec made = SyntheticVocabulary.Create(1400, 200);
        string[] pieces =
        [
            "{\"", "\":", "\": ", "\", \"", "\"}", "\"]", "[]", "{}", "},", "}]", "]}", "\":\"", "\": \"", "[{\"", "true", "false", "null", "true,", "10", "123", "-1", "0.5", "1e5", ", ", "\n  ", "\n\n", "\\\"", "\\n", "\\u00",
            "é", "日本", "😀", "né", "</", ">\n", "parameter", "=x", "a\"", "b\",", "\"a\":", "yes", "abc def", "</p", "function=", "```", "\n```", "` <",
        ];
        string?[] all = [.. made.Pieces];
        int at = made.RowCount - 200;
        foreach (string piece in pieces)
            all[at++] = ByteAlphabet.Spell(Encoding.UTF8.GetBytes(piece));
        // Halves of characters.
        all[at++] = ByteAlphabet.Spell([0xF0, 0x9F]);
        all[at] = ByteAlphabet.Spell([0x98, 0x80, (byte)'"']);
        return new TokenizerSpec(all, made.Merges, made.AddedTokens, made.PreTokenizer) { EosId = made.EosId, PaddingId = made.PaddingId };
    }
}
