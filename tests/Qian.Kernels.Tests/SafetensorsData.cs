using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text.Json;

namespace Qian.Kernels.Tests;

/// <summary>Reads the reference numbers under tests/data: whole tensors, as arrays. Trusts its files, which are ours.</summary>
internal sealed class SafetensorsData
{
    private readonly byte[] _bytes;
    private readonly JsonElement _header;
    private readonly int _dataStart;

    public SafetensorsData(params string[] pathBelowTestData)
    {
        _bytes = File.ReadAllBytes(Path.Combine([Root(), .. pathBelowTestData]));
        int headerBytes = checked((int)BinaryPrimitives.ReadUInt64LittleEndian(_bytes));
        _header = JsonDocument.Parse(_bytes.AsMemory(8, headerBytes)).RootElement;
        _dataStart = 8 + headerBytes;
    }

    public int[] Shape(string name) => [.. _header.GetProperty(name).GetProperty("shape").EnumerateArray().Select(d => d.GetInt32())];

    public float[] Floats(string name) => Values<float>(name, "F32");

    public double[] Doubles(string name) => Values<double>(name, "F64");

    public long[] Longs(string name) => Values<long>(name, "I64");

    private T[] Values<T>(string name, string type) where T : unmanaged
    {
        JsonElement tensor = _header.GetProperty(name);
        Assert.Equal(type, tensor.GetProperty("dtype").GetString());
        int start = tensor.GetProperty("data_offsets")[0].GetInt32(), end = tensor.GetProperty("data_offsets")[1].GetInt32();
        return MemoryMarshal.Cast<byte, T>(_bytes.AsSpan(_dataStart + start, end - start)).ToArray();
    }

    private static string Root()
    {
        for (DirectoryInfo? folder = new(AppContext.BaseDirectory); folder != null; folder = folder.Parent)
        {
            if (File.Exists(Path.Combine(folder.FullName, "Qian.slnx")))
                return Path.Combine(folder.FullName, "tests", "data");
        }

        throw new DirectoryNotFoundException($"no Qian.slnx above {AppContext.BaseDirectory}");
    }
}
