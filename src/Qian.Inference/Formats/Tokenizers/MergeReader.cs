namespace Qian.Inference.Formats;

// Turns merges written as text into rules over ids, so that the texts need not be kept.
internal static class MergeReader
{
    // Each merge is "left right"; the alphabet has no space.
    public static MergeRule[] Read(string?[] pieces, string[] merges)
    {
        Dictionary<string, int> idOfPiece = IndexPieces(pieces);
        var rules = new MergeRule[merges.Length];
        for (int rank = 0; rank < merges.Length; rank++)
        {
            rules[rank] = ReadPair(idOfPiece, merges[rank], rank);
        }

        return rules;
    }

    public static MergeRule ReadPair(Dictionary<string, int> idOfPiece, ReadOnlySpan<char> merge, int rank)
    {
        int space = merge.IndexOf(' ');
        if (space <= 0 || merge[(space + 1)..].Contains(' '))
        {
            throw new BadModelFileException($"Tokenizer merge {rank} is \"{Shorten(merge)}\"; expected two tokens and one space between them.");
        }

        return Resolve(idOfPiece, merge[..space], merge[(space + 1)..], rank);
    }

    public static MergeRule Resolve(Dictionary<string, int> idOfPiece, ReadOnlySpan<char> left, ReadOnlySpan<char> right, int rank)
    {
        // Checked first, so that what is joined is no longer than two tokens.
        int leftId = Find(idOfPiece, left, rank), rightId = Find(idOfPiece, right, rank);
        Span<char> joined = left.Length + right.Length <= 512 ? stackalloc char[left.Length + right.Length] : new char[left.Length + right.Length];
        left.CopyTo(joined);
        right.CopyTo(joined[left.Length..]);
        return new MergeRule(leftId, rightId, Find(idOfPiece, joined, rank));
    }

    public static Dictionary<string, int> IndexPieces(string?[] pieces)
    {
        var idOfPiece = new Dictionary<string, int>(pieces.Length);
        for (int id = 0; id < pieces.Length; id++)
        {
            if (pieces[id] is { } piece && !idOfPiece.TryAdd(piece, id))
            {
                throw new BadModelFileException($"Tokens {idOfPiece[piece]} and {id} are both \"{Shorten(piece)}\"; the vocabulary is damaged.");
            }
        }

        return idOfPiece;
    }

    private static int Find(Dictionary<string, int> idOfPiece, ReadOnlySpan<char> piece, int rank)
    {
        return idOfPiece.GetAlternateLookup<ReadOnlySpan<char>>().TryGetValue(piece, out int id)
            ? id
            : throw new BadModelFileException($"Tokenizer merge {rank} names \"{Shorten(piece)}\", which is not in the vocabulary; the file is damaged.");
    }

    private static string Shorten(ReadOnlySpan<char> text)
    {
        return text.Length <= 64 ? text.ToString() : $"{text[..64]}…";
    }
}
