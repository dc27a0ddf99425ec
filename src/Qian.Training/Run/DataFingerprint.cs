using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;

namespace Qian.Training.Run;

// A short text that is the same for two runs exactly when their batches are: samples in their order, and how they are packed.
internal static class DataFingerprint
{
    public static string Of(IReadOnlyList<Sample> samples, PackingOptions packing)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        hash.AppendData(Encoding.UTF8.GetBytes(packing.ToString()));
        foreach (Sample sample in samples)
        {
            int length = sample.Tokens.Length;
            hash.AppendData(MemoryMarshal.AsBytes(new ReadOnlySpan<int>(in length)));
            hash.AppendData(MemoryMarshal.AsBytes(sample.Tokens.AsSpan()));
            hash.AppendData(MemoryMarshal.AsBytes(sample.Labels.AsSpan()));
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset().AsSpan(0, 16));
    }
}
