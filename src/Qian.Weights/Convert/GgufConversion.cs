using Qian.Inference;
using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Weights;

// A conversion's GGUF file. From a GGUF file the keys are carried over as they are, but for those that the conversion itself
// decides; from a Hugging Face folder they are written as llama.cpp's converter writes them.
internal static class GgufConversion
{
    private const string FileTypeKey = "general.file_type";
    private const string QuantizationKey = "general.quantization_version";

    public static void Write(Checkpoint checkpoint, ConversionRequest request, IReadOnlyList<PlannedTensor> tensors, ConversionJournal journal, Action<EncodedRows, bool> written, CancellationToken cancellation)
    {
        ModelConfig config = ConversionPlan.Config(checkpoint, request);
        ValueHeadMove move = ValueHeadMove.ToGguf(checkpoint.Config);
        var chunks = new List<Chunk>();
        foreach (PlannedTensor tensor in tensors)
        {
            for (int i = 0; i < tensor.Sources.Count; i++)
            {
                ImportanceRow? importance = WeightFormat.IsQuantized(tensor.Type) ? request.Importance?.Find(tensor.Name, tensor.ColumnCount, i, tensor.Sources.Count) : null;
                new EncodedMatrix(tensor.Name, tensor.Role, tensor.Sources[i], tensor.Type, move, importance, Map: null, request.Fast).AddTo(chunks);
            }
        }

        using var writer = new GgufWriter(request.OutputPath, isKept: true);
        if (checkpoint is GgufCheckpoint gguf)
            CopyKeys(writer, gguf, config, request.Mix.FileType);
        else
            WriteKeys(writer, checkpoint, config, request.Mix.FileType);
        if (request.Importance is { } matrix)
            WriteImportance(writer, matrix);
        foreach (PlannedTensor tensor in tensors)
            writer.Declare(tensor.Name, tensor.Type, tensor.GgufSizes);
        JournaledTensors.Write(writer, chunks, journal, request.ThreadCount, written, cancellation);
        writer.Complete();
    }

    private static void WriteKeys(GgufWriter writer, Checkpoint checkpoint, ModelConfig config, int fileType)
    {
        GgufMetadata.Write(writer, config, fileType);
        GgufMetadata.WriteSampling(writer, checkpoint.Generation.Sampling);
        if (checkpoint.LoadTokenizer() is { } tokenizer)
            GgufMetadata.WriteTokenizer(writer, tokenizer, checkpoint.ChatTemplate);
    }

    // What a split set, an alignment or an earlier importance matrix says about the file it came from says nothing about this one.
    private static void CopyKeys(GgufWriter writer, GgufCheckpoint checkpoint, ModelConfig config, int fileType)
    {
        string blockCountKey = config.Architecture + ".block_count", mtpKey = config.Architecture + ".nextn_predict_layers";
        foreach ((string key, GgufValue value) in checkpoint.Metadata)
        {
            bool replaced = key is FileTypeKey or QuantizationKey or "general.alignment"
                || key == blockCountKey || key == mtpKey
                || key.StartsWith("split.", StringComparison.Ordinal) || key.StartsWith("quantize.imatrix.", StringComparison.Ordinal)
                || IsPerLayerOfAnotherDepth(key, value, config);
            if (!replaced)
                writer.Add(key, value);
        }

        writer.Add(blockCountKey, (uint)(config.LayerCount + config.MtpLayerCount));
        if (config.MtpLayerCount > 0)
            writer.Add(mtpKey, (uint)config.MtpLayerCount);
        writer.Add(FileTypeKey, (uint)fileType);
        writer.Add(QuantizationKey, 2u);
        string recurrentKey = RecurrentKey(config);
        if (checkpoint.Metadata.TryGetValue(recurrentKey, out GgufValue? layers) && IsPerLayerOfAnotherDepth(recurrentKey, layers, config))
        {
            var recurrent = new bool[config.LayerCount + config.MtpLayerCount];
            for (int layer = 0; layer < config.LayerCount; layer++)
                recurrent[layer] = !config.FullAttentionLayers[layer];
            writer.Add(recurrentKey, recurrent);
        }
    }

    private static string RecurrentKey(ModelConfig config) => config.Architecture + ".attention.recurrent_layers";

    // The list of layer kinds counts the MTP layer, which may have come or gone.
    private static bool IsPerLayerOfAnotherDepth(string key, GgufValue value, ModelConfig config) =>
        key == RecurrentKey(config) && value.IsArray && value.Count != config.LayerCount + config.MtpLayerCount;

    private static void WriteImportance(GgufWriter writer, ImportanceMatrix matrix)
    {
        writer.Add("quantize.imatrix.file", Path.GetFileName(matrix.SourcePath));
        writer.Add("quantize.imatrix.dataset", matrix.Datasets.Count > 0 ? matrix.Datasets[0] : "");
        writer.Add("quantize.imatrix.entries_count", matrix.Entries.Count);
        writer.Add("quantize.imatrix.chunks_count", matrix.ChunkCount);
    }
}
