using System.Diagnostics.CodeAnalysis;
using System.Text;
using Qian.Inference.Formats;
using Qian.Inference.Text;

namespace Qian.Training.Vocabulary;

// Counts the distinct pieces of texts: what the tokenizer would merge within. Texts go the tokenizer's own way, added tokens cut out, the
// rest brought to NFC and split by the family's splitter, so that no merge is learned that could never be used.
internal sealed class PieceCounter
{
    // Longer pieces (encoded data, runs of one sign) hold no words, and would make each merge slow.
    private const int LongestPieceBytes = 256;

    private readonly PieceSplitter _splitter = new(PreTokenizer.Qwen35);
    private readonly AddedTokenMatcher _addedTokens = new(ControlTokens.From(0));
    private readonly Dictionary<byte[], int> _indexOfPiece = new(new PieceComparer());
    private readonly List<byte[]> _pieces = [];
    private readonly List<long> _counts = [];

    // Distinct pieces, in order of first occurrence, and how often each occurs.
    public IReadOnlyList<byte[]> Pieces => _pieces;

    public IReadOnlyList<long> Counts => _counts;

    public void Add(ReadOnlySpan<char> text)
    {
        while (_addedTokens.TryFind(text, out int start, out int length, out _))
        {
            AddOrdinary(text[..start]);
            text = text[(start + length)..];
        }

        AddOrdinary(text);
    }

    private void AddOrdinary(ReadOnlySpan<char> text)
    {
        if (NfcNormalizer.IndexOfSuspect(text) < 0)
        {
            AddNormal(text);
            return;
        }

        var normalized = new PooledList<char>(text.Length);
        NfcNormalizer.Normalize(text, ref normalized);
        AddNormal(normalized.Span);
        normalized.Dispose();
    }

    private void AddNormal(ReadOnlySpan<char> text)
    {
        var rented = new PooledList<byte>(Encoding.UTF8.GetByteCount(text));
        Span<byte> bytes = rented.Extend(Encoding.UTF8.GetByteCount(text));
        Encoding.UTF8.GetBytes(text, bytes);
        Dictionary<byte[], int>.AlternateLookup<ReadOnlySpan<byte>> lookup = _indexOfPiece.GetAlternateLookup<ReadOnlySpan<byte>>();
        for (int start = 0; start < bytes.Length;)
        {
            int end = _splitter.FindEnd(bytes, start);
            ReadOnlySpan<byte> piece = bytes[start..end];
            start = end;
            if (piece.Length is < 2 or > LongestPieceBytes)
                continue;
            if (lookup.TryGetValue(piece, out int index))
            {
                _counts[index]++;
                continue;
            }

            byte[] copy = piece.ToArray();
            _indexOfPiece.Add(copy, _pieces.Count);
            _pieces.Add(copy);
            _counts.Add(1);
        }

        rented.Dispose();
    }

    private sealed class PieceComparer : IEqualityComparer<byte[]>, IAlternateEqualityComparer<ReadOnlySpan<byte>, byte[]>
    {
        public byte[] Create(ReadOnlySpan<byte> alternate) => alternate.ToArray();

        public bool Equals(byte[]? x, byte[]? y) => x.AsSpan().SequenceEqual(y);

        public bool Equals(ReadOnlySpan<byte> alternate, byte[] other) => alternate.SequenceEqual(other);

        public int GetHashCode([DisallowNull] byte[] obj) => GetHashCode(obj.AsSpan());

        public int GetHashCode(ReadOnlySpan<byte> alternate)
        {
            var hash = default(HashCode);
            hash.AddBytes(alternate);
            return hash.ToHashCode();
        }
    }
}
