using System.Buffers.Binary;
using System.Text;
using Qian.Kernels;

namespace Qian.Inference.Formats;

// Walks the header of a GGUF file. Every read is checked against the end of the file, and the error says what was being
// read and where. Counts from the file are believed only as far as the bytes that are left could hold them, so no header
// can ask for more memory than a small multiple of its own size.
internal struct HeaderCursor
{
    private const ulong LongestString = 1 << 30;

    private static readonly UTF8Encoding s_strictUtf8 = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    private readonly ByteView _bytes;
    private readonly string _path;

    public HeaderCursor(ByteView bytes, string path)
    {
        _bytes = bytes;
        _path = path;
    }

    public long Position { get; private set; }

    public readonly long Remaining => _bytes.Length - Position;

    public readonly BadModelFileException Error(string problem) => new($"{_path}: {problem} (at byte {Position})");

    public ReadOnlySpan<byte> Bytes(int count, string what)
    {
        Need(count, what);
        ReadOnlySpan<byte> bytes = _bytes.Span(Position, count);
        Position += count;
        return bytes;
    }

    public uint UInt32(string what) => BinaryPrimitives.ReadUInt32LittleEndian(Bytes(4, what));

    public ulong UInt64(string what) => BinaryPrimitives.ReadUInt64LittleEndian(Bytes(8, what));

    // A count of things of at least `leastBytes` bytes each.
    public long Count(string what, int leastBytes)
    {
        ulong count = UInt64(what);
        if (count > (ulong)(Remaining / leastBytes))
            throw Error($"{what} of {count} is more than the {Remaining} bytes left in the file can hold; the file is damaged or cut short");
        return (long)count;
    }

    public void Skip(long count, string what)
    {
        Need(count, what);
        Position += count;
    }

    // Keys and names: short, and must be valid UTF-8 because everything else looks them up by their spelling.
    public string Name(string what, int longestBytes)
    {
        ulong length = UInt64(what);
        if (length > (ulong)longestBytes)
            throw Error($"{what} is {length} bytes long, at most {longestBytes} are allowed; the file is damaged");
        ReadOnlySpan<byte> bytes = Bytes((int)length, what);
        try
        {
            return s_strictUtf8.GetString(bytes);
        }
        catch (DecoderFallbackException)
        {
            throw Error($"{what} is not valid UTF-8; the file is damaged");
        }
    }

    // A string value is left where it is: most of them are tokens that only the tokenizer wants.
    public void SkipString(string what)
    {
        ulong length = UInt64(what);
        if (length > (ulong)Remaining)
            throw Error($"{what}: a string of {length} bytes, but only {Remaining} bytes are left in the file; the file is damaged or cut short");
        if (length > LongestString)
            throw Error($"{what}: a string of {length} bytes; at most {LongestString} are allowed");
        Position += (long)length;
    }

    private readonly void Need(long count, string what)
    {
        if (count > Remaining)
            throw Error($"the file ends inside {what}: {count} bytes expected, {Remaining} left; it is damaged or cut short");
    }
}
