using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Inference.Tests;

// A GGUF file written once more with something changed: how a test breaks a good one in exactly one way.
internal sealed class GgufRewrite
{
    public Func<GgufTensor, string> Name { get; init; } = tensor => tensor.Name;

    public Func<GgufTensor, WeightType> Type { get; init; } = tensor => tensor.Type;

    public Func<GgufTensor, long[]> Sizes { get; init; } = tensor => tensor.Sizes.ToArray();

    // May change the bytes in place, or give others of the declared type.
    public Func<GgufTensor, byte[], byte[]> Bytes { get; init; } = (_, bytes) => bytes;

    // True when it has written the key itself.
    public Func<GgufWriter, string, bool> Key { get; init; } = (_, _) => false;

    public void Write(string source, string destination)
    {
        using GgufFile file = GgufFile.Open(source);
        using var writer = new GgufWriter(destination);
        foreach ((string key, GgufValue value) in file.Metadata)
        {
            if (!Key(writer, key))
                writer.Add(key, value);
        }

        foreach (GgufTensor tensor in file.Tensors)
            writer.Declare(Name(tensor), Type(tensor), Sizes(tensor));
        foreach (GgufTensor tensor in file.Tensors)
            writer.Write(Bytes(tensor, tensor.Data.Span(0, (int)tensor.ByteCount).ToArray()));
        writer.Complete();
    }

    // Changes the values of the tensors whose name ends so, as F32 bytes.
    public static Func<GgufTensor, byte[], byte[]> Values(Func<string, bool> which, Func<float, float> map) => (tensor, bytes) =>
    {
        if (!which(tensor.Name))
            return bytes;
        var values = new float[bytes.Length / sizeof(float)];
        Buffer.BlockCopy(bytes, 0, values, 0, bytes.Length);
        values = Array.ConvertAll(values, value => map(value));
        Buffer.BlockCopy(values, 0, bytes, 0, bytes.Length);
        return bytes;
    };
}
