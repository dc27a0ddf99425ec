using System.Runtime.InteropServices;
using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Training.Model;

// Writes a trained model as a folder like the one it came from: the same tensor names, trained values in place of the old,
// everything else (a vision tower, say) copied byte for byte, configuration, tokenizer and template beside it. Files appear
// under their names when whole.
internal static class HuggingFaceFolder
{
    private const long MostShardBytes = 4L << 30;
    private const int PieceValues = 1 << 18;

    private static readonly string[] s_sideFiles =
    [
        "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "special_tokens_map.json",
        "added_tokens.json", "chat_template.jinja", "chat_template.json", "preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json",
    ];

    public static void Save(string sourceFolder, SafetensorsSet source, IReadOnlyDictionary<string, Parameter> trained, string folder, SavedType type)
    {
        Directory.CreateDirectory(folder);
        long byteCount = 0;
        using (SafetensorsWriter writer = SafetensorsWriter.ToFolder(folder, MostShardBytes))
        {
            foreach (SafetensorsTensor tensor in source.Tensors)
            {
                SafetensorsType stored = trained.TryGetValue(tensor.Name, out Parameter? parameter) ? TypeOf(parameter, type) : tensor.Type;
                writer.Declare(tensor.Name, stored, tensor.Sizes);
                byteCount += tensor.Data.Length / tensor.Type.ByteSize() * stored.ByteSize();
            }

            foreach (SafetensorsTensor tensor in source.Tensors)
            {
                if (trained.TryGetValue(tensor.Name, out Parameter? parameter))
                    WriteValues(writer, parameter.Value, TypeOf(parameter, type));
                else
                    Copy(writer, tensor.Data);
            }

            writer.Complete();
        }

        // An index of an earlier save, or of a source that is written over, would be believed before the one file just written.
        string index = Path.Combine(folder, "model.safetensors.index.json");
        if (byteCount <= MostShardBytes && File.Exists(index))
            File.Delete(index);
        CopySideFiles(sourceFolder, folder);
    }

    // The values of one tensor in a float type.
    private static void WriteValues(SafetensorsWriter writer, FloatView values, SafetensorsType type)
    {
        WeightType stored = type.AsWeightType()!.Value;
        var bytes = new byte[PieceValues * type.ByteSize()];
        for (long first = 0; first < values.Length; first += PieceValues)
        {
            int count = (int)Math.Min(PieceValues, values.Length - first);
            ReadOnlySpan<float> piece = values.Slice(first, count).Span;
            if (type == SafetensorsType.F32)
            {
                writer.Write(MemoryMarshal.AsBytes(piece));
                continue;
            }

            Span<byte> destination = bytes.AsSpan(0, count * type.ByteSize());
            WeightFormat.Encode(stored, piece, destination);
            writer.Write(destination);
        }
    }

    public static void CopySideFiles(string sourceFolder, string folder)
    {
        if (Path.GetFullPath(sourceFolder) == Path.GetFullPath(folder))
            return;
        foreach (string name in s_sideFiles)
        {
            string path = Path.Combine(sourceFolder, name);
            if (!File.Exists(path))
                continue;
            using var file = new PartialFile(Path.Combine(folder, name));
            file.Write(File.ReadAllBytes(path));
            file.Commit();
        }
    }

    private static SafetensorsType TypeOf(Parameter parameter, SavedType type) => type switch
    {
        SavedType.F32 => SafetensorsType.F32,
        SavedType.BF16 when parameter.IsMatrix || parameter.StoredType != SafetensorsType.F32 => SafetensorsType.BF16,
        _ => parameter.StoredType,
    };

    private static void Copy(SafetensorsWriter writer, ByteView data)
    {
        for (long first = 0; first < data.Length; first += PieceValues)
            writer.Write(data.Span(first, (int)Math.Min(PieceValues, data.Length - first)));
    }
}
