using System.Buffers.Binary;
using System.Text;

namespace Qian.Inference.Tests.Formats;

// Spells a GGUF file byte by byte, right or wrong, without the writer under test.
internal sealed class ByteBuilder
{
    private readonly MemoryStream _bytes = new();

    public byte[] ToArray() => _bytes.ToArray();

    public ByteBuilder Raw(ReadOnlySpan<byte> bytes)
    {
        _bytes.Write(bytes);
        return this;
    }

    public ByteBuilder U32(uint value)
    {
        Span<byte> bytes = stackalloc byte[4];
        BinaryPrimitives.WriteUInt32LittleEndian(bytes, value);
        return Raw(bytes);
    }

    public ByteBuilder U64(ulong value)
    {
        Span<byte> bytes = stackalloc byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, value);
        return Raw(bytes);
    }

    public ByteBuilder Text(string text) => U64((ulong)Encoding.UTF8.GetByteCount(text)).Raw(Encoding.UTF8.GetBytes(text));

    public ByteBuilder Header(ulong tensorCount, ulong keyCount, uint version = 3) => Raw("GGUF"u8).U32(version).U64(tensorCount).U64(keyCount);

    public ByteBuilder Key(string name, uint type) => Text(name).U32(type);

    // Type 0 is F32.
    public ByteBuilder Tensor(string name, ulong[] sizes, uint type, ulong offset)
    {
        Text(name).U32((uint)sizes.Length);
        foreach (ulong size in sizes)
            U64(size);
        return U32(type).U64(offset);
    }

    public ByteBuilder PadTo(int alignment)
    {
        while (_bytes.Length % alignment != 0)
            _bytes.WriteByte(0);
        return this;
    }
}
