using System.Buffers.Binary;
using System.Text;
using Qian.Kernels;

namespace Qian.Inference.Formats;

// The value types of GGUF metadata, numbered as in the file.
internal enum GgufValueType : uint
{
    UInt8 = 0,
    Int8 = 1,
    UInt16 = 2,
    Int16 = 3,
    UInt32 = 4,
    Int32 = 5,
    Float32 = 6,
    Bool = 7,
    String = 8,
    Array = 9,
    UInt64 = 10,
    Int64 = 11,
    Float64 = 12,
}

// One metadata value, left in the mapped file and decoded when asked for: a vocabulary of 250,000 strings costs one offset
// per string, not a string each. Valid while the file is open. `Bytes` is the value as stored (after its type id), so a
// writer can copy what it does not understand.
internal sealed class GgufValue
{
    private readonly long[]? _stringStarts; // for an array of strings: where each length field lies in Bytes

    public GgufValue(GgufValueType type, GgufValueType elementType, long count, ByteView bytes, long[]? stringStarts)
    {
        Type = type;
        ElementType = elementType;
        Count = count;
        Bytes = bytes;
        _stringStarts = stringStarts;
    }

    public GgufValueType Type { get; }

    // Of an array; Type itself otherwise.
    public GgufValueType ElementType { get; }

    // Elements of an array; 1 otherwise.
    public long Count { get; }

    public ByteView Bytes { get; }

    public bool IsArray => Type == GgufValueType.Array;

    // Bytes of one scalar; 0 for strings and arrays.
    public static int SizeOf(GgufValueType type) => type switch
    {
        GgufValueType.UInt8 or GgufValueType.Int8 or GgufValueType.Bool => 1,
        GgufValueType.UInt16 or GgufValueType.Int16 => 2,
        GgufValueType.UInt32 or GgufValueType.Int32 or GgufValueType.Float32 => 4,
        GgufValueType.UInt64 or GgufValueType.Int64 or GgufValueType.Float64 => 8,
        _ => 0,
    };

    // The UTF-8 of string `index` of an array, or of a lone string (index 0).
    public ReadOnlySpan<byte> StringBytes(long index = 0)
    {
        long start = IsArray ? _stringStarts![index] : 0;
        long length = BinaryPrimitives.ReadInt64LittleEndian(Bytes.Span(start, 8));
        return Bytes.Span(start + 8, checked((int)length));
    }

    // Invalid UTF-8 becomes U+FFFD: a published file with one odd byte in its template should still open.
    public string StringAt(long index = 0) => Encoding.UTF8.GetString(StringBytes(index));

    public bool TryInteger(long index, out long value)
    {
        value = 0;
        int size = SizeOf(ElementType);
        if (size == 0 || ElementType is GgufValueType.Bool or GgufValueType.Float32 or GgufValueType.Float64)
            return false;
        ReadOnlySpan<byte> bytes = Scalar(index, size);
        value = ElementType switch
        {
            GgufValueType.UInt8 => bytes[0],
            GgufValueType.Int8 => (sbyte)bytes[0],
            GgufValueType.UInt16 => BinaryPrimitives.ReadUInt16LittleEndian(bytes),
            GgufValueType.Int16 => BinaryPrimitives.ReadInt16LittleEndian(bytes),
            GgufValueType.UInt32 => BinaryPrimitives.ReadUInt32LittleEndian(bytes),
            GgufValueType.Int32 => BinaryPrimitives.ReadInt32LittleEndian(bytes),
            GgufValueType.Int64 => BinaryPrimitives.ReadInt64LittleEndian(bytes),
            _ => (long)Math.Min(BinaryPrimitives.ReadUInt64LittleEndian(bytes), long.MaxValue), // no range of ours reaches so far
        };
        return true;
    }

    // Floats of either width, and integers.
    public bool TryNumber(long index, out double value)
    {
        if (TryInteger(index, out long integer))
        {
            value = integer;
            return true;
        }
        value = 0;
        if (ElementType == GgufValueType.Float32)
            value = BinaryPrimitives.ReadSingleLittleEndian(Scalar(index, 4));
        else if (ElementType == GgufValueType.Float64)
            value = BinaryPrimitives.ReadDoubleLittleEndian(Scalar(index, 8));
        else
            return false;
        return true;
    }

    public bool TryBool(long index, out bool value)
    {
        value = ElementType == GgufValueType.Bool && Scalar(index, 1)[0] != 0;
        return ElementType == GgufValueType.Bool;
    }

    // For messages: "string 'x'", "u32 7", "an array of 464 string".
    public string Describe()
    {
        if (IsArray)
            return $"an array of {Count} {Spell(ElementType)}";
        if (Type == GgufValueType.String)
        {
            ReadOnlySpan<byte> text = StringBytes();
            return $"string {FileText.Quote(Encoding.UTF8.GetString(text[..Math.Min(text.Length, 1024)]))}";
        }
        if (TryBool(0, out bool truth))
            return truth ? "bool true" : "bool false";
        if (Type == GgufValueType.UInt64)
            return $"u64 {BinaryPrimitives.ReadUInt64LittleEndian(Scalar(0, 8))}";
        if (TryInteger(0, out long integer))
            return $"{Spell(Type)} {integer}";
        TryNumber(0, out double number);
        return FormattableString.Invariant($"{Spell(Type)} {number}");
    }

    private static string Spell(GgufValueType type) => type switch
    {
        GgufValueType.UInt8 => "u8",
        GgufValueType.Int8 => "i8",
        GgufValueType.UInt16 => "u16",
        GgufValueType.Int16 => "i16",
        GgufValueType.UInt32 => "u32",
        GgufValueType.Int32 => "i32",
        GgufValueType.Float32 => "f32",
        GgufValueType.Float64 => "f64",
        GgufValueType.UInt64 => "u64",
        GgufValueType.Int64 => "i64",
        GgufValueType.Bool => "bool",
        GgufValueType.String => "string",
        _ => "array",
    };

    // An array's Bytes start with its element type and count.
    private ReadOnlySpan<byte> Scalar(long index, int size)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual((ulong)index, (ulong)Count, nameof(index));
        return Bytes.Span((IsArray ? 12 : 0) + index * size, size);
    }
}
