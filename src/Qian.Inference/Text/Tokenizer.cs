using System.Buffers;
using System.Text;

using Qian.Inference.Formats;

namespace Qian.Inference.Text;

/// <summary>
/// Text to token ids and back: byte-level BPE as the Qwen3.5 family uses it. Immutable and safe to share between threads.
/// </summary>
/// <remarks>
/// The order of work, as Hugging Face's tokenizer has it: added tokens are cut out of the raw text, what is left is brought to NFC, split into
/// pieces, and each piece's bytes are merged. No begin or end token is ever added.
/// </remarks>
public sealed class Tokenizer
{
    // Text is worked through in windows, so that scratch stays in cache and small however long the text is.
    private const int WindowLength = 32 * 1024;

    private readonly PieceSplitter _splitter;
    private readonly MergeTable _merges;
    private readonly bool _normalizesToNfc;
    private readonly AddedTokenMatcher? _addedTokens;
    private readonly Dictionary<string, int> _idOfAddedToken = [];
    private readonly TokenKind[] _kinds;
    private readonly int[] _byteStarts;
    private readonly byte[] _bytes;

    internal Tokenizer(TokenizerSpec spec)
    {
        _splitter = new PieceSplitter(spec.PreTokenizer);
        _normalizesToNfc = spec.NormalizesToNfc;
        EosId = spec.EosId;
        PaddingId = spec.PaddingId;
        BosId = spec.BosId;
        _kinds = new TokenKind[spec.RowCount];
        _byteStarts = new int[spec.RowCount + 1];
        string?[] addedTexts = new string?[spec.RowCount];
        foreach (AddedToken token in spec.AddedTokens)
        {
            addedTexts[token.Id] = token.Text;
            _kinds[token.Id] = token.IsControl ? TokenKind.Control : TokenKind.UserDefined;
            _idOfAddedToken.Add(token.Text, token.Id);
        }

        _addedTokens = spec.AddedTokens.Length > 0 ? new AddedTokenMatcher(spec.AddedTokens) : null;
        _bytes = LayOutBytes(spec.Pieces, addedTexts);
        _merges = new MergeTable(FindByteIds(), spec.Merges);
    }

    /// <summary>The number of ids, padding rows included: every id is at least 0 and less than this.</summary>
    public int VocabularySize => _kinds.Length;

    /// <summary>The id that ends a message, where the file names one.</summary>
    public int? EosId { get; }

    /// <summary>The id that fills up batches, where the file names one.</summary>
    public int? PaddingId { get; }

    /// <summary>The id that begins a text, where the file names one; the family has none, and none is added.</summary>
    public int? BosId { get; }

    private enum TokenKind : byte
    {
        Undefined,
        Ordinary,
        UserDefined,
        Control,
    }

    /// <summary>Encodes a text.</summary>
    /// <param name="text">Any UTF-16 text; each lone surrogate is read as U+FFFD.</param>
    /// <param name="matchAddedTokens">
    /// Whether the text's <c>&lt;|im_end|&gt;</c> and the like become added tokens. Leave it off for text from users, which must not control the model.
    /// </param>
    /// <returns>The token ids.</returns>
    public int[] Encode(string text, bool matchAddedTokens = false)
    {
        var ids = new List<int>((text.Length / 3) + 4);
        Encode(text, matchAddedTokens, ids);
        return [.. ids];
    }

    /// <summary>Encodes a text, appending to a list.</summary>
    /// <param name="text">Any UTF-16 text; each lone surrogate is read as U+FFFD.</param>
    /// <param name="matchAddedTokens">Whether the text's spellings of added tokens become those tokens.</param>
    /// <param name="destination">Receives the ids.</param>
    /// <returns>The number of ids appended.</returns>
    public int Encode(ReadOnlySpan<char> text, bool matchAddedTokens, List<int> destination)
    {
        int countBefore = destination.Count;
        if (matchAddedTokens && _addedTokens is not null)
        {
            while (_addedTokens.TryFind(text, out int start, out int length, out int id))
            {
                EncodeOrdinary(text[..start], destination);
                destination.Add(id);
                text = text[(start + length)..];
            }
        }

        EncodeOrdinary(text, destination);
        return destination.Count - countBefore;
    }

    // The first added token spelled in a text; false when there is none.
    internal bool TryFindAddedToken(ReadOnlySpan<char> text, out int start, out int length, out int id)
    {
        start = length = id = 0;
        return _addedTokens is not null && _addedTokens.TryFind(text, out start, out length, out id);
    }

    /// <summary>Decodes ids to text.</summary>
    /// <param name="ids">Token ids, each less than <see cref="VocabularySize"/>; undefined ones stand for nothing.</param>
    /// <param name="skipControlTokens">Whether to leave out control tokens such as <c>&lt;|im_end|&gt;</c>.</param>
    /// <returns>The text, with one U+FFFD for each maximal part that is not UTF-8.</returns>
    /// <exception cref="ArgumentOutOfRangeException">An id is outside the vocabulary.</exception>
    public string Decode(ReadOnlySpan<int> ids, bool skipControlTokens = false)
    {
        var bytes = new PooledList<byte>(4 * Math.Min(ids.Length, 1 << 20));
        try
        {
            foreach (int id in ids)
            {
                if (!skipControlTokens || !IsControl(id))
                {
                    bytes.AddRange(TokenBytes(id));
                }
            }

            return Encoding.UTF8.GetString(bytes.Span);
        }
        finally
        {
            bytes.Dispose();
        }
    }

    /// <summary>The bytes a token stands for; empty for an undefined id. A token may end inside a character.</summary>
    /// <param name="id">A token id.</param>
    /// <returns>The bytes, valid as long as the tokenizer lives.</returns>
    /// <exception cref="ArgumentOutOfRangeException">The id is outside the vocabulary.</exception>
    public ReadOnlySpan<byte> TokenBytes(int id)
    {
        CheckId(id);
        return _bytes.AsSpan(_byteStarts[id].._byteStarts[id + 1]);
    }

    /// <summary>Whether an id is a token; padding rows of the model are not, and must never be produced.</summary>
    /// <param name="id">A token id.</param>
    /// <returns>False for padding and unused rows.</returns>
    /// <exception cref="ArgumentOutOfRangeException">The id is outside the vocabulary.</exception>
    public bool IsDefined(int id)
    {
        CheckId(id);
        return _kinds[id] != TokenKind.Undefined;
    }

    /// <summary>Whether a token steers the model rather than being text, such as <c>&lt;|im_end|&gt;</c>.</summary>
    /// <param name="id">A token id.</param>
    /// <returns>True for control tokens; false for ordinary ones and for tool and thinking marks.</returns>
    /// <exception cref="ArgumentOutOfRangeException">The id is outside the vocabulary.</exception>
    public bool IsControl(int id)
    {
        CheckId(id);
        return _kinds[id] == TokenKind.Control;
    }

    // Whether a token stands for a literal text outside the byte-pair vocabulary: control tokens, and tool and thinking marks.
    internal bool IsAdded(int id)
    {
        CheckId(id);
        return _kinds[id] is TokenKind.UserDefined or TokenKind.Control;
    }

    /// <summary>Finds an added token by its text.</summary>
    /// <param name="text">The text, such as <c>&lt;think&gt;</c>.</param>
    /// <param name="id">The token's id.</param>
    /// <returns>False when the vocabulary has no such added token.</returns>
    public bool TryGetId(string text, out int id)
    {
        return _idOfAddedToken.TryGetValue(text, out id);
    }

    private void EncodeOrdinary(ReadOnlySpan<char> text, List<int> destination)
    {
        Span<int> scratch = stackalloc int[BytePairMerger.ScratchLength];
        while (!text.IsEmpty)
        {
            int windowLength = FindWindowEnd(text);
            ReadOnlySpan<char> window = text[..windowLength];
            text = text[windowLength..];
            if (!_normalizesToNfc || NfcNormalizer.IndexOfSuspect(window) < 0)
            {
                EncodeWindow(window, scratch, destination);
                continue;
            }

            var normalized = new PooledList<char>(windowLength);
            NfcNormalizer.Normalize(window, ref normalized);
            EncodeWindow(normalized.Span, scratch, destination);
            normalized.Dispose();
        }
    }

    private void EncodeWindow(ReadOnlySpan<char> window, Span<int> scratch, List<int> destination)
    {
        // The encoder replaces each lone surrogate by U+FFFD.
        byte[] rented = ArrayPool<byte>.Shared.Rent(Encoding.UTF8.GetByteCount(window));
        ReadOnlySpan<byte> bytes = rented.AsSpan(0, Encoding.UTF8.GetBytes(window, rented));
        for (int start = 0; start < bytes.Length;)
        {
            int end = _splitter.FindEnd(bytes, start);
            BytePairMerger.Encode(_merges, bytes[start..end], scratch, destination);
            start = end;
        }

        ArrayPool<byte>.Shared.Return(rented);
    }

    // Where the text can be cut without changing its tokens: between a line feed and a character that is not white space. No piece crosses from
    // one to the other, what follows does not depend on what stood before, and an ASCII character composes with nothing before it.
    private static int FindWindowEnd(ReadOnlySpan<char> text)
    {
        for (long length = WindowLength; length < text.Length; length *= 2)
        {
            int searched = (int)length;
            while (text[..searched].LastIndexOf('\n') is int feed and >= 0)
            {
                if (text[feed + 1] is > ' ' and < '\x7F')
                {
                    return feed + 1;
                }

                searched = feed;
            }
        }

        return text.Length;
    }

    private byte[] LayOutBytes(string?[] pieces, string?[] addedTexts)
    {
        int total = 0;
        for (int id = 0; id < pieces.Length; id++)
        {
            _byteStarts[id] = total;
            if (addedTexts[id] is { } text)
            {
                total = checked(total + Encoding.UTF8.GetByteCount(text));
            }
            else if (pieces[id] is { } piece)
            {
                _kinds[id] = TokenKind.Ordinary;
                total = checked(total + piece.Length);
            }
        }

        _byteStarts[^1] = total;
        var bytes = new byte[total];
        for (int id = 0; id < pieces.Length; id++)
        {
            Span<byte> target = bytes.AsSpan(_byteStarts[id].._byteStarts[id + 1]);
            if (addedTexts[id] is { } text)
            {
                Encoding.UTF8.GetBytes(text, target);
            }
            else if (pieces[id] is { } piece)
            {
                for (int i = 0; i < target.Length; i++)
                {
                    target[i] = (byte)ByteAlphabet.ByteOf(piece[i]);
                }
            }
        }

        return bytes;
    }

    private int[] FindByteIds()
    {
        var byteIds = new int[256];
        Array.Fill(byteIds, -1);
        for (int id = 0; id < _kinds.Length; id++)
        {
            if (_kinds[id] == TokenKind.Ordinary && TokenBytes(id) is [byte value])
            {
                byteIds[value] = id;
            }
        }

        int missing = Array.IndexOf(byteIds, -1);
        return missing < 0
            ? byteIds
            : throw new BadModelFileException($"The vocabulary has no token for the byte {missing}; a byte-level vocabulary has all 256. The file is damaged.");
    }

    private void CheckId(int id)
    {
        if ((uint)id >= (uint)_kinds.Length)
        {
            throw new ArgumentOutOfRangeException(nameof(id), id, $"Token ids are 0 to {_kinds.Length - 1}.");
        }
    }
}
