using System.Runtime.InteropServices;
using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Inference.Tests.Formats;

// What the writer writes, the reader reads: every value type, every tensor type, any alignment; and the writer's own promises.
public sealed class GgufFileTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(32)]
    [InlineData(4096)]
    public void EveryValueComesBack(int alignment)
    {
        using var folder = new TempFolder();
        string path = folder.File("a.gguf");
        using (var writer = new GgufWriter(path, alignment))
        {
            writer.Add("u32", uint.MaxValue);
            writer.Add("i32", -5);
            writer.Add("u64", 1UL << 40);
            writer.Add("i64", long.MinValue);
            writer.Add("f32", 1.5f);
            writer.Add("f64", double.MaxValue);
            writer.Add("yes", true);
            writer.Add("no", false);
            writer.Add("text", "naïve 千问 \0 end");
            writer.Add("empty", "");
            writer.Add("ints", [1, -2, 3]);
            writer.Add("uints", (ReadOnlySpan<uint>)[7, uint.MaxValue]);
            writer.Add("floats", [0.5f, float.NegativeInfinity]);
            writer.Add("bools", [true, false, true]);
            writer.Add("texts", ["", "a", "千"]);
            writer.Add("nothing", Array.Empty<string>());
            writer.Complete();
        }

        using GgufFile file = GgufFile.Open(path);
        Assert.Equal(3u, file.Version);
        Assert.Equal(uint.MaxValue, file.Integer("u32", 0, long.MaxValue));
        Assert.Equal(-5, file.Integer("i32", -9, 9));
        Assert.Equal(1L << 40, file.Integer("u64", 0, long.MaxValue));
        Assert.Equal(long.MinValue, file.Integer("i64", long.MinValue, 0));
        Assert.Equal(1.5, file.Number("f32", 0, 2));
        Assert.Equal(double.MaxValue, file.Number("f64", 0, double.MaxValue));
        Assert.Equal(-5, file.Number("i32", -9, 9));
        Assert.True(file.OptionalBool("yes"));
        Assert.False(file.OptionalBool("no"));
        Assert.Equal("naïve 千问 \0 end", file.Text("text"));
        Assert.Equal("", file.Text("empty"));
        Assert.Equal([1, -2, 3], file.OptionalIntegers("ints", 3)!);
        Assert.Equal([7, uint.MaxValue], file.OptionalIntegers("uints", 3)!);
        Assert.Equal([true, false, true], file.OptionalBools("bools", 3)!);
        Assert.Equal([true, true, true], file.OptionalBools("ints", 3)!);
        GgufValue floats = file.OptionalArray("floats", 2)!;
        Assert.True(floats.TryNumber(1, out double infinite));
        Assert.Equal(double.NegativeInfinity, infinite);
        GgufValue texts = file.OptionalStrings("texts")!;
        Assert.Equal(["", "a", "千"], [texts.StringAt(0), texts.StringAt(1), texts.StringAt(2)]);
        Assert.Equal(0, file.OptionalStrings("nothing")!.Count);
        Assert.Null(file.OptionalText("absent"));
        Assert.Equal(alignment == 32 ? 16 : 17, file.Metadata.Count);
    }

    [Fact]
    public void SmallIntegerTypesAndNestedArraysAreRead()
    {
        using var folder = new TempFolder();
        string path = folder.File("a.gguf");
        // v2 has the layout of v3.
        File.WriteAllBytes(path, new ByteBuilder().Header(0, 6, version: 2)
            .Key("u8", 0).Raw([200]).Key("i8", 1).Raw([200]).Key("u16", 2).Raw([1, 2]).Key("i16", 3).Raw([0, 128])
            .Key("nested", 9).U32(9).U64(2).U32(8).U64(1).Text("x").U32(0).U64(3).Raw([1, 2, 3])
            .Key("last", 4).U32(42).ToArray());
        using GgufFile file = GgufFile.Open(path);
        Assert.Equal([200, -56, 513, -32768, 42], new[] { "u8", "i8", "u16", "i16", "last" }.Select(key => file.Integer(key, -100000, 100000)));
        Assert.Equal(2, file.Metadata["nested"].Count);
    }

    [Theory]
    [InlineData("i32", "key 'i32': expected a string, found i32 -5")]
    [InlineData("text", "key 'text': expected an integer, found string 'x'")]
    [InlineData("big", "key 'big': expected a value from 0 to 10, found u64 18446744073709551615")]
    [InlineData("gone", "key 'gone' is missing")]
    [InlineData("list", "key 'list': expected an integer, found an array of 3 i32")]
    public void AWrongValueIsNamed(string key, string message)
    {
        using var folder = new TempFolder();
        string path = folder.File("a.gguf");
        using (var writer = new GgufWriter(path))
        {
            writer.Add("i32", -5);
            writer.Add("text", "x");
            writer.Add("big", ulong.MaxValue);
            writer.Add("list", [1, 2, 3]);
            writer.Complete();
        }

        using GgufFile file = GgufFile.Open(path);
        var error = Assert.Throws<BadModelFileException>(() => key == "i32" ? (object)file.Text(key) : file.Integer(key, 0, 10));
        Assert.Contains(message, error.Message);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(32)]
    [InlineData(256)]
    public void TensorsOfEveryTypeComeBack(int alignment)
    {
        using var folder = new TempFolder();
        string path = folder.File("a.gguf");
        var random = new Random(alignment);
        WeightType[] types = [.. Enum.GetValues<WeightType>().Where(WeightFormat.IsDefined)];
        var contents = new Dictionary<string, byte[]>();
        using (var writer = new GgufWriter(path, alignment))
        {
            for (int i = 0; i < types.Length; i++)
            {
                int columns = WeightFormat.BlockValues(types[i]) * random.Next(1, 4);
                long[] sizes = i % 3 == 0 ? [columns] : i % 3 == 1 ? [columns, 5] : [columns, 3, 2];
                writer.Declare($"t{i}", types[i], sizes);
                contents[$"t{i}"] = new byte[WeightFormat.RowBytes(types[i], columns) * sizes.Skip(1).Aggregate(1L, (a, b) => a * b)];
                random.NextBytes(contents[$"t{i}"]);
            }

            Assert.Equal(contents.Values.Sum(bytes => bytes.LongLength), writer.DeclaredBytes);
            foreach (byte[] bytes in contents.Values)
            {
                int half = random.Next(bytes.Length);
                writer.Write(bytes.AsSpan(0, half));
                writer.Write(bytes.AsSpan(half));
            }

            Assert.False(File.Exists(path));
            writer.Complete();
        }

        using GgufFile file = GgufFile.Open(path);
        Assert.Equal(types, file.Tensors.Select(tensor => tensor.Type));
        foreach (GgufTensor tensor in file.Tensors)
            Assert.Equal(contents[tensor.Name], tensor.Data.Span(0, (int)tensor.Data.Length).ToArray());
        Assert.False(File.Exists(path + ".part"));
    }

    [Fact]
    public void ValuesOfAnotherFileAreCopiedAsTheyAre()
    {
        using var folder = new TempFolder();
        using (var writer = new GgufWriter(folder.File("a.gguf")))
        {
            writer.Add("texts", ["one", "two"]);
            writer.Add("number", 0.1);
            writer.Complete();
        }

        using GgufFile first = GgufFile.Open(folder.File("a.gguf"));
        using (var writer = new GgufWriter(folder.File("b.gguf")))
        {
            foreach ((string key, GgufValue value) in first.Metadata)
                writer.Add(key, value);
            writer.Complete();
        }

        Assert.Equal(File.ReadAllBytes(folder.File("a.gguf")), File.ReadAllBytes(folder.File("b.gguf")));
    }

    [Fact]
    public void AnInterruptedWriterLeavesNothing()
    {
        using var folder = new TempFolder();
        using (var writer = new GgufWriter(folder.File("a.gguf")))
        {
            writer.Declare("t", WeightType.F32, 4);
            writer.Write(MemoryMarshal.AsBytes<float>([1, 2]));
            Assert.Throws<InvalidOperationException>(writer.Complete);
            Assert.Throws<InvalidOperationException>(() => writer.Write(new byte[9]));
            Assert.Throws<InvalidOperationException>(() => writer.Declare("late", WeightType.F32, 4));
            Assert.Throws<InvalidOperationException>(() => writer.Add("late", 1));
            Assert.NotEmpty(Directory.GetFiles(folder.Path));
        }

        Assert.Empty(Directory.GetFiles(folder.Path));
    }

    [Fact]
    public void NamesAreDeclaredOnce()
    {
        using var folder = new TempFolder();
        using var writer = new GgufWriter(folder.File("a.gguf"));
        writer.Add("k", 1);
        Assert.Throws<ArgumentException>(() => writer.Add("k", "2"));
        writer.Declare("t", WeightType.F32, 4);
        Assert.Throws<ArgumentException>(() => writer.Declare("t", WeightType.F32, 4));
        Assert.Throws<ArgumentException>(() => writer.Declare("q", WeightType.Q8_0, 33));
    }
}
