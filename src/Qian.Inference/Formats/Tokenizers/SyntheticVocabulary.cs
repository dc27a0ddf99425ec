namespace Qian.Inference.Formats;

// Makes up a vocabulary of any size for models with random weights: the 256 bytes, then merges that ordinary text really uses, then the family's
// added tokens, then padding rows. Deterministic. The merges grow level by level from common pieces (letter n-grams with the frequent letters
// first, the same after a space, runs of white space, CJK characters), each the sum of two earlier tokens, so the rules are consistent by
// construction and every string is made once.
internal static class SyntheticVocabulary
{
    private const string Letters = "etaoinshrdlcumwfgypbvkjxqz";

    private static readonly (string Text, bool IsControl)[] s_addedTokens =
    [
        ("<|endoftext|>", true), ("<|im_start|>", true), ("<|im_end|>", true), ("<|object_ref_start|>", true), ("<|object_ref_end|>", true),
        ("<|box_start|>", true), ("<|box_end|>", true), ("<|quad_start|>", true), ("<|quad_end|>", true), ("<|vision_start|>", true),
        ("<|vision_end|>", true), ("<|vision_pad|>", true), ("<|image_pad|>", true), ("<|video_pad|>", true), ("<tool_call>", false),
        ("</tool_call>", false), ("<|fim_prefix|>", false), ("<|fim_middle|>", false), ("<|fim_suffix|>", false), ("<|fim_pad|>", false),
        ("<|repo_name|>", false), ("<|file_sep|>", false), ("<tool_response>", false), ("</tool_response>", false), ("<think>", false),
        ("</think>", false), ("<|audio_start|>", true), ("<|audio_end|>", true), ("<tts_pad>", true), ("<tts_text_bos>", true),
        ("<tts_text_eod>", true), ("<tts_text_bos_single>", true), ("<|audio_pad|>", true),
    ];

    public static int AddedTokenCount => s_addedTokens.Length;

    // The smallest vocabulary: all bytes and the added tokens.
    public static int MinRowCount => 256 + AddedTokenCount;

    // rowCount: rows of the model; paddingRowCount: how many of them, at the end, are no tokens. The real model's: 248,320 and 243.
    public static TokenizerSpec Create(int rowCount, int paddingRowCount = 0)
    {
        TokenizerSpec.CheckRowCount(rowCount);
        if (paddingRowCount < 0 || rowCount - paddingRowCount < MinRowCount)
        {
            throw new ArgumentOutOfRangeException(nameof(rowCount), rowCount, $"A vocabulary needs {MinRowCount} rows and its {paddingRowCount} padding rows.");
        }

        int firstAddedId = rowCount - paddingRowCount - AddedTokenCount;
        var pieces = new string?[rowCount];
        var builder = new MergeBuilder(pieces, firstAddedId);
        GrowMerges(builder);
        var addedTokens = new AddedToken[AddedTokenCount];
        for (int i = 0; i < addedTokens.Length; i++)
        {
            addedTokens[i] = new AddedToken(firstAddedId + i, s_addedTokens[i].Text, s_addedTokens[i].IsControl);
        }

        return new TokenizerSpec(pieces, builder.Merges, addedTokens, PreTokenizer.Qwen35)
        {
            PaddingId = firstAddedId,
            EosId = firstAddedId + 2,
        };
    }

    private static void GrowMerges(MergeBuilder builder)
    {
        int[] letters = [.. Letters.Select(c => builder.IdOf((byte)c))];
        int[] capitals = [.. Letters.Select(c => builder.IdOf((byte)char.ToUpperInvariant(c)))];
        int space = builder.IdOf((byte)' ');
        int newline = builder.IdOf((byte)'\n');

        builder.Add(space, space);
        builder.Double(builder.LastId, 4);
        builder.Add(newline, newline);
        List<int> heads = [.. letters, .. capitals];
        foreach (int letter in letters)
        {
            heads.Add(builder.Add(space, letter));
        }

        foreach (int capital in capitals)
        {
            heads.Add(builder.Add(space, capital));
        }

        heads = AppendLetters(builder, heads, letters);
        AddIdeographs(builder);
        while (!builder.IsFull)
        {
            heads = AppendLetters(builder, heads, letters);
        }
    }

    // A letter more at the end of each head. Along diagonals, so that frequent heads with frequent letters come first.
    private static List<int> AppendLetters(MergeBuilder builder, List<int> heads, int[] letters)
    {
        var longer = new List<int>();
        for (int sum = 0; sum < heads.Count + letters.Length && !builder.IsFull; sum++)
        {
            for (int tail = 0; tail < letters.Length && tail <= sum; tail++)
            {
                if (sum - tail < heads.Count)
                {
                    longer.Add(builder.Add(heads[sum - tail], letters[tail]));
                }
            }
        }

        return longer;
    }

    // U+4E00 to U+9FFF, whose UTF-8 begins with E4 B8 to E9 BF.
    private static void AddIdeographs(MergeBuilder builder)
    {
        var ideographHeads = new List<int>();
        for (int value = 0x4E00; value < 0xA000; value += 0x40)
        {
            ideographHeads.Add(builder.Add(builder.IdOf((byte)(0xE0 | (value >> 12))), builder.IdOf((byte)(0x80 | ((value >> 6) & 0x3F)))));
        }

        foreach (int head in ideographHeads)
        {
            for (int tail = 0x80; tail < 0xC0; tail++)
            {
                builder.Add(head, builder.IdOf((byte)tail));
            }
        }
    }

    // Appends tokens, each made of two earlier ones, until the given row; what is asked for beyond it is ignored.
    private sealed class MergeBuilder
    {
        private readonly string?[] _pieces;
        private readonly int _endId;
        private readonly List<MergeRule> _merges = [];
        private int _nextId;

        public MergeBuilder(string?[] pieces, int endId)
        {
            _pieces = pieces;
            _endId = endId;
            for (int value = 0; value < 256; value++)
            {
                _pieces[_nextId++] = ByteAlphabet.Spell([(byte)value]);
            }
        }

        public bool IsFull => _nextId == _endId;

        public int LastId => _nextId - 1;

        public MergeRule[] Merges => [.. _merges];

        public int IdOf(byte value)
        {
            return value;
        }

        public int Add(int left, int right)
        {
            if (IsFull)
            {
                return LastId;
            }

            _pieces[_nextId] = _pieces[left] + _pieces[right];
            _merges.Add(new MergeRule(left, right, _nextId));
            return _nextId++;
        }

        // A run of white space, doubled over and over.
        public void Double(int id, int times)
        {
            for (int i = 0; i < times; i++)
            {
                id = Add(id, id);
            }
        }
    }
}
