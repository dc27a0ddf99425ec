using System.Runtime.InteropServices;
using System.Text;
using Qian.Inference;
using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Weights;

// Importance matrices as llama.cpp publishes them. Today's form is a GGUF of type imatrix: per matrix NAME.in_sum2 [columns,
// matrices] and NAME.counts [1, matrices]. The older .dat form is a bare list of (name, calls, values), where a value is the mean
// square times the calls. Every number is checked: an encoder divides by their sums.
internal static class ImportanceFile
{
    private const string SumsSuffix = ".in_sum2";
    private const string CountsSuffix = ".counts";
    private const int LongestName = 4096;

    // Either form, told apart by its first bytes.
    public static ImportanceMatrix Read(string path)
    {
        if (!File.Exists(path))
            throw new BadModelFileException($"{path}: no such file.");
        Span<byte> magic = stackalloc byte[4];
        using (FileStream stream = File.OpenRead(path))
        {
            if (stream.ReadAtLeast(magic, magic.Length, throwOnEndOfStream: false) < magic.Length)
                throw new BadModelFileException($"{path}: {stream.Length} bytes are no importance matrix.");
        }

        return magic.SequenceEqual("GGUF"u8) ? ReadGguf(path) : ReadLegacy(path);
    }

    // A name that ends in .dat gets the older form.
    public static void Write(string path, ImportanceMatrix matrix)
    {
        if (Path.GetExtension(path).Equals(".dat", StringComparison.OrdinalIgnoreCase))
            WriteLegacy(path, matrix);
        else
            WriteGguf(path, matrix);
    }

    private static ImportanceMatrix ReadGguf(string path)
    {
        using GgufFile file = GgufFile.Open(path);
        if (file.OptionalText("general.type") is { } type && type != "imatrix")
            throw new BadModelFileException($"{path}: key 'general.type': expected 'imatrix', found {FileText.Quote(type)}; this is no importance matrix.");
        var datasets = new List<string>();
        if (file.OptionalStrings("imatrix.datasets") is { } stored)
        {
            for (int i = 0; i < Math.Min(stored.Count, 1000); i++)
                datasets.Add(stored.StringAt(i));
        }

        var matrix = new ImportanceMatrix
        {
            SourcePath = path,
            Datasets = datasets,
            ChunkCount = (int)(file.OptionalInteger("imatrix.chunk_count", 0, int.MaxValue) ?? 0),
            ChunkSize = (int)(file.OptionalInteger("imatrix.chunk_size", 0, int.MaxValue) ?? 0),
        };
        foreach (GgufTensor tensor in file.Tensors)
        {
            if (!tensor.Name.EndsWith(SumsSuffix, StringComparison.Ordinal))
                continue;
            string name = tensor.Name[..^SumsSuffix.Length];
            GgufTensor counts = file.Find(name + CountsSuffix) ?? throw file.MissingTensor(name + CountsSuffix);
            matrix.Add(Checked(new ImportanceEntry(name, Values(path, tensor), Values(path, counts)), path));
        }

        return matrix.Entries.Count > 0 ? matrix : throw new BadModelFileException($"{path}: no tensor NAME{SumsSuffix}; this is no importance matrix.");
    }

    private static float[] Values(string path, GgufTensor tensor)
    {
        if (tensor.Type != WeightType.F32 || tensor.ByteCount > int.MaxValue)
            throw new BadModelFileException($"{path}: tensor {FileText.Quote(tensor.Name)}: expected F32 values, found {WeightFormat.Name(tensor.Type)} of {tensor.ByteCount} bytes.");
        return MemoryMarshal.Cast<byte, float>(tensor.Data.Span(0, (int)tensor.ByteCount)).ToArray();
    }

    private static void WriteGguf(string path, ImportanceMatrix matrix)
    {
        using var writer = new GgufWriter(path);
        writer.Add("general.type", "imatrix");
        writer.Add("imatrix.datasets", matrix.Datasets);
        writer.Add("imatrix.chunk_count", (uint)matrix.ChunkCount);
        writer.Add("imatrix.chunk_size", (uint)matrix.ChunkSize);
        foreach (ImportanceEntry entry in matrix.Entries)
        {
            writer.Declare(entry.Name + SumsSuffix, WeightType.F32, entry.Sums.Length / entry.Counts.Length, entry.Counts.Length);
            writer.Declare(entry.Name + CountsSuffix, WeightType.F32, 1, entry.Counts.Length);
        }

        foreach (ImportanceEntry entry in matrix.Entries)
        {
            writer.Write(MemoryMarshal.AsBytes<float>(entry.Sums));
            writer.Write(MemoryMarshal.AsBytes<float>(entry.Counts));
        }

        writer.Complete();
    }

    // int count; then per entry: int length, name, int calls, int values, floats. Newer files append: int chunks, int length, dataset.
    private static ImportanceMatrix ReadLegacy(string path)
    {
        using MappedFile file = MappedFile.Open(path);
        var cursor = new HeaderCursor(file.View(0, file.Length), path);
        // The smallest entry is 16 bytes.
        int count = Count(ref cursor, "the number of entries", 1, cursor.Remaining / 16);
        var entries = new List<ImportanceEntry>();
        for (int i = 0; i < count; i++)
        {
            string name = Text(ref cursor, $"the name of entry {i}");
            string what = FileText.Quote(name);
            int calls = Count(ref cursor, $"the calls of {what}", 0, int.MaxValue);
            int valueCount = Count(ref cursor, $"the value count of {what}", 1, cursor.Remaining / sizeof(float));
            float[] sums = MemoryMarshal.Cast<byte, float>(cursor.Bytes(checked(valueCount * sizeof(float)), what)).ToArray();
            entries.Add(Checked(new ImportanceEntry(name, sums, [Math.Max(1, calls)]), path));
        }

        int chunkCount = 0;
        var datasets = new List<string>();
        if (cursor.Remaining >= 8)
        {
            chunkCount = Count(ref cursor, "the number of chunks", 0, int.MaxValue);
            datasets.Add(Text(ref cursor, "the dataset's name"));
        }

        var matrix = new ImportanceMatrix { SourcePath = path, ChunkCount = chunkCount, Datasets = datasets };
        entries.ForEach(matrix.Add);
        return matrix;
    }

    private static void WriteLegacy(string path, ImportanceMatrix matrix)
    {
        using var file = new PartialFile(path);
        Put(file, matrix.Entries.Count);
        foreach (ImportanceEntry entry in matrix.Entries)
        {
            int calls = (int)Math.Clamp(Math.Ceiling(entry.Counts.Max() / Math.Max(1, matrix.ChunkSize)), 1, int.MaxValue);
            Put(file, entry.Name);
            Put(file, calls);
            Put(file, entry.Sums.Length);
            var values = new float[entry.Sums.Length];
            int columns = entry.Sums.Length / entry.Counts.Length;
            for (int i = 0; i < values.Length; i++)
            {
                // What was never seen weighs 1, as the form's own writer has it.
                float rows = entry.Counts[i / columns];
                values[i] = (rows > 0 ? entry.Sums[i] / rows : 1) * calls;
            }

            file.Write(MemoryMarshal.AsBytes<float>(values));
        }

        Put(file, matrix.ChunkCount);
        Put(file, matrix.Datasets.Count > 0 ? matrix.Datasets[^1] : "");
        file.Commit();
    }

    private static int Count(ref HeaderCursor cursor, string what, int least, long most)
    {
        int value = (int)cursor.UInt32(what);
        return value >= least && value <= most ? value : throw cursor.Error($"{what} is {value}, between {least} and {Math.Max(least, most)} expected; this is no importance matrix, or it is damaged");
    }

    private static string Text(ref HeaderCursor cursor, string what) =>
        Encoding.UTF8.GetString(cursor.Bytes(Count(ref cursor, $"the length of {what}", 0, LongestName), what));

    private static void Put(PartialFile file, int value) => file.Write(BitConverter.GetBytes(value));

    private static void Put(PartialFile file, string text)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(text);
        Put(file, bytes.Length);
        file.Write(bytes);
    }

    private static ImportanceEntry Checked(ImportanceEntry entry, string path)
    {
        foreach (float[] values in (ReadOnlySpan<float[]>)[entry.Sums, entry.Counts])
        {
            foreach (float value in values)
            {
                if (!(value >= 0 && float.IsFinite(value)))
                    throw new BadModelFileException($"{path}: {FileText.Quote(entry.Name)} holds {value}; sums and counts are finite and not negative.");
            }
        }

        if (entry.Sums.Length % entry.Counts.Length != 0)
            throw new BadModelFileException($"{path}: {FileText.Quote(entry.Name)}: {entry.Sums.Length} sums do not fit {entry.Counts.Length} counts.");
        return entry;
    }
}
