using System.Buffers.Binary;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;
using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Weights;

// Two digests that say whether an unfinished conversion may be gone on with: of the input files, and of everything else that
// decides the bytes of the output. An input of 55 GB is not read for this: its headers, sizes and times stand for it.
internal static class ConversionIdentity
{
    private static readonly string[] s_textEndings = [".json", ".jinja", ".txt"];

    public static string OfInput(Checkpoint checkpoint)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach ((string path, ByteView header) in checkpoint.Files)
        {
            AddFile(hash, path);
            hash.AppendData(header.Span(0, checked((int)header.Length)));
        }

        if (Directory.Exists(checkpoint.Path))
        {
            foreach (string path in Directory.GetFiles(checkpoint.Path).Where(path => s_textEndings.Contains(Path.GetExtension(path))).Order(StringComparer.Ordinal))
                AddFile(hash, path);
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    // Another build of this program may encode otherwise, and so may another tier of kernels.
    public static string OfOptions(ConversionRequest request, IReadOnlyList<PlannedTensor> tensors)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        Add(hash, $"{typeof(WeightFormat).Module.ModuleVersionId} {typeof(ConversionIdentity).Module.ModuleVersionId} {typeof(GgufWriter).Module.ModuleVersionId} {IsaTier.Products}");
        Add(hash, $"{request.ToFolder} {request.Mix.Name} {request.Mix.FileType} {request.Fast} {request.KeepMtp}");
        foreach (PlannedTensor tensor in tensors)
            Add(hash, $"{tensor.Name} {tensor.Type}");
        if (request.Importance is not { } matrix)
            return Convert.ToHexStringLower(hash.GetHashAndReset());
        Add(hash, $"{Path.GetFileName(matrix.SourcePath)} {string.Join('|', matrix.Datasets)} {matrix.ChunkCount}");
        foreach (ImportanceEntry entry in matrix.Entries)
        {
            Add(hash, entry.Name);
            hash.AppendData(MemoryMarshal.AsBytes<float>(entry.Sums));
            hash.AppendData(MemoryMarshal.AsBytes<float>(entry.Counts));
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    private static void AddFile(IncrementalHash hash, string path)
    {
        var info = new FileInfo(path);
        info = info.ResolveLinkTarget(returnFinalTarget: true) as FileInfo ?? info; // the cache's names are links
        Add(hash, string.Create(CultureInfo.InvariantCulture, $"{Path.GetFileName(path)} {info.Length} {info.LastWriteTimeUtc.Ticks}"));
    }

    // With its length, so that two texts never run together.
    private static void Add(IncrementalHash hash, string text)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(text);
        Span<byte> length = stackalloc byte[sizeof(int)];
        BinaryPrimitives.WriteInt32LittleEndian(length, bytes.Length);
        hash.AppendData(length);
        hash.AppendData(bytes);
    }
}
