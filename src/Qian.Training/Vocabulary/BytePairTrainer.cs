using Qian.Inference;
using Qian.Inference.Formats;

namespace Qian.Training.Vocabulary;

// Learns a byte-level BPE vocabulary: again and again the commonest pair of neighbours becomes a token. Distinct pieces are merged once,
// weighted by their counts; a heap gives the commonest pair, and a merge touches only the pieces that hold it. Heap entries are not
// updated in place: a pair that grows is entered anew, and an entry that proves too high when taken goes back with the true count.
// Ties go to the pair whose left token, then whose right token, is older, so the result is a function of the texts alone.
internal sealed class BytePairTrainer
{
    private const int ByteCount = 256;

    // A pair seen once is no pattern.
    private const long FewestOccurrences = 2;

    private readonly List<byte[]> _tokens = [];
    private readonly Dictionary<string, int> _idOfToken = [];
    private readonly List<MergeRule> _merges = [];
    private readonly IReadOnlyList<long> _counts;

    // words[w]: the ids of piece w as merged so far, _lengths[w] of them.
    private readonly int[][] _words;
    private readonly int[] _lengths;
    private readonly Dictionary<long, PairUse> _uses = [];
    private readonly PriorityQueue<long, Priority> _heap = new();
    private readonly HashSet<long> _grown = [];

    private BytePairTrainer(PieceCounter pieces)
    {
        var idOfByte = new int[ByteCount];
        byte[] alphabet = [.. Enumerable.Range(0, ByteCount).Select(value => (byte)value).OrderBy(ByteAlphabet.CharacterOf)];
        foreach (byte value in alphabet)
        {
            idOfByte[value] = FindOrAdd([value]);
        }

        _counts = pieces.Counts;
        _words = new int[pieces.Pieces.Count][];
        _lengths = new int[_words.Length];
        for (int word = 0; word < _words.Length; word++)
        {
            byte[] piece = pieces.Pieces[word];
            int[] ids = new int[piece.Length];
            for (int i = 0; i < ids.Length; i++)
                ids[i] = idOfByte[piece[i]];
            _words[word] = ids;
            _lengths[word] = ids.Length;
            for (int i = 1; i < ids.Length; i++)
                Count(ids[i - 1], ids[i], word, _counts[word]);
        }

        PushGrown();
    }

    // A vocabulary of `size` tokens, the control tokens among them. Throws BadRequestException when the texts do not hold that many.
    public static TrainedVocabulary Train(IEnumerable<string> texts, int size)
    {
        int mergeCount = size - ByteCount - ControlTokens.All.Count;
        if (mergeCount < 0 || size > TokenizerSpec.MaxRowCount)
        {
            throw new BadRequestException(
                $"A vocabulary of {size} tokens: expected {ByteCount + ControlTokens.All.Count} (all bytes and the control tokens) to {TokenizerSpec.MaxRowCount}.");
        }

        var pieces = new PieceCounter();
        foreach (string text in texts)
            pieces.Add(text);
        var trainer = new BytePairTrainer(pieces);
        while (trainer._tokens.Count < ByteCount + mergeCount)
        {
            if (!trainer.TryMergeCommonest())
            {
                throw new BadRequestException(
                    $"A vocabulary of {size} tokens: the texts hold patterns for only {trainer._tokens.Count + ControlTokens.All.Count}. Give more text, or ask for fewer tokens.");
            }
        }

        return new TrainedVocabulary(trainer._tokens, trainer._merges);
    }

    private bool TryMergeCommonest()
    {
        while (_heap.TryDequeue(out long pair, out Priority priority))
        {
            if (!_uses.TryGetValue(pair, out PairUse? use) || use.Count < FewestOccurrences)
                continue;
            if (use.Count < priority.Count)
            {
                _heap.Enqueue(pair, priority with { Count = use.Count });
                continue;
            }

            Merge(pair, use);
            return true;
        }

        return false;
    }

    private void Merge(long pair, PairUse use)
    {
        (int left, int right) = ((int)(pair >> 32), (int)pair);
        int result = FindOrAdd([.. _tokens[left], .. _tokens[right]]);
        _merges.Add(new MergeRule(left, right, result));
        foreach (int word in use.Words)
            MergeIn(word, left, right, result);
        _uses.Remove(pair);
        PushGrown();
    }

    // Two merges may spell the same token ("ab" + "c", "a" + "bc"); it is one token.
    private int FindOrAdd(byte[] token)
    {
        string spelling = ByteAlphabet.Spell(token);
        if (!_idOfToken.TryGetValue(spelling, out int id))
        {
            id = _tokens.Count;
            _idOfToken.Add(spelling, id);
            _tokens.Add(token);
        }

        return id;
    }

    // Replaces the pair in one word, left to right, and keeps the counts of its neighbours true.
    private void MergeIn(int word, int left, int right, int result)
    {
        int[] ids = _words[word];
        int length = _lengths[word];
        long count = _counts[word];
        int written = 0;
        for (int i = 0; i < length; i++)
        {
            if (ids[i] != left || i + 1 == length || ids[i + 1] != right)
            {
                ids[written++] = ids[i];
                continue;
            }

            if (written > 0)
            {
                Uncount(ids[written - 1], left, count);
                Count(ids[written - 1], result, word, count);
            }

            if (i + 2 < length)
            {
                Uncount(right, ids[i + 2], count);
                Count(result, ids[i + 2], word, count);
            }

            ids[written++] = result;
            i++;
        }

        _lengths[word] = written;
    }

    private void Count(int left, int right, int word, long count)
    {
        long pair = ((long)left << 32) | (uint)right;
        if (!_uses.TryGetValue(pair, out PairUse? use))
            _uses.Add(pair, use = new PairUse());
        use.Count += count;
        // A word is worked through in one go, so its repeats come one after the other.
        if (use.Words.Count == 0 || use.Words[^1] != word)
            use.Words.Add(word);
        _grown.Add(pair);
    }

    private void Uncount(int left, int right, long count)
    {
        if (_uses.TryGetValue(((long)left << 32) | (uint)right, out PairUse? use))
            use.Count -= count;
    }

    private void PushGrown()
    {
        foreach (long pair in _grown)
            _heap.Enqueue(pair, new Priority(_uses[pair].Count, pair));
        _grown.Clear();
    }

    private sealed class PairUse
    {
        public long Count { get; set; }

        // Words that held the pair once; some no longer do.
        public List<int> Words { get; } = [];
    }

    // The smallest comes first: the highest count, then the smallest left and right id.
    private readonly record struct Priority(long Count, long Pair) : IComparable<Priority>
    {
        public int CompareTo(Priority other) => Count != other.Count ? other.Count.CompareTo(Count) : Pair.CompareTo(other.Pair);
    }
}
