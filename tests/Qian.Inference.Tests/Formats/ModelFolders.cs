using System.Text.Json.Nodes;
using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Inference.Tests.Formats;

internal sealed record StoredBytes(string Name, SafetensorsType Type, long[] Sizes, byte[] Bytes);

// Model folders and files made from the golden ones by changing tensors, names or keys.
internal static class ModelFolders
{
    public static string Dense { get; } = Path.Combine(GoldenFolders.Goldens, "text-dense-tiny");

    public static string Moe { get; } = Path.Combine(GoldenFolders.Goldens, "text-moe-tiny");

    public static string Mtp { get; } = Path.Combine(GoldenFolders.Goldens, "mtp-tiny");

    public static string Gguf { get; } = Path.Combine(GoldenFolders.Goldens, "gguf-tiny", "Q4_K_M.gguf");

    public static string Named(string golden) => Path.Combine(GoldenFolders.Goldens, golden);

    // `map` gives what takes a tensor's place: itself, another, several, nothing.
    public static void Rewrite(string source, string target, Func<StoredBytes, IEnumerable<StoredBytes>> map, Action<JsonObject>? changeConfig = null)
    {
        JsonObject config = JsonNode.Parse(File.ReadAllText(Path.Combine(source, "config.json")))!.AsObject();
        changeConfig?.Invoke(config);
        File.WriteAllText(Path.Combine(target, "config.json"), config.ToJsonString());
        using SafetensorsFile file = SafetensorsFile.Open(Path.Combine(source, "model.safetensors"));
        StoredBytes[] tensors = [.. file.Tensors.SelectMany(t => map(new StoredBytes(t.Name, t.Type, t.Sizes.ToArray(), t.Data.Span(0, (int)t.Data.Length).ToArray())))];
        using SafetensorsWriter writer = SafetensorsWriter.ToFolder(target, 1 << 20);
        foreach (StoredBytes tensor in tensors)
            writer.Declare(tensor.Name, tensor.Type, tensor.Sizes);
        foreach (StoredBytes tensor in tensors)
            writer.Write(tensor.Bytes);
        writer.Complete();
    }

    // A GGUF file again, with some keys left out, some added, some tensors left out or changed.
    public static void RewriteGguf(string source, string target, Func<string, bool> keepsKey, Action<GgufWriter> add, Func<GgufTensor, IEnumerable<(string Name, WeightType Type, long[] Sizes, byte[] Bytes)>> map)
    {
        using GgufFile file = GgufFile.Open(source);
        using var writer = new GgufWriter(target);
        foreach ((string key, GgufValue value) in file.Metadata)
        {
            if (keepsKey(key))
                writer.Add(key, value);
        }

        add(writer);
        (string Name, WeightType Type, long[] Sizes, byte[] Bytes)[] tensors = [.. file.Tensors.SelectMany(map)];
        foreach ((string name, WeightType type, long[] sizes, _) in tensors)
            writer.Declare(name, type, sizes);
        foreach ((_, _, _, byte[] bytes) in tensors)
            writer.Write(bytes);
        writer.Complete();
    }

    public static IEnumerable<(string Name, WeightType Type, long[] Sizes, byte[] Bytes)> Same(GgufTensor tensor)
    {
        yield return (tensor.Name, tensor.Type, tensor.Sizes.ToArray(), Bytes(tensor));
    }

    public static byte[] Bytes(GgufTensor tensor) => tensor.Data.Span(0, (int)tensor.Data.Length).ToArray();

    // All values of one tensor as the model would get them; null when there is none.
    public static float[]? Values(Checkpoint checkpoint, TensorRole role, int layer = -1, int expert = -1)
    {
        if (checkpoint.Find(role, layer, expert) is not { } source)
            return null;
        var values = new float[source.RowCount * source.ColumnCount];
        source.DecodeRows(0, source.RowCount, values);
        return values;
    }

    // The stored floats of a golden's tensor, untouched.
    public static float[] Stored(string folder, string name)
    {
        using SafetensorsFile file = SafetensorsFile.Open(Path.Combine(folder, "model.safetensors"));
        SafetensorsTensor tensor = file.Require(name);
        var values = new float[tensor.Data.Length / tensor.Type.ByteSize()];
        WeightFormat.Decode(tensor.Type.AsWeightType()!.Value, tensor.Data.Span(0, (int)tensor.Data.Length), values);
        return values;
    }

    // Every (role, layer, expert) that a model of this configuration has, a tied head left out.
    public static IEnumerable<(TensorRole Role, int Layer, int Expert)> Places(ModelConfig config)
    {
        foreach (TensorRole role in Enum.GetValues<TensorRole>())
        {
            for (int layer = -1; layer < config.LayerCount + config.MtpLayerCount; layer++)
            {
                if (!TensorShapes.Occurs(config, role, layer) || (role == TensorRole.Output && config.TiedEmbeddings))
                    continue;
                for (int expert = 0; expert < (TensorShapes.IsExpert(role) ? config.ExpertCount : 1); expert++)
                    yield return (role, layer, TensorShapes.IsExpert(role) ? expert : -1);
            }
        }
    }
}
