using System.Buffers.Binary;
using System.Text;
using System.Text.Json;
using Qian.Inference.Formats;

namespace Qian.Inference.Tests.Formats;

// Safetensors out and in again, single and sharded; and every check of the reader by a header made to fail it.
public sealed class SafetensorsTests
{
    [Fact]
    public void TensorsOfEveryTypeComeBack()
    {
        using var folder = new TempFolder();
        string path = folder.File("a.safetensors");
        Dictionary<string, byte[]> contents = WriteAll(SafetensorsWriter.ToFile(path));
        using SafetensorsFile file = SafetensorsFile.Open(path);
        Assert.Equal(contents.Keys, file.Tensors.Select(tensor => tensor.Name));
        Assert.Equal("pt", file.Metadata["format"]);
        Assert.Equal("ümlaut", file.Metadata["note"]);
        foreach (SafetensorsTensor tensor in file.Tensors)
            Assert.Equal(contents[tensor.Name], tensor.Data.Span(0, (int)tensor.Data.Length).ToArray());
        Assert.Equal([2, 3, 5], file.Require("F32").Sizes.ToArray());
        Assert.Equal(0, BinaryPrimitives.ReadInt64LittleEndian(File.ReadAllBytes(path)) % 8);
        Assert.Contains("tensor 'none' is missing", Assert.Throws<BadModelFileException>(() => file.Require("none")).Message);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(200)]
    [InlineData(1 << 20)]
    public void ShardsHoldWhatTheIndexSays(long mostShardBytes)
    {
        using var folder = new TempFolder();
        Dictionary<string, byte[]> contents = WriteAll(SafetensorsWriter.ToFolder(folder.Path, mostShardBytes));
        string[] files = [.. Directory.GetFiles(folder.Path).Select(path => Path.GetFileName(path)).Order(StringComparer.Ordinal)];
        Assert.Equal(mostShardBytes > 10000 ? ["model.safetensors"] : [.. Enumerable.Range(1, files.Length - 1).Select(i => $"model-{i:d5}-of-{files.Length - 1:d5}.safetensors"), "model.safetensors.index.json"], files);
        using SafetensorsSet set = SafetensorsSet.OpenFolder(folder.Path);
        Assert.Equal(contents.Keys, set.Tensors.Select(tensor => tensor.Name));
        foreach (SafetensorsTensor tensor in set.Tensors)
            Assert.Equal(contents[tensor.Name], tensor.Data.Span(0, (int)tensor.Data.Length).ToArray());
        if (files.Length == 1)
            return;
        using JsonDocument index = JsonDocument.Parse(File.ReadAllText(folder.File("model.safetensors.index.json")));
        Assert.Equal(contents.Values.Sum(bytes => bytes.Length), index.RootElement.GetProperty("metadata").GetProperty("total_size").GetInt64());
        Assert.Equal(contents.Count, index.RootElement.GetProperty("weight_map").EnumerateObject().Count());
    }

    [Fact]
    public void AnInterruptedWriterLeavesNothing()
    {
        using var folder = new TempFolder();
        using (SafetensorsWriter writer = SafetensorsWriter.ToFolder(folder.Path, 8))
        {
            writer.Declare("a", SafetensorsType.F32, 2);
            writer.Declare("b", SafetensorsType.F32, 2);
            writer.Write(new byte[8]);
            writer.Write(new byte[4]);
            Assert.Throws<InvalidOperationException>(writer.Complete);
            Assert.Throws<InvalidOperationException>(() => writer.Write(new byte[5]));
            Assert.Equal(2, Directory.GetFiles(folder.Path).Length);
        }

        Assert.Empty(Directory.GetFiles(folder.Path));
    }

    [Theory]
    [InlineData("{\"t\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,12]}}", "tensor 't': F32 [4] takes 16 bytes, data_offsets give it 12")]
    [InlineData("{\"t\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[8,40]}}", "tensor 't': bytes 8 to 40 lie outside the 32 bytes of data")]
    [InlineData("{\"t\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[16,0]}}", "tensor 't': bytes 16 to 0")]
    [InlineData("{\"t\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0]}}", "tensor 't': needs dtype, shape and two data_offsets")]
    [InlineData("{\"t\":{\"dtype\":\"F32\",\"shape\":[4]}}", "tensor 't': needs dtype")]
    [InlineData("{\"t\":{\"dtype\":\"C64\",\"shape\":[4],\"data_offsets\":[0,16]}}", "tensor 't': dtype 'C64' is not supported")]
    [InlineData("{\"t\":{\"dtype\":7,\"shape\":[4],\"data_offsets\":[0,16]}}", "tensor 't': dtype '' is not supported")]
    [InlineData("{\"t\":{\"dtype\":\"F32\",\"shape\":[-4],\"data_offsets\":[0,16]}}", "tensor 't': shape must be at most 8 integers")]
    [InlineData("{\"t\":{\"dtype\":\"F32\",\"shape\":4,\"data_offsets\":[0,16]}}", "tensor 't': shape must be an array")]
    [InlineData("{\"t\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,4],\"data_offsets\":[0,16]}}", "tensor 't': shape must be at most 8")]
    [InlineData("{\"t\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296,4],\"data_offsets\":[0,16]}}", "tensor 't': shape [4294967296, 4294967296, 4] is too large")]
    [InlineData("{\"t\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16],\"x\":1}}", "tensor 't': unknown field 'x'")]
    [InlineData("{\"t\":[]}", "tensor 't': expected JSON StartObject, found StartArray")]
    [InlineData("{\"a\":{\"dtype\":\"U8\",\"shape\":[9],\"data_offsets\":[0,9]},\"b\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[8,16]}}", "tensors 'a' and 'b' overlap")]
    [InlineData("{\"t\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"t\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[2,3]}}", "tensor 't' occurs twice")]
    [InlineData("{\"__metadata__\":{\"a\":1}}", "__metadata__ 'a': expected JSON String")]
    [InlineData("[]", "the header: expected JSON StartObject")]
    [InlineData("{\"t\":", "not the JSON of a safetensors file")]
    [InlineData("{}x", "not the JSON of a safetensors file")]
    [InlineData("", "not the JSON of a safetensors file")]
    [InlineData("{\"\\ud800\":{}}", "not the JSON of a safetensors file")]
    [InlineData("{\"t\":{\"dtype\":\"F32\",\"shape\":[[[[[[[[[[[]]]]]]]]]]],\"data_offsets\":[0,16]}}", "tensor 't': shape must be")]
    [InlineData("{\"t\":{\"shape\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{}}}}}}}}}}", "tensor 't': shape must be an array")]
    public void TheMessageSaysWhatIsWrong(string header, string message)
    {
        using var folder = new TempFolder();
        string path = folder.File("hostile.safetensors");
        File.WriteAllBytes(path, Spell(header));
        Assert.Contains(message, Assert.Throws<BadModelFileException>(() => SafetensorsFile.Open(path)).Message);
    }

    [Theory]
    [InlineData(0, "0 bytes are too few")]
    [InlineData(7, "7 bytes are too few")]
    [InlineData(8, "the header claims 2 bytes, at most 0")]
    public void ShortFilesAreRefused(int length, string message)
    {
        using var folder = new TempFolder();
        string path = folder.File("short.safetensors");
        File.WriteAllBytes(path, Spell("{}")[..length]);
        Assert.Contains(message, Assert.Throws<BadModelFileException>(() => SafetensorsFile.Open(path)).Message);
    }

    [Fact]
    public void AHeaderLongerThanTheFileIsRefused()
    {
        using var folder = new TempFolder();
        string path = folder.File("long.safetensors");
        File.WriteAllBytes(path, [.. Enumerable.Repeat((byte)0xFF, 8), .. "{}"u8]);
        Assert.Contains("the header claims 18446744073709551615 bytes", Assert.Throws<BadModelFileException>(() => SafetensorsFile.Open(path)).Message);
    }

    [Theory]
    [InlineData("{\"weight_map\":{\"t\":\"../a.safetensors\"}}", "weight_map 't': expected the name of a .safetensors file in this folder, found '../a.safetensors'")]
    [InlineData("{\"weight_map\":{\"t\":\"/etc/a.safetensors\"}}", "weight_map 't': expected the name")]
    [InlineData("{\"weight_map\":{\"t\":\"a.bin\"}}", "weight_map 't': expected the name")]
    [InlineData("{\"weight_map\":{\"t\":5}}", "weight_map 't': expected the name")]
    [InlineData("{\"weight_map\":{\"t\":\"b.safetensors\"}}", "b.safetensors: this shard is missing")]
    [InlineData("{\"weight_map\":{\"u\":\"a.safetensors\"}}", "tensor 'u' is in the index but in none of its files")]
    [InlineData("{\"weight_map\":[]}", "'weight_map': expected an object, found an array of 0")]
    [InlineData("{}", "'weight_map' is missing")]
    [InlineData("[]", "expected a JSON object")]
    [InlineData("{\"weight_map\":{\"t\":\"a.safetensors\",\"t\":\"a.safetensors\"}}", "not valid JSON")]
    public void AWrongIndexIsNamed(string index, string message)
    {
        using var folder = new TempFolder();
        File.WriteAllBytes(folder.File("a.safetensors"), Spell("{\"t\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}"));
        File.WriteAllText(folder.File("model.safetensors.index.json"), index);
        Assert.Contains(message, Assert.Throws<BadModelFileException>(() => SafetensorsSet.OpenFolder(folder.Path)).Message);
    }

    // 32 bytes of data after the header.
    private static byte[] Spell(string header)
    {
        byte[] json = Encoding.UTF8.GetBytes(header);
        byte[] length = new byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(length, json.Length);
        return [.. length, .. json, .. new byte[32]];
    }

    private static Dictionary<string, byte[]> WriteAll(SafetensorsWriter writer)
    {
        var random = new Random(4);
        var contents = new Dictionary<string, byte[]>();
        using (writer)
        {
            writer.AddMetadata("note", "ümlaut");
            foreach (SafetensorsType type in Enum.GetValues<SafetensorsType>())
            {
                writer.Declare(type.Name(), type, 2, 3, 5);
                contents[type.Name()] = new byte[30 * type.ByteSize()];
                random.NextBytes(contents[type.Name()]);
            }

            writer.Declare("none of it", SafetensorsType.F32, 4, 0);
            contents["none of it"] = [];
            writer.Declare("scalar", SafetensorsType.F32);
            contents["scalar"] = [1, 2, 3, 4];
            foreach (byte[] bytes in contents.Values)
            {
                foreach (byte b in bytes)
                    writer.Write([b]);
            }

            writer.Complete();
        }

        return contents;
    }
}
