using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using Microsoft.Win32.SafeHandles;

namespace Qian.Weights;

// The digest that the hub publishes for a file, computed from what arrived: SHA-256 of the bytes, or git's SHA-1 of a header
// and the bytes.
internal static class BlobDigest
{
    private const int BufferBytes = 1 << 20;

    public static async Task<bool> MatchesAsync(SafeFileHandle data, string digest, Action<long> report, CancellationToken cancellation)
    {
        using var hash = IncrementalHash.CreateHash(digest.Length == HubFile.Sha256Digits ? HashAlgorithmName.SHA256 : HashAlgorithmName.SHA1);
        if (digest.Length != HubFile.Sha256Digits)
            hash.AppendData(Encoding.ASCII.GetBytes(string.Create(CultureInfo.InvariantCulture, $"blob {RandomAccess.GetLength(data)}\0")));
        byte[] buffer = new byte[BufferBytes];
        long position = 0;
        int count;
        while ((count = await RandomAccess.ReadAsync(data, buffer, position, cancellation)) > 0)
        {
            hash.AppendData(buffer, 0, count);
            position += count;
            report(count);
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset()) == digest;
    }
}
