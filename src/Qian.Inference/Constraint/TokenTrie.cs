using System.Text;
using Qian.Inference.Text;

namespace Qian.Inference.Constraint;

// A vocabulary laid out for masks. Tokens whose characters are all of one kind (small letters, letters, letters and blanks, words, text without
// JSON's or markup's own characters) are set apart in slices, each with bit sets by length: where a constraint allows any text of a kind, most of
// the vocabulary is allowed by one copy, whatever the constraint. Only the rest is walked, as tries in the order of a depth-first walk.
// Built once per tokenizer; knows no constraint.
internal sealed class TokenTrie
{
    // Tokens of more characters than this are in no slice.
    public const int MaxSliceLength = 24;

    // Few tokens have more bytes, most of them runs of one sign.
    private const int UsualLength = 24;

    // From narrow to wide: each kind holds the one before.
    private static readonly CodePointSet[] s_kinds = MakeKinds();

    private TokenTrie(int size)
    {
        VocabularySize = size;
        WordCount = (size + 63) / 64;
    }

    public static int WidestSlice => s_kinds.Length - 1;

    public int VocabularySize { get; }

    // Length of a mask: 64 ids a word.
    public int WordCount { get; }

    public required TokenSlice[] Slices { get; init; }

    // All tokens that are in no slice.
    public required TrieWalk Rest { get; init; }

    // The same once more, for places where any text may go on: by how many characters of the widest kind they begin with, what follows those.
    // At 0 stands what does not begin so.
    public required TailWalk[] Tails { get; init; }

    // Tokens that stand for markup, such as <tool_call>: allowed only where a constraint says so.
    public required (int Id, byte[] Bytes)[] Markup { get; init; }

    // [id], empty for undefined and control tokens.
    public required ReadOnlyMemory<byte>[] Bytes { get; init; }

    // The longest token in bytes.
    public required int Depth { get; init; }

    public int NodeCount => NodeCounts.Sum();

    // Ids of tokens of more than UsualLength bytes, the longest first.
    private int[] LongTokens { get; init; } = [];

    private int[] NodeCounts { get; init; } = [];

    public static TokenTrie Of(Tokenizer tokenizer, int vocabularySize)
    {
        var bytes = new ReadOnlyMemory<byte>[vocabularySize];
        var markup = new List<(int, byte[])>();
        for (int id = 0; id < Math.Min(vocabularySize, tokenizer.VocabularySize); id++)
        {
            if (!tokenizer.IsDefined(id) || tokenizer.IsControl(id))
                continue;
            bytes[id] = tokenizer.TokenBytes(id).ToArray();
            if (tokenizer.IsAdded(id))
                markup.Add((id, bytes[id].ToArray()));
        }

        return Of(bytes, [.. markup]);
    }

    public static TokenTrie Of(ReadOnlyMemory<byte>[] bytes, (int Id, byte[] Bytes)[] markup)
    {
        int size = bytes.Length;
        HashSet<int> apart = [.. markup.Select(token => token.Id)];
        var bySlice = new List<int>[s_kinds.Length];
        for (int i = 0; i < bySlice.Length; i++)
            bySlice[i] = [];
        var rest = new List<int>();
        var lengths = new byte[size];
        int depth = 0;
        for (int id = 0; id < size; id++)
        {
            ReadOnlySpan<byte> token = bytes[id].Span;
            depth = Math.Max(depth, token.Length);
            if (token.IsEmpty || apart.Contains(id))
                continue;
            int kind = KindOf(token, out lengths[id]);
            (kind < 0 ? rest : bySlice[kind]).Add(id);
        }

        TokenSlice[] slices = [.. s_kinds.Select((kind, i) => new TokenSlice(kind, bySlice[i], lengths, bytes))];
        var walk = new TrieWalk([.. rest], bytes);
        return new TokenTrie(size)
        {
            Slices = slices,
            Rest = walk,
            Tails = TailsOf(rest, bytes),
            Markup = markup,
            Bytes = bytes,
            Depth = depth,
            LongTokens = [.. Enumerable.Range(0, size).Where(id => bytes[id].Length > UsualLength).OrderByDescending(id => bytes[id].Length)],
            NodeCounts = CountNodes([walk, .. slices.Select(slice => slice.Tokens)]),
        };
    }

    // Nodes of all tries under tokens that begin with the byte.
    public int NodesUnder(int value) => NodeCounts[value];

    // The most bytes that a token of nothing but the given bytes has, where it has many.
    public int LongestOf(bool[] bytes)
    {
        foreach (int id in LongTokens)
        {
            bool isOfThem = true;
            foreach (byte value in Bytes[id].Span)
                isOfThem &= bytes[value];
            if (isOfThem)
                return Bytes[id].Length;
        }

        return Math.Min(Depth, UsualLength);
    }

    private static int[] CountNodes(TrieWalk[] walks)
    {
        int[] counts = new int[256];
        foreach (TrieWalk walk in walks)
        {
            foreach ((int first, byte label) in walk.Roots)
                counts[label] += walk.Nodes[first].After - first;
        }

        return counts;
    }

    // The narrowest kind of all its characters; -1 when there is none, when it is too long, or when it ends inside a character.
    private static int KindOf(ReadOnlySpan<byte> token, out byte length)
    {
        int kind = 0, count = 0;
        length = 0;
        while (!token.IsEmpty)
        {
            if (Rune.DecodeFromUtf8(token, out Rune rune, out int consumed) != System.Buffers.OperationStatus.Done || ++count > MaxSliceLength)
                return -1;
            while (!s_kinds[kind].Contains(rune.Value))
            {
                if (++kind == s_kinds.Length)
                    return -1;
            }

            token = token[consumed..];
        }

        length = (byte)count;
        return kind;
    }

    private static TailWalk[] TailsOf(List<int> ids, ReadOnlyMemory<byte>[] bytes)
    {
        var groups = new Dictionary<string, (byte[] Tail, List<int> Ids)>[MaxSliceLength + 1];
        for (int length = 0; length < groups.Length; length++)
            groups[length] = [];
        foreach (int id in ids)
        {
            ReadOnlySpan<byte> rest = bytes[id].Span;
            int length = 0;
            while (length < MaxSliceLength && Rune.DecodeFromUtf8(rest, out Rune rune, out int consumed) == System.Buffers.OperationStatus.Done && s_kinds[^1].Contains(rune.Value) && consumed < rest.Length)
            {
                rest = rest[consumed..];
                length++;
            }

            string key = Convert.ToHexString(rest);
            if (!groups[length].TryGetValue(key, out (byte[] Tail, List<int> Ids) group))
                groups[length].Add(key, group = (rest.ToArray(), []));
            group.Ids.Add(id);
        }

        return [.. groups.Select(group => new TailWalk([.. group.Values.Select(tail => (ReadOnlyMemory<byte>)tail.Tail)], [.. group.Values.Select(tail => tail.Ids.ToArray())], (bytes.Length + 63) / 64))];
    }

    private static CodePointSet[] MakeKinds()
    {
        CodePointSet small = CodePointSet.Of(('a', 'z'));
        CodePointSet letters = small.Union(CodePointSet.Of(('A', 'Z')));
        CodePointSet phrases = letters.Union(CodePointSet.Of(" "));
        CodePointSet words = phrases.Union(CodePointSet.Of("0123456789_-.,"));
        // What JSON strings escape, what opens markup, and what quotes it.
        CodePointSet text = CodePointSet.Of((0, 0x1F)).Union(CodePointSet.Of("\"\\<`")).Negate();
        return [small, letters, phrases, words, text];
    }
}

// Tokens of one kind of characters: bit sets by the number of characters, and a trie for where the kind as a whole is not allowed.
internal sealed class TokenSlice
{
    // [length][word]: the tokens of at most that many characters.
    private readonly ulong[][] _upTo = new ulong[TokenTrie.MaxSliceLength + 1][];

    public TokenSlice(CodePointSet kind, List<int> ids, byte[] lengths, ReadOnlyMemory<byte>[] bytes)
    {
        Kind = kind;
        var sequences = new List<(byte Low, byte High)[]>();
        Utf8Sequences.Add(kind, sequences);
        Sequences = [.. sequences];
        Tokens = new TrieWalk(ids, bytes);
        int words = (lengths.Length + 63) / 64;
        ulong[] before = new ulong[words];
        for (int length = 0; length < _upTo.Length; length++)
        {
            bool any = false;
            ulong[] bits = [.. before];
            foreach (int id in ids)
            {
                if (lengths[id] != length)
                    continue;
                TokenMask.Set(bits, id);
                any = true;
            }

            _upTo[length] = before = any ? bits : before;
        }
    }

    public CodePointSet Kind { get; }

    // The kind as UTF-8.
    public (byte Low, byte High)[][] Sequences { get; }

    public TrieWalk Tokens { get; }

    public ReadOnlySpan<ulong> UpTo(int length) => _upTo[length];
}
