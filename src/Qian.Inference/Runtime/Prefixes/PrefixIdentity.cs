using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;
using Qian.Inference.Formats;
using Qian.Inference.Model;
using Qian.Kernels;

namespace Qian.Inference.Runtime;

// What a state on disk belongs to: everything that decides its bits or what its tokens mean. Weights, how they are held and
// multiplied, layout of the state, template; and adapter and scope for each root. A state of any other identity is never looked at.
internal static class PrefixIdentity
{
    private const long WholeFileBytes = 256L << 20;
    private const int SampleCount = 256;
    private const int SampleBytes = 4096;

    public static byte[] OfModel(LoadedModel model, EngineOptions options, string template)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        Add(hash, FormattableString.Invariant($"{PrefixFiles.FormatVersion} {IsaTier.Current} {options.KvType} {options.ExactArithmetic} {options.LoadAs} {options.Yarn} {model.Pool.Shape} {model.StateShape}"));
        Add(hash, template);
        foreach (string path in FilesOf(model.Checkpoint.Path, options.MtpPath))
            AddFile(hash, path);
        return hash.GetHashAndReset();
    }

    public static byte[] OfRoot(byte[] model, LowRankAdapter? adapter)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        hash.AppendData(model);
        adapter?.AddContent(hash);
        return hash.GetHashAndReset();
    }

    // Of an adapter's sum: what belongs to one scope of it.
    public static byte[] OfScope(byte[] root, string scope) => scope.Length == 0 ? root : SHA256.HashData([.. root, .. Encoding.UTF8.GetBytes(scope)]);

    // Of the first tokens of a text under a root: a name for what was computed from them.
    public static void AddTokens(IncrementalHash hash, ReadOnlySpan<int> tokens) => hash.AppendData(MemoryMarshal.AsBytes(tokens));

    private static void Add(IncrementalHash hash, string text) => hash.AppendData(Encoding.UTF8.GetBytes(text + "\0"));

    private static IEnumerable<string> FilesOf(string path, string? mtpPath)
    {
        IEnumerable<string> files = [path];
        if (Directory.Exists(path))
        {
            files = Directory.EnumerateFiles(path).Where(file => Path.GetExtension(file) is ".safetensors" or ".gguf" or ".json");
        }
        else
        {
            // All parts of a split set, and the MTP head's file beside.
            string folder = Path.GetDirectoryName(Path.GetFullPath(path))!, name = Path.GetFileName(path);
            int part = name.IndexOf("-00001-of-", StringComparison.Ordinal);
            if (part >= 0)
                files = Directory.EnumerateFiles(folder, name[..part] + "-*.gguf");
            if (File.Exists(Path.Combine(folder, "mtp-" + name)))
                files = files.Append(Path.Combine(folder, "mtp-" + name));
        }

        return (mtpPath is null ? files : files.Append(mtpPath)).Order(StringComparer.Ordinal);
    }

    // All of a small file; of a large one its head, pieces from everywhere, and when it was written.
    private static void AddFile(IncrementalHash hash, string path)
    {
        using FileStream file = File.OpenRead(path);
        long length = file.Length;
        hash.AppendData(BitConverter.GetBytes(length));
        if (length <= WholeFileBytes)
        {
            hash.AppendData(SHA256.HashData(file));
            return;
        }

        hash.AppendData(BitConverter.GetBytes(File.GetLastWriteTimeUtc(path).Ticks));
        var sample = new byte[SampleBytes];
        for (int i = 0; i < SampleCount; i++)
        {
            file.Position = (length - SampleBytes) / (SampleCount - 1) * i;
            file.ReadExactly(sample);
            hash.AppendData(sample);
        }
    }
}
