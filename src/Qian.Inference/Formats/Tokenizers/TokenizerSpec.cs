using System.Globalization;

namespace Qian.Inference.Formats;

// A merge rule: tokens left and right, side by side, become result. The position in its array is its rank.
internal readonly record struct MergeRule(int Left, int Right, int Result);

// A token that stands for a literal text outside the byte-pair vocabulary. Control tokens steer the model (and are skipped when decoding for
// readers); the others (tool and thinking marks) are part of what the model says.
internal readonly record struct AddedToken(int Id, string Text, bool IsControl);

// The neutral data a tokenizer is built from, whatever file it came from; everything in it has been checked against everything else.
// Knows the rules that make a vocabulary consistent; knows no file format, save the plain values that GGUF keeps.
internal sealed class TokenizerSpec
{
    // Ids and ranks of merges fit 21 bits in the tables made from this.
    public const int MaxMergeCount = (1 << 21) - 1;

    // Above any vocabulary of the family (248,320 rows) with room to spare; bounds what a hostile file can make us allocate.
    public const int MaxRowCount = 1 << 20;

    private const int MaxAddedTokenCount = 4096;
    private const int MaxAddedTokenLength = 256;

    // pieces: by id, in the byte alphabet; null where the row is an added token or undefined.
    public TokenizerSpec(string?[] pieces, MergeRule[] merges, AddedToken[] addedTokens, PreTokenizer preTokenizer)
    {
        Pieces = pieces;
        Merges = merges;
        AddedTokens = addedTokens;
        PreTokenizer = preTokenizer;
        CheckRows();
        CheckMerges();
        CheckAddedTokens();
    }

    public string?[] Pieces { get; }

    public MergeRule[] Merges { get; }

    public AddedToken[] AddedTokens { get; }

    public PreTokenizer PreTokenizer { get; }

    // Hugging Face normalises; the models were trained on that. Off only to compare with engines that do not.
    public bool NormalizesToNfc { get; init; } = true;

    public int? EosId { get; init; }

    public int? PaddingId { get; init; }

    public int? BosId { get; init; }

    public int RowCount => Pieces.Length;

    // From the values of GGUF's tokenizer.ggml keys: tokens, token_type (1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte; null: all
    // normal), merges ("left right"), pre, and the special ids.
    public static TokenizerSpec FromGguf(
        string[] tokens, int[]? tokenTypes, string[] merges, string pre, int? eosId = null, int? paddingId = null, int? bosId = null)
    {
        if (tokenTypes is not null && tokenTypes.Length != tokens.Length)
        {
            throw new BadModelFileException(
                $"tokenizer.ggml.token_type has {tokenTypes.Length} entries, tokenizer.ggml.tokens {tokens.Length}; they must be equal. The file is damaged.");
        }

        CheckRowCount(tokens.Length);
        var pieces = new string?[tokens.Length];
        var addedTokens = new List<AddedToken>();
        for (int id = 0; id < tokens.Length; id++)
        {
            switch ((GgufTokenType)(tokenTypes?[id] ?? (int)GgufTokenType.Normal))
            {
                case GgufTokenType.Normal:
                    pieces[id] = tokens[id];
                    break;
                case GgufTokenType.Control:
                    addedTokens.Add(new AddedToken(id, tokens[id], IsControl: true));
                    break;
                case GgufTokenType.UserDefined:
                    // Some converters write padding rows as user-defined; they are no tokens.
                    if (tokens[id] != SpellPadding(id))
                    {
                        addedTokens.Add(new AddedToken(id, tokens[id], IsControl: false));
                    }

                    break;
                case GgufTokenType.Unused or GgufTokenType.Unknown:
                    break;
                default:
                    throw new BadModelFileException(
                        $"tokenizer.ggml.token_type[{id}] is {tokenTypes![id]}; a byte-level vocabulary has types 1 to 5 only. The file is not of this family.");
            }
        }

        return new TokenizerSpec(pieces, MergeReader.Read(pieces, merges), [.. addedTokens], PreTokenizerOfGguf(pre))
        {
            EosId = CheckSpecialId("tokenizer.ggml.eos_token_id", eosId, tokens.Length),
            PaddingId = CheckSpecialId("tokenizer.ggml.padding_token_id", paddingId, tokens.Length),
            BosId = CheckSpecialId("tokenizer.ggml.bos_token_id", bosId, tokens.Length),
        };
    }

    // The three arrays GGUF keeps, for writing a file; FromGguf of them gives this vocabulary again.
    public (string[] Tokens, int[] TokenTypes, string[] Merges) ToGguf()
    {
        var tokens = new string[RowCount];
        var types = new int[RowCount];
        for (int id = 0; id < RowCount; id++)
        {
            tokens[id] = Pieces[id] ?? SpellPadding(id);
            types[id] = (int)(Pieces[id] is null ? GgufTokenType.Unused : GgufTokenType.Normal);
        }

        foreach (AddedToken token in AddedTokens)
        {
            tokens[token.Id] = token.Text;
            types[token.Id] = (int)(token.IsControl ? GgufTokenType.Control : GgufTokenType.UserDefined);
        }

        var merges = new string[Merges.Length];
        for (int rank = 0; rank < merges.Length; rank++)
        {
            merges[rank] = $"{Pieces[Merges[rank].Left]} {Pieces[Merges[rank].Right]}";
        }

        return (tokens, types, merges);
    }

    internal static void CheckRowCount(long rowCount)
    {
        if (rowCount is <= 0 or > MaxRowCount)
        {
            throw new BadModelFileException($"The tokenizer has {rowCount} rows; 1 to {MaxRowCount} are supported.");
        }
    }

    private static PreTokenizer PreTokenizerOfGguf(string pre)
    {
        return pre switch
        {
            "qwen35" => PreTokenizer.Qwen35,
            "qwen2" => PreTokenizer.Qwen2,
            _ => throw new BadModelFileException($"tokenizer.ggml.pre is \"{pre}\"; supported are \"qwen35\" and \"qwen2\". Use a model of the Qwen3.5 family."),
        };
    }

    private static int? CheckSpecialId(string key, int? id, int rowCount)
    {
        return id is null || (uint)id.Value < (uint)rowCount
            ? id
            : throw new BadModelFileException($"{key} is {id}, outside the vocabulary of {rowCount} rows.");
    }

    private static string SpellPadding(int id)
    {
        return string.Create(CultureInfo.InvariantCulture, $"[PAD{id}]");
    }

    private void CheckRows()
    {
        CheckRowCount(RowCount);
        for (int id = 0; id < Pieces.Length; id++)
        {
            if (Pieces[id] is not { } piece)
            {
                continue;
            }

            if (piece.Length == 0)
            {
                throw new BadModelFileException($"Token {id} is empty; the vocabulary is damaged.");
            }

            foreach (char c in piece)
            {
                if (ByteAlphabet.ByteOf(c) < 0)
                {
                    throw new BadModelFileException(
                        $"Token {id} contains U+{(int)c:X4}, which is not of the byte alphabet; the file's tokenizer is not byte-level BPE, or the file is damaged.");
                }
            }
        }
    }

    private void CheckMerges()
    {
        if (Merges.Length >= MaxMergeCount)
        {
            throw new BadModelFileException($"The tokenizer has {Merges.Length} merges; fewer than {MaxMergeCount} are supported.");
        }

        foreach (MergeRule merge in Merges)
        {
            if (PieceOrNull(merge.Left) is null || PieceOrNull(merge.Right) is null || PieceOrNull(merge.Result) is null)
            {
                throw new BadModelFileException($"The merge of tokens {merge.Left} and {merge.Right} to {merge.Result} names an undefined token.");
            }
        }
    }

    private string? PieceOrNull(int id)
    {
        return (uint)id < (uint)Pieces.Length ? Pieces[id] : null;
    }

    private void CheckAddedTokens()
    {
        if (AddedTokens.Length > MaxAddedTokenCount)
        {
            throw new BadModelFileException($"The tokenizer has {AddedTokens.Length} added tokens; at most {MaxAddedTokenCount} are supported.");
        }

        var ids = new HashSet<int>();
        var texts = new HashSet<string>();
        foreach (AddedToken token in AddedTokens)
        {
            if (token.Text.Length is 0 or > MaxAddedTokenLength)
            {
                throw new BadModelFileException($"Added token {token.Id} has {token.Text.Length} characters; 1 to {MaxAddedTokenLength} are supported.");
            }

            if ((uint)token.Id >= (uint)RowCount)
            {
                throw new BadModelFileException($"Added token \"{token.Text}\" has id {token.Id}, outside the vocabulary of {RowCount} rows.");
            }

            if (Pieces[token.Id] is not null || !ids.Add(token.Id) || !texts.Add(token.Text))
            {
                throw new BadModelFileException($"Added token \"{token.Text}\" with id {token.Id} repeats another token's text or id; the file is damaged.");
            }
        }
    }

    private enum GgufTokenType
    {
        Normal = 1,
        Unknown = 2,
        Control = 3,
        UserDefined = 4,
        Unused = 5,
    }
}
