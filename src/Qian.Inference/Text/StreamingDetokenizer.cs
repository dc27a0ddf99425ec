using System.Buffers;
using System.Text;

namespace Qian.Inference.Text;

// Ids to text as they come, whole characters only: bytes of a character not yet complete (at most three) are held back, so a surrogate pair is
// never cut, and all that was emitted, with what Flush adds, equals Tokenizer.Decode of all ids. One per sequence; not for sharing.
internal sealed class StreamingDetokenizer
{
    private readonly Tokenizer _tokenizer;
    private readonly bool _skipsControlTokens;
    private byte[] _pending = new byte[64];
    private char[] _text = new char[64];
    private int _pendingCount;

    public StreamingDetokenizer(Tokenizer tokenizer, bool skipsControlTokens = false)
    {
        _tokenizer = tokenizer;
        _skipsControlTokens = skipsControlTokens;
    }

    // Whether bytes of an unfinished character are held back.
    public bool HasPending => _pendingCount > 0;

    // The characters this token completes, often none. The span is valid until the next call.
    public ReadOnlySpan<char> Append(int id)
    {
        if (_skipsControlTokens && _tokenizer.IsControl(id))
        {
            return [];
        }

        ReadOnlySpan<byte> bytes = _tokenizer.TokenBytes(id);
        int count = _pendingCount + bytes.Length;
        if (count > _pending.Length)
        {
            Array.Resize(ref _pending, 2 * count);
        }

        bytes.CopyTo(_pending.AsSpan(_pendingCount));
        int held = UnfinishedLength(_pending.AsSpan(0, count));
        ReadOnlySpan<char> text = DecodePending(count - held);
        _pending.AsSpan(count - held, held).CopyTo(_pending);
        _pendingCount = held;
        return text;
    }

    // U+FFFD for a character that was never finished; afterwards a new text may begin. The span is valid until the next call.
    public ReadOnlySpan<char> Flush()
    {
        ReadOnlySpan<char> text = DecodePending(_pendingCount);
        _pendingCount = 0;
        return text;
    }

    private ReadOnlySpan<char> DecodePending(int count)
    {
        // UTF-8 never has fewer bytes than UTF-16 has units, replacements included.
        if (count > _text.Length)
        {
            _text = new char[2 * count];
        }

        return _text.AsSpan(0, Encoding.UTF8.GetChars(_pending.AsSpan(0, count), _text));
    }

    // The bytes at the end that begin a character which more bytes could still finish.
    private static int UnfinishedLength(ReadOnlySpan<byte> bytes)
    {
        for (int length = 1; length <= Math.Min(3, bytes.Length); length++)
        {
            ReadOnlySpan<byte> tail = bytes[^length..];
            if ((tail[0] & 0xC0) != 0x80)
            {
                OperationStatus status = Rune.DecodeFromUtf8(tail, out _, out int consumed);
                return status == OperationStatus.NeedMoreData && consumed == length ? length : 0;
            }
        }

        return 0;
    }
}
