using Qian.Inference.Formats;

namespace Qian.Inference.Tests.Formats;

// Every check of the GGUF reader, by a header made to fail exactly it; the message must say which tensor or key.
public sealed class GgufHostileTests
{
    private const ulong Huge = 0x7FFF_FFFF_FFFF_FFFF;

    public static TheoryData<string, string> Cases() => new()
    {
        { "empty", "the file ends inside the magic" },
        { "other", "not a GGUF file" },
        { "v1", "GGUF version 1; versions 2 and 3 are supported, so convert" },
        { "v9", "GGUF version 9" },
        { "big-endian", "big-endian" },
        { "cut", "the file ends inside the key count" },
        { "many-tensors", "the tensor count of 9223372036854775807 is more than" },
        { "many-keys", "the key count of 9223372036854775807 is more than" },
        { "long-key", "key number 0 is 70000 bytes long" },
        { "key-past-end", "the file ends inside key number 0" },
        { "key-not-utf8", "key number 0 is not valid UTF-8" },
        { "key-twice", "key 'k' occurs twice" },
        { "value-type", "key 'k': value type 13 is not defined" },
        { "string-past-end", "key 'k': a string of 9223372036854775807 bytes" },
        { "array-count", "the element count of key 'k' of 9223372036854775807 is more than" },
        { "array-type", "key 'k': value type 77 is not defined" },
        { "array-depth", "key 'k': arrays inside arrays" },
        { "alignment", "key 'general.alignment': expected a power of two" },
        { "alignment-type", "key 'general.alignment': expected a power of two" },
        { "no-dimensions", "tensor 't': 0 dimensions, expected 1 to 4" },
        { "five-dimensions", "tensor 't': 5 dimensions" },
        { "zero-size", "tensor 't': size 0 in dimension 1" },
        { "huge-size", "tensor 't': size 9223372036854775807 in dimension 0" },
        { "product", "tensor 't': size 65536 in dimension 2" },
        { "tensor-type", "tensor 't': type id 34 (TQ1_0) is not supported" },
        { "tensor-type-huge", "tensor 't': type id 4294967295 is not supported" },
        { "ragged-block", "tensor 't': rows of 33 values cannot be stored as Q8_0, whose blocks hold 32" },
        { "larger-than-file", "tensor 't': [1000, 1000] of F32 is 1000 rows of 4000 bytes, more than the whole file" },
        { "offset-alignment", "tensor 't': offset 8 is not a multiple of the alignment 32" },
        { "offset-outside", "tensor 't': its 16 bytes at offset 64 of the data lie outside the file" },
        { "offset-overflow", "tensor 't': its 16 bytes at offset 18446744073709551584" },
        { "overlap", "tensors 'a' and 'b' overlap" },
        { "tensor-twice", "tensor 't' occurs twice" },
        { "terminal", "key '\\u001b[2J' occurs twice" },
    };

    [Theory]
    [MemberData(nameof(Cases))]
    public void TheMessageSaysWhatIsWrong(string name, string message)
    {
        using var folder = new TempFolder();
        string path = folder.File("hostile.gguf");
        File.WriteAllBytes(path, Make(name));
        var error = Assert.Throws<BadModelFileException>(() => GgufFile.Open(path));
        Assert.Contains(message, error.Message);
        Assert.StartsWith(path, error.Message);
    }

    [Fact]
    public void EveryCutOfAGoodFileIsRefused()
    {
        using var folder = new TempFolder();
        string path = folder.File("cut.gguf");
        byte[] whole = Tensors(("a", [4], 0, 0), ("b", [4], 0, 32));
        File.WriteAllBytes(path, whole);
        GgufFile.Open(path).Dispose();
        for (int length = 0; length < whole.Length; length++)
        {
            File.WriteAllBytes(path, whole[..length]);
            Assert.Throws<BadModelFileException>(() => GgufFile.Open(path));
        }
    }

    [Fact]
    public void AFalseCountCostsNoMemory()
    {
        using var folder = new TempFolder();
        string path = folder.File("count.gguf");
        // 512 KiB of zeros can "hold" 65,536 empty strings, of which the first has a false length.
        byte[] bytes = [.. new ByteBuilder().Header(0, 1).Key("k", 9).U32(8).U64(65536).U64(Huge).ToArray(), .. new byte[1 << 19]];
        File.WriteAllBytes(path, bytes);
        long before = GC.GetAllocatedBytesForCurrentThread();
        Assert.Throws<BadModelFileException>(() => GgufFile.Open(path));
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 200_000);
    }

    private static byte[] Make(string name) => name switch
    {
        "empty" => [],
        "other" => "PK\u0003\u0004 and so on"u8.ToArray(),
        "v1" => new ByteBuilder().Header(0, 0, version: 1).ToArray(),
        "v9" => new ByteBuilder().Header(0, 0, version: 9).ToArray(),
        "big-endian" => new ByteBuilder().Header(0, 0, version: 0x0300_0000).ToArray(),
        "cut" => new ByteBuilder().Header(0, 0).ToArray()[..^1],
        "many-tensors" => new ByteBuilder().Header(Huge, 0).ToArray(),
        "many-keys" => new ByteBuilder().Header(0, Huge).ToArray(),
        "long-key" => Keys(b => b.U64(70000).Raw(new byte[80000])),
        "key-past-end" => Keys(b => b.U64(60000).Raw(new byte[100])),
        "key-not-utf8" => Keys(b => b.U64(2).Raw([0xC3, 0x28]).U32(0).Raw(new byte[9])),
        "key-twice" => new ByteBuilder().Header(0, 2).Key("k", 4).U32(1).Key("k", 4).U32(2).ToArray(),
        "value-type" => Keys(b => b.Key("k", 13).U64(0)),
        "string-past-end" => Keys(b => b.Key("k", 8).U64(Huge)),
        "array-count" => Keys(b => b.Key("k", 9).U32(4).U64(Huge)),
        "array-type" => Keys(b => b.Key("k", 9).U32(77).U64(0)),
        "array-depth" => Keys(b => Enumerable.Range(0, 8).Aggregate(b.Key("k", 9), (a, _) => a.U32(9).U64(1)).Raw(new byte[32])),
        "alignment" => Keys(b => b.Key("general.alignment", 4).U32(24)),
        "alignment-type" => Keys(b => b.Key("general.alignment", 8).Text("32")),
        "no-dimensions" => Tensors(("t", [], 0, 0)),
        "five-dimensions" => Tensors(("t", [1, 1, 1, 1, 1], 0, 0)),
        "zero-size" => Tensors(("t", [4, 0], 0, 0)),
        "huge-size" => Tensors(("t", [Huge], 0, 0)),
        "product" => Tensors(("t", [1, 65536, 65536], 0, 0)),
        "tensor-type" => Tensors(("t", [256], 34, 0)),
        "tensor-type-huge" => Tensors(("t", [256], uint.MaxValue, 0)),
        "ragged-block" => Tensors(("t", [33], 8, 0)),
        "larger-than-file" => Tensors(("t", [1000, 1000], 0, 0)),
        "offset-alignment" => Tensors(("t", [4], 0, 8)),
        "offset-outside" => Tensors(("t", [4], 0, 64)),
        "offset-overflow" => Tensors(("t", [4], 0, ulong.MaxValue - 31)),
        "overlap" => Tensors(("a", [12], 0, 0), ("b", [4], 0, 32)),
        "tensor-twice" => Tensors(("t", [4], 0, 0), ("t", [4], 0, 32)),
        "terminal" => new ByteBuilder().Header(0, 2).Key("\u001b[2J", 4).U32(1).Key("\u001b[2J", 4).U32(2).ToArray(),
        _ => throw new ArgumentOutOfRangeException(nameof(name), name, null),
    };

    private static byte[] Keys(Func<ByteBuilder, ByteBuilder> keys) => keys(new ByteBuilder().Header(0, 1)).ToArray();

    // 48 bytes of data: a tensor of four floats at 0 and another at 32.
    private static byte[] Tensors(params (string Name, ulong[] Sizes, uint Type, ulong Offset)[] tensors)
    {
        ByteBuilder bytes = new ByteBuilder().Header((ulong)tensors.Length, 0);
        foreach ((string name, ulong[] sizes, uint type, ulong offset) in tensors)
            bytes.Tensor(name, sizes, type, offset);
        return bytes.PadTo(32).Raw(new byte[48]).ToArray();
    }
}
