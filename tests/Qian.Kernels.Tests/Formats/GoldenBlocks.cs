using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text.Json;

namespace Qian.Kernels.Tests.Formats;

// tests/data/goldens/blocks/blocks.safetensors: for each type 32 blocks of random bytes with sane scales, and the values that
// the `gguf` Python package reads from them.
internal static class GoldenBlocks
{
    private static readonly byte[] s_file = File.ReadAllBytes(Path.Combine(RepositoryRoot(), "tests/data/goldens/blocks/blocks.safetensors"));
    private static readonly int s_headerLength = (int)BinaryPrimitives.ReadInt64LittleEndian(s_file);
    private static readonly JsonElement s_header = JsonSerializer.Deserialize<JsonElement>(s_file.AsSpan(8, s_headerLength));

    public static ReadOnlySpan<byte> Blocks(WeightType type) => Tensor($"{type}.blocks");

    public static ReadOnlySpan<float> Values(WeightType type) => MemoryMarshal.Cast<byte, float>(Tensor($"{type}.values"));

    public static bool Has(WeightType type) => s_header.TryGetProperty($"{type}.blocks", out _);

    private static ReadOnlySpan<byte> Tensor(string name)
    {
        JsonElement offsets = s_header.GetProperty(name).GetProperty("data_offsets");
        int start = offsets[0].GetInt32();
        return s_file.AsSpan(8 + s_headerLength + start, offsets[1].GetInt32() - start);
    }

    private static string RepositoryRoot()
    {
        string? folder = AppContext.BaseDirectory;
        while (folder is not null && !File.Exists(Path.Combine(folder, "Qian.slnx")))
            folder = Path.GetDirectoryName(folder);
        return folder ?? throw new DirectoryNotFoundException("Qian.slnx was not found above the test's folder.");
    }
}
