using System.Globalization;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;
using Qian.Inference.Formats;

namespace Qian.Training.Run;

// A short text that tells apart the models that an adapter can be trained over: names, types and shapes of all tensors, and the values
// of the norms, which no two trained models share. Reading all weights would cost a large model's load once more.
internal static class BaseFingerprint
{
    public static string Of(Checkpoint checkpoint)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (TensorSummary tensor in checkpoint.Tensors.OrderBy(tensor => tensor.Name, StringComparer.Ordinal))
            hash.AppendData(Encoding.UTF8.GetBytes(string.Create(CultureInfo.InvariantCulture, $"{tensor.Name} {tensor.TypeName} {string.Join(' ', tensor.Shape)}\n")));
        Append(hash, checkpoint.Require(TensorRole.OutputNorm));
        for (int layer = 0; layer < checkpoint.Config.LayerCount; layer++)
            Append(hash, checkpoint.Require(TensorRole.InputNorm, layer));
        return Convert.ToHexStringLower(hash.GetHashAndReset().AsSpan(0, 16));
    }

    private static void Append(IncrementalHash hash, TensorSource norm)
    {
        var values = new float[(long)norm.RowCount * norm.ColumnCount];
        norm.DecodeRows(0, norm.RowCount, values);
        hash.AppendData(MemoryMarshal.AsBytes(values.AsSpan()));
    }
}
